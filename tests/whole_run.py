"""The quickstart in small, from recipe to report: how tests start it, and what they know of the run that they share."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import call
from toys import QUICK


@dataclass(frozen=True)
class Run:
    """A run that nobody interrupted, and how long it took."""

    folder: Path
    seconds: float

    def json(self, name: str) -> Any:
        """One of its JSON files."""
        return json.loads((self.folder / name).read_text())


def succeed(*arguments: object, says: Path) -> tuple[str, str]:
    """Standard output and standard error of a call of `edgeprune` that has to end well."""
    code, out, err = call(*arguments, says=says).wait()
    assert code == 0, err
    return out, err


def quickstart(out: Path) -> tuple[object, ...]:
    """The words that run it into the folder `out`."""
    return ("run", "quickstart", "--out", out, *QUICK)


def run_it(folder: Path) -> Run:
    """Run it into `folder`/run."""
    started = time.perf_counter()
    succeed(*quickstart(folder / "run"), says=folder / "says")
    return Run(folder / "run", time.perf_counter() - started)


def stamps(folder: Path) -> dict[str, int]:
    """When each file below `folder` was last written."""
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}
