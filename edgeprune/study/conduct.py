"""START HERE. A study: what its cells share is provided once, then cells run side by side, each kept as it ends.

Everything is told from the cells' files: a study goes on wherever these are, in another session or on another machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeprune.progress import Progress, Tick
from edgeprune.recipe import Recipe
from edgeprune.rundir import RunDir
from edgeprune.study import to_json, to_markdown, to_svg
from edgeprune.study.plan import Cell, Plan, fingerprint, read_plan, shared_name, shared_recipe
from edgeprune.study.pool import Event, Job, Pool
from edgeprune.study.results import Finished, Row, rows
from runtimes.errors import UserError
from runtimes.files import write_bytes, write_json, write_text
from runtimes.tables import pick


@dataclass(frozen=True)
class Asked:
    """What a call of `edgeprune study` asks for beside the study itself."""

    runs: Path | None = None  # where run folders are; None: runs/studies/<name>
    only: tuple[str, ...] = ()  # METHOD, METHOD@SPARSITY or @SPARSITY
    limit: int | None = None  # cells in this session
    workers: int | None = None  # cells at once; None: the study's
    again: bool = False  # failed cells, too


@dataclass(frozen=True)
class Outcome:
    """What a session wrote, and each job that broke on a bug of ours: its name, what happened, and where to read on."""

    written: tuple[Path, ...]
    lost: tuple[str, ...]


def conduct(where: str, places: Mapping[str, Any], asked: Asked, progress: Progress) -> Outcome:
    """Run the cells of a study that have no result yet, and write study.json, study.md and accuracy.svg after each."""
    plan = read_plan(where, places)
    runs = asked.runs or Path("runs") / "studies" / plan.study.name
    with RunDir(runs).locked():
        found = rows(plan)
        for row in found:
            if row.state == "outdated":
                _say(f"{row.cell.name} has a result of another recipe ({row.note}): it counts as not run")
        session = _Session(plan, runs, to_do(found, asked))
        if session.cells:
            session.work(_workers(plan, asked), progress)
        return Outcome(tuple(write(plan)), tuple(session.lost))


def overview(where: str, asked: Asked) -> list[str]:
    """A line for each cell with how it stands, and whether a call with these wishes would run it."""
    found = rows(read_plan(where))
    next_ones = set(to_do(found, asked))
    width = max(len(row.cell.name) for row in found)
    return [f"{row.cell.name:{width}}  {_standing(row)}{', next' if row.cell in next_ones else ''}" for row in found]


def to_do(found: Sequence[Row], asked: Asked) -> list[Cell]:
    """The cells to run now: those wished for without a result of the present recipe, up to the limit."""
    wished = _wished([row.cell for row in found], asked.only)
    done = ("done",) if asked.again else ("done", "failed")
    return [row.cell for row in found if row.cell in wished and row.state not in done][: asked.limit]


def write(plan: Plan) -> list[Path]:
    """Write the study's three files from its cells as they stand."""
    found, folder = rows(plan), plan.folder
    write_json(folder / "study.json", to_json.render(plan, found))
    write_text(folder / "study.md", to_markdown.render(plan, found))
    write_bytes(folder / "accuracy.svg", to_svg.render(plan, found))
    return [folder / name for name in ("study.json", "study.md", "accuracy.svg")]


