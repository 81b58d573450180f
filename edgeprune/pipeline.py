"""START HERE. A run is these steps in this order; each reads the folders before it and writes its own.

    recipe -> 0-teacher -> 1-prune -> 2-retrain -> 3-export -> 4-compile -> 5-measure -> 6-report

A finished step is not repeated, an interrupted one resumes or starts over, and both end with the same bytes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.inputs import hashes
from edgeprune.progress import Progress, Tick
from edgeprune.recipe import Recipe
from edgeprune.rundir import RunDir
from runtimes.tables import resolve

if TYPE_CHECKING:
    from edgeprune.workbench import Workbench

# verb -> the step's function: (bench, tick) -> the files it wrote
STEPS = {
    "teach": "edgeprune.steps.teach:teach",
    "prune": "edgeprune.steps.prune:prune",
    "retrain": "edgeprune.steps.retrain:retrain",
    "export": "edgeprune.steps.export:export",
    "compile": "edgeprune.steps.compile:compile",
    "measure": "edgeprune.steps.measure:measure",
    "report": "edgeprune.steps.report:report",
}


def run(recipe: Recipe, folder: Path, progress: Progress, *, until: str = "report") -> RunDir:
    """Do every step up to `until` that is not done yet, in `folder`. Raises `UserError`; what is finished is kept."""
    rundir = RunDir(folder)
    with rundir.locked():
        rundir.adopt(recipe)
        rundir.hold_to(hashes(recipe))
        bench: Workbench | None = None
        for number, step in enumerate(STEPS, start=1):
            with progress.step(step, number, len(STEPS)) as report:
                if rundir.done(step):
                    report.skipped()
                else:
                    bench = bench or workbench(recipe, rundir)
                    perform(step, bench, report.tick)
            if step == until:
                break
    return rundir


def workbench(recipe: Recipe, rundir: RunDir) -> Workbench:
    """What the steps share. It brings torch, which a finished run does not need."""
    from edgeprune.workbench import Workbench

    return Workbench(recipe, rundir)


def perform(step: str, bench: Workbench, tick: Tick) -> None:
    """One step: its folder made ready, its function called, its files marked as finished."""
    started = time.perf_counter()
    bench.run.begin(step)
    outputs = resolve(STEPS[step])(bench, tick)
    bench.run.complete(step, outputs, time.perf_counter() - started, bench.machine())
