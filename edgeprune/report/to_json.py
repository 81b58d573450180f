"""`report.json`: the report's records as they are, under a schema version."""

from __future__ import annotations

import json
from dataclasses import asdict

from edgeprune.report.records import SCHEMA_VERSION, Report


def render(report: Report) -> bytes:
    """The whole report as indented UTF-8 JSON; NaN and infinity are refused with `ValueError`."""
    content = {"schema_version": SCHEMA_VERSION, **asdict(report)}
    return (json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n").encode()
