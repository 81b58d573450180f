"""6-report: the run folder, told as report.json, report.md and report.html."""

from __future__ import annotations

from pathlib import Path

from edgeprune.progress import Tick
from edgeprune.report import write_report
from edgeprune.workbench import Workbench


def report(bench: Workbench, tick: Tick) -> list[Path]:
    """Write every report format from the files of the steps before."""
    return write_report(bench.run.path)
