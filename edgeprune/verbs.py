"""What the command line's verbs do before and after the pipeline: find the recipe, take over a user's own network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeprune.data import DATASETS
from edgeprune.pipeline import run
from edgeprune.progress import Progress
from edgeprune.recipe import Recipe, complete, load, merge, shipped
from edgeprune.rundir import RunDir
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.tables import pick

if TYPE_CHECKING:
    from edgeprune.comparing import Compared
    from edgeprune.gates import Gates
    from edgeprune.measuring import Boards
    from edgeprune.report.records import Report

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
    if until == "compile":
        renew_bundle(RunDir(folder))
    written = run(recipe, folder, progress, until=until)[until]
    shown = (".html", ".md", ".onnx", ".safetensors")
    files = [str(path) for path in sorted(written.iterdir()) if path.suffix in shown or path.name == "bundle"]
    report = written / "report.json"
    return [str(read_json(report)["headline"]), *files] if report.is_file() else files


def renew_bundle(rundir: RunDir) -> None:
    """Have the run's bundle written again where another edgeprune wrote it: what measures travels in it."""
    from export.bundle import brings_our_code

    bundle = rundir["compile"] / "bundle"
    if (bundle / "manifest.json").is_file() and not brings_our_code(bundle):
        rundir.outdate("compile")


def workload(
    runtimes: Sequence[str],
    protocol: str | None,
    batch: int | None,
    threads: int | None,
    cpus: str | None = None,
    power_mode: str | None = None,
    *,
    lock_clocks: bool = False,
) -> dict[str, Any]:
    """What was asked for beside a recipe's workload, as `devices.deploy.measure_on` takes it; what was not is left out.

    `options` are words for `python -m runtimes measure`.
    """
    options = [
        *(["--cpus", cpus] if cpus else []),
        *(["--power-mode", power_mode] if power_mode else []),
        *(["--lock-clocks"] if lock_clocks else []),
    ]
    asked = {"runtimes": list(runtimes), "protocol": protocol, "batch": batch, "threads": threads, "options": options}
    return {key: value for key, value in asked.items() if value not in (None, [])}


def reported(runs: Sequence[Path]) -> tuple[list[Path], dict[str, Report]]:
    """Write the report of each run folder; the files, and what each folder tells."""
    from edgeprune.report import write_formats
    from edgeprune.report.collect import collect

    paths: list[Path] = []
    reports: dict[str, Report] = {}
    for folder in runs:
        reports[str(folder)] = collect(opened(folder).path)
        paths += write_formats(reports[str(folder)], folder)
    return paths, reports


def compared(
    a: str,
    b: str,
    boards: Boards | None,
    asked: Mapping[str, Any],
    target: str | None,
    out: Path | None,
    progress: Progress,
    *,
    form: str,
) -> tuple[Compared, str]:
    """Compare two networks as they were measured, or on `boards` measured in turns now; the records and their text."""
    from edgeprune.comparing import compare_runs
    from edgeprune.report.pairs import FORMATS

    render = pick(FORMATS, form, "format")
    if boards is None:
        if asked or target or out:
            raise UserError(
                "nothing is measured, so it cannot be measured otherwise",
                "name a --device to measure both on it, or leave the other options out",
            )
        found = compare_runs(a, b)
    else:
        from edgeprune.head_to_head import SIDES, folder_of, measure_together

        place = out or folder_of((a, b))
        measured = measure_together((a, b), boards, asked, target, place, progress)
        sources = {path.relative_to(place).as_posix() for path in measured}
        both = compare_runs(*(f"{place}:{side}" for side in SIDES))
        now = tuple(pair for pair in both.pairs if pair.row.source in sources)  # not what was measured there before
        found = replace(both, a=a, b=b, pairs=now, alone=())
    return found, render(found)


def held(judged: Mapping[str, Report | Compared], gates: Gates, junit: Path | None) -> tuple[list[str], int]:
    """Hold what was measured, by its name, to the limits asked for: a line for each verdict, and the exit code."""
    from edgeprune.gates import check, exit_code, lines
    from edgeprune.junit import write_junit

    if junit is not None and not gates.asked():
        raise UserError("--junit has no verdicts to write", "name a limit too, for example --min-top1 90")
    verdicts = [verdict for name, one in judged.items() for verdict in check(one, gates, name)]
    if junit is not None:
        write_junit(junit, verdicts)
    return lines(verdicts), exit_code(verdicts)
