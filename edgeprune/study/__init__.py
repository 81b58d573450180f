"""Comparing methods: a study is a grid of methods, sparsities and seeds under one budget, and the table made of it.

plan     STUDY.toml, its cells, and the recipe of each
results  one small JSON file for each finished cell: all that a study has to keep
trial    one cell, and what the cells of a seed share: teacher, dense start, the teacher's answers
pool     worker processes, which end with this one
summary  means, deviations, paired differences
to_json, to_markdown, to_svg
conduct  START HERE: what `edgeprune study` does
"""
