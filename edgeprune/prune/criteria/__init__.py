"""Importance criteria: one paper, one file, `(w, signals) -> scores` of the weight's shape; larger is kept."""