@dataclass
class _Session:
    """The cells of one call, from the first shared network to the last result."""

    plan: Plan
    runs: Path
    cells: list[Cell]
    lost: list[str] = field(default_factory=list)

    def work(self, workers: int, progress: Progress) -> None:
        """Provide what is shared, then run the cells. Raises the `UserError` of what no cell could do without.

        Threads follow from the workers that are wanted, not from the cells that are left: a session of one cell gives
        the same bytes as one of many.
        """
        threads, workers = max(1, cores() // workers), min(workers, len(self.cells))
        recipes = {cell: _with_threads(self.plan.recipes[cell], threads) for cell in self.cells}
        with Pool(workers, self.runs / "logs") as pool:
            with progress.step(f"{self.plan.study.name}: shared networks", 1, 2) as shown:
                self._teach(pool, recipes.values(), shown.tick)
            trials = [self._trial(cell, recipe, workers) for cell, recipe in recipes.items() if self._taught(recipe)]
            with progress.step(f"{self.plan.study.name}: cells", 2, 2) as shown:
                self._try(pool, trials, shown.tick)

    def _teach(self, pool: Pool, recipes: Iterable[Recipe], tick: Tick) -> None:
        from edgeprune.study.trial import Teaching

        shared = {shared_name(recipe): shared_recipe(recipe) for recipe in recipes}
        jobs = [Teaching(recipe, self.runs / name) for name, recipe in shared.items()]
        for event in _shown(pool.perform(jobs), jobs, tick):
            self._keep(event, jobs[event.job])

    def _taught(self, recipe: Recipe) -> bool:
        return RunDir(self.runs / shared_name(recipe)).done("teach")

    def _trial(self, cell: Cell, recipe: Recipe, workers: int) -> Any:
        from edgeprune.study.trial import Trial

        folder = self.runs / f"{cell.name}-{fingerprint(recipe)[:8]}"
        return Trial(cell, recipe, folder, self.runs / shared_name(recipe), self.plan.result(cell), workers)

    def _try(self, pool: Pool, trials: Sequence[Any], tick: Tick) -> None:
        for event in _shown(pool.perform(trials), trials, tick):
            self._keep(event, trials[event.job])
            _say(f"{trials[event.job].name}: {self._told(event, trials[event.job].cell)}")
            write(self.plan)

    def _keep(self, event: Event, job: Job) -> None:
        if event.kind == "refused":
            raise UserError(event.told, event.hint)
        if event.kind == "lost":
            self.lost.append(f"{job.name}: {event.told} (see {event.hint})")

    def _told(self, event: Event, cell: Cell) -> str:
        if event.kind == "lost":
            return event.told
        return next(_standing(row) for row in rows(self.plan) if row.cell == cell)


def _shown(events: Iterable[Event], jobs: Sequence[Job], tick: Tick) -> Iterator[Event]:
    """The events that end a job; what the others tell goes to `tick`, with how many have ended."""
    ended, notes = 0, dict[int, str]()
    tick(0, len(jobs), "starting")
    for event in events:
        notes[event.job] = f"{jobs[event.job].name}: {event.told}"
        if event.kind != "at work":
            ended, _ = ended + 1, notes.pop(event.job)
            yield event
        tick(ended, len(jobs), "; ".join(notes.values()) or "at work")


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _workers(plan: Plan, asked: Asked) -> int:
    """Cells at once: what was asked for, else what the study says; "auto" is one on a GPU and one a core on a CPU."""
    wanted = asked.workers or plan.study.workers
    if wanted != "auto":
        return wanted
    from edgeprune.optimise import device_of

    return 1 if device_of(next(iter(plan.recipes.values())).train).type == "cuda" else cores()


def _with_threads(recipe: Recipe, threads: int) -> Recipe:
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"threads": threads})})


def _wished(cells: Sequence[Cell], only: Sequence[str]) -> set[Cell]:
    """The cells that one of `only` names, all where there is none; what names no cell is a `UserError`."""
    if not only:
        return set(cells)
    named: dict[str, list[Cell]] = {}
    for cell in cells:
        for text in (cell.method, f"@{cell.sparsity:g}", f"{cell.method}@{cell.sparsity:g}", cell.name):
            named.setdefault(text, []).append(cell)
    return {cell for text in only for cell in pick(named, text, "cells")}


def _standing(row: Row) -> str:
    if isinstance(row.result, Finished):
        seconds = row.result.wall_clock_s.prune + row.result.wall_clock_s.retrain
        return f"{row.result.test_top1:.2f} % in {seconds:.0f} s"
    return f"{row.state}: {row.note}" if row.note else row.state


def _say(line: str) -> None:
    """A line that stays, beside the bar where there is one."""
    print(line, file=sys.stderr, flush=True)
