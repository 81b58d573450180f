"""What the command line's verbs do before and after the pipeline: find the recipe, take over a user's own network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from devices import DEVICES
from edgeprune.data import DATASETS
from edgeprune.pipeline import run, workbench
from edgeprune.progress import Progress
from edgeprune.recipe import Recipe, complete, load, merge, shipped
from edgeprune.rundir import RunDir
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.tables import pick

# option of a verb -> where its value stands in a recipe
_KEYS = {
    "method": "method",
    "seed": "seed",
    "weights_dir": "weights_dir",
    "data_dir": "data.dir",
    "sparsity": "prune.sparsity",
    "pattern": "prune.pattern",
    "model": "student.model",
    "checkpoint": "student.checkpoint",
    "teacher_model": "teacher.model",
    "teacher_checkpoint": "teacher.checkpoint",
    "target": "export.target",
    "precision": "export.precision",
    "holds": "student.holds",
}


def partial_recipe(options: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe that these options of a verb state. `data` is a name, a folder of images or an .npz file."""
    stated: dict[str, Any] = {}
    for option, value in options.items():
        if option == "data":
            stated = merge(stated, {"data": _data(str(value))})
            continue
        for key in reversed(_KEYS[option].split(".")):
            value = {key: value}
        stated = merge(stated, value)
    return stated


def _data(value: str) -> dict[str, str]:
    if value in DATASETS:
        return {"name": value}
    if not Path(value).exists():
        if "/" in value or value.startswith("."):
            raise UserError(f"there is no data at {value}", "name a folder of images, an .npz file, or a data set")
        return {"name": value}
    return {"name": "npz" if value.endswith(".npz") else "imagefolder", "dir": value}


def read(recipe: str | None, given: Mapping[str, Any], settings: list[str], out: Path | None) -> tuple[Recipe, Path]:
    """The recipe and the run folder that a verb was called for: a run folder's own, a named one, or options alone."""
    if recipe is not None and Path(recipe).is_dir() and not (recipe in shipped() and not is_run(recipe)):
        return opened(Path(recipe)).recipe(settings, given), out or Path(recipe)
    if recipe is None and "data" not in given and not any(setting.startswith("data.name") for setting in settings):
        raise UserError("no recipe and no data set were given", "name one of them: --data NAME_OR_FOLDER, or a recipe")
    chosen = load(recipe, settings, given) if recipe is not None else complete({}, settings, given)
    return chosen, out or Path("runs") / chosen.name


def is_run(folder: str) -> bool:
    """Whether a person named a run folder."""
    return RunDir(Path(folder)).recipe_path.is_file()


def opened(folder: Path) -> RunDir:
    """The run folder that a person named; `UserError` where it is none."""
    rundir = RunDir(folder)
    if not rundir.recipe_path.is_file():
        raise UserError(
            f"{folder} is not a run folder: it has no recipe.toml", "name a folder that `edgeprune run` made"
        )
    return rundir


def work(recipe: Recipe, folder: Path, progress: Progress, *, until: str) -> list[str]:
    """Run the pipeline up to `until`; return what to tell: the report's headline, the files the last step wrote."""
    written = run(recipe, folder, progress, until=until)[until]
    shown = (".html", ".md", ".onnx", ".safetensors")
    files = [str(path) for path in sorted(written.iterdir()) if path.suffix in shown or path.name == "bundle"]
    report = written / "report.json"
    return [str(read_json(report)["headline"]), *files] if report.is_file() else files


def take_over_results(folder: Path, results: Path, devices: list[str], asked: Mapping[str, Any]) -> list[Path]:
    """Keep and score what was measured by hand on one device; return the measurements' files."""
    if asked or len(devices) != 1 or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", devices[0]):
        raise UserError(
            "results are taken over as they were measured, under one name for the device",
            "for example: edgeprune measure RUN --results FOLDER --device orin-nano",
        )
    rundir = opened(folder)
    from edgeprune.steps.measure import take_over

    with rundir.locked():
        written = take_over(workbench(rundir.recipe(), rundir), devices[0], results)
        rundir.outdate("report")
    return written


def measure_run(folder: Path, devices: list[str], asked: Mapping[str, Any], progress: Progress) -> list[Path]:
    """Measure a run on each of `devices` and return the measurements' files; older ones stay beside them."""
    for name in devices:
        pick(DEVICES, name, "device")
    recipe = opened(folder).recipe()
    rundir = run(recipe, folder, progress, until="compile")
    from edgeprune.steps.measure import measure_with

    written: list[Path] = []
    with rundir.locked():
        measured, bench = rundir.done("measure"), workbench(recipe, rundir)
        for number, name in enumerate(devices, start=1):
            with progress.step(f"measure on {name}", number, len(devices)) as shown:
                written += measure_with(bench, name, asked, shown.tick)
        if measured:
            rundir.accept("measure")  # or the next run would measure again, over what was asked for here
        rundir.outdate("report")
    return written
