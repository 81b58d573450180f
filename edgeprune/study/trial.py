"""The two jobs of a study: what cells share, provided once, and one cell from the shared networks to its result."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune import pipeline
from edgeprune.layers import account
from edgeprune.optimise import top1
from edgeprune.progress import Step, Tick
from edgeprune.recipe import Recipe
from edgeprune.rundir import RunDir
from edgeprune.study.plan import Cell, fingerprint, settings
from edgeprune.study.results import Failed, Finished, Machine, Result, Seconds, write_result
from edgeprune.workbench import Workbench
from runtimes.errors import UserError
from runtimes.files import read_json, write_json
from runtimes.sampler import cpu_model

_LAST = "retrain"  # the step after which a cell is scored
_INTERRUPTED = "taken up after an interruption: its wall-clock lacks what was done before"


@dataclass(frozen=True)
class Teaching:
    """Provide teacher and dense start in the run folder `folder`, and score both on the test split."""

    recipe: Recipe
    folder: Path

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return self.folder.name

    def __call__(self, tick: Tick) -> None:
        """Do it, or find it done. Looks at the data in any case: what is missing is a `UserError` before any cell."""
        rundir = pipeline.run(self.recipe, self.folder, _Relay(tick), until="teach")
        bench = Workbench(self.recipe, rundir)
        outputs = read_json(rundir["teach"] / "completed.json")["outputs"]
        path, images = _scores(self.folder), len(bench.data.test)
        if path.is_file() and read_json(path)["outputs"] == outputs:
            return
        scores = {name: top1(model, bench.in_order(bench.data.test)) for name, _, model in bench.networks()}
        write_json(path, {"outputs": outputs, "images": images, "test_top1": scores})


@dataclass(frozen=True)
class Trial:
    """Prune and retrain `cell` in `folder` from what `shared` has, and write its result to `path`."""

    cell: Cell
    recipe: Recipe
    folder: Path
    shared: Path
    path: Path
    workers: int

    @property
    def name(self) -> str:
        """What it is called in logs."""
        return self.cell.name

    def __call__(self, tick: Tick) -> None:
        """Do it; a `UserError` on the way is a result too, "failed"."""
        result: Result
        try:
            result = self._finished(tick)
        except UserError as error:
            result = Failed(
                **self._told(Workbench(self.recipe, RunDir(self.folder))), message=self._without_places(error)
            )
        write_result(self.path, result)

    def _finished(self, tick: Tick) -> Finished:
        rundir = RunDir(self.folder)
        interrupted = _begun(rundir)
        adopt(RunDir(self.shared), rundir, self.recipe)
        pipeline.run(self.recipe, self.folder, _Relay(tick), until=_LAST)
        bench, dense = Workbench(self.recipe, rundir), read_json(_scores(self.shared))["test_top1"]
        model = bench.saved("student", rundir["retrain"] / "student.safetensors")
        scoring, history = read_json(rundir["prune"] / "scoring.json"), read_json(rundir["retrain"] / "history.json")
        counts, before = account(model, bench.masks(), scoring["reasons"]), scoring["validation_top1"]
        seen = scoring["student_images"] + sum(row["images"] for row in history)
        return Finished(
            **self._told(bench),
            test_top1=top1(model, bench.in_order(bench.data.test)),
            dense_test_top1=dense["dense"],
            teacher_test_top1=dense.get("teacher"),
            validation_top1_before=before,
            validation_top1_after=max((row["validation_top1"] for row in history), default=before),
            sparsity_achieved=counts.sparsity,
            sparsity_paper=counts.sparsity_paper,
            mask_sha256=scoring["mask_sha256"],
            wall_clock_s=Seconds(prune=_seconds(rundir, "prune"), retrain=_seconds(rundir, "retrain")),
            epochs_equivalent=seen / len(bench.data.train),
            start=_start(rundir),
            warnings=(*scoring["warnings"], *([_INTERRUPTED] if interrupted else [])),
        )

    def _told(self, bench: Workbench) -> dict[str, Any]:
        machine = bench.machine()
        if bench.device.type == "cpu":
            machine["device"] = str(cpu_model().value or "CPU")
        return {
            "method": self.cell.method,
            "sparsity": self.cell.sparsity,
            "seed": self.cell.seed,
            "recipe_sha256": fingerprint(self.recipe),
            "recipe": settings(self.recipe),
            "machine": Machine.model_validate({**machine, "workers": self.workers}),
        }

    def _without_places(self, error: UserError) -> str:
        """The message without the folders of this machine: results are read elsewhere."""
        return error.message.replace(f"{self.folder.parent}{os.sep}", "").replace(f"{Path.cwd()}{os.sep}", "")


def adopt(shared: RunDir, rundir: RunDir, recipe: Recipe) -> None:
    """Make the finished teach step of `shared` the one of `rundir`: the same files, with the machine that made them.

    Linked where the file system can do that, else copied. What is done already is left alone.
    """
    with rundir.locked():
        rundir.adopt(recipe)
        if rundir.done("teach"):
            return
        rundir.begin("teach")
        told = read_json(shared["teach"] / "completed.json")
        outputs = [rundir["teach"] / name for name in told["outputs"]]
        for path in outputs:
            path.unlink(missing_ok=True)
            _link(shared["teach"] / path.name, path)
        rundir.complete("teach", outputs, told["seconds"], told["machine"])


def _link(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, path)


def _start(rundir: RunDir) -> dict[str, str]:
    outputs = read_json(rundir["teach"] / "completed.json")["outputs"]
    return {name: outputs[f"{name}.safetensors"] for name in ("dense", "teacher") if f"{name}.safetensors" in outputs}


def _scores(shared: Path) -> Path:
    return shared / "test.json"


def _begun(rundir: RunDir) -> bool:
    """Whether a step of this cell was left unfinished by a process that is no more."""
    return any(
        rundir[step].is_dir() and any(rundir[step].iterdir()) and not (rundir[step] / "completed.json").is_file()
        for step in ("prune", _LAST)
    )


def _seconds(rundir: RunDir, step: str) -> float:
    return float(read_json(rundir[step] / "completed.json")["seconds"])


@dataclass(frozen=True)
class _Relay:
    """A `Progress` that hands a run's steps to the one who asked for the cell."""

    tick: Tick

    @contextmanager
    def step(self, name: str, number: int, total: int) -> Iterator[Step]:
        """See `Progress`."""

        def tick(done: int, of: int, note: str) -> None:
            self.tick(done, of, f"{name}, {note}")

        yield Step(tick, lambda: None)
