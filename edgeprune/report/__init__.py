"""A report is made from the run folder's files alone: one record, three formats.

`collect` reads the folder into a `Report`; every format is a function `(Report) -> bytes` and one line in `FORMATS`.
Importing this package imports neither torch nor numpy.
"""

from __future__ import annotations

from pathlib import Path

from edgeprune.report.records import Report
from runtimes.files import write_bytes
from runtimes.tables import resolve

FORMATS = {
    "json": "edgeprune.report.to_json:render",  # for programs: everything, schema-versioned
    "md": "edgeprune.report.to_markdown:render",  # for a pull request
    "html": "edgeprune.report.to_html:render",  # for people: one file, no network
}


def write_report(run: Path) -> list[Path]:
    """Write `6-report/report.<format>` in the folder `run` for every format and return the paths.

    All formats are rendered before the first is written, and each file is replaced in one rename. A run folder that is
    missing or damaged raises `UserError`; steps that have not been run are named in the report instead.
    """
    from edgeprune.report.collect import collect

    return write_formats(collect(run), run)


def write_formats(report: Report, run: Path) -> list[Path]:
    """The same of a report that was collected already."""
    rendered = {run / "6-report" / f"report.{name}": resolve(address)(report) for name, address in FORMATS.items()}
    for path, content in rendered.items():
        write_bytes(path, content)
    return list(rendered)
