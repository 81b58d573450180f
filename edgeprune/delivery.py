"""What `edgeprune export` does: files for a target, a bundle of them, and a look at a file that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.pipeline import perform, run, workbench
from edgeprune.progress import Progress
from edgeprune.rundir import RunDir
from edgeprune.verbs import opened, partial_recipe, read
from export.targets import TARGETS, Target
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.tables import pick


class Delivered(NamedTuple):
    """What an export leaves: its files, the bundle made of them, what to be warned of, and how to use it."""

    files: list[Path]
    bundle: Path
    warnings: list[str]
    command: str
    """What is typed on the device, in a copy of the bundle."""


def deliver(
    recipe: str | None, given: Mapping[str, Any], settings: list[str], out: Path | None, progress: Progress
) -> Delivered:
    """Export a run folder anew, or do a recipe's steps (or those for a checkpoint) up to its bundle."""
    if recipe is not None and Path(recipe, "recipe.toml").is_file():
        return _anew(opened(Path(recipe)), given.get("target"), given.get("precision"), progress)
    holds = {"holds": "sparse"} if "checkpoint" in given else {}
    chosen, folder = read(recipe, partial_recipe({**given, **holds}), settings, out)
    return _delivered(*_places(run(chosen, folder, progress, until="compile")))


def _anew(rundir: RunDir, target: str | None, precision: str | None, progress: Progress) -> Delivered:
    """As the run's recipe says in place; for another target or precision into `3-export/<target>`."""
    recipe = rundir.recipe()
    chosen = pick(TARGETS, target or recipe.export.target, "target")
    own = chosen.name == recipe.export.target and precision in (None, recipe.export.precision)
    run(recipe, rundir.path, progress, until="retrain")
    with rundir.locked(), progress.step(f"export for {chosen.name}", 1, 1) as shown:
        bench = workbench(recipe, rundir)
        if not own:
            from edgeprune.steps.compile import compile_for
            from edgeprune.steps.export import export_for

            export_for(bench, chosen, rundir["export"] / chosen.name, precision or "", shown.tick)
            return _delivered(rundir["export"] / chosen.name, compile_for(bench, chosen, shown.tick))
        perform("export", bench, shown.tick)
    return _delivered(*_places(run(recipe, rundir.path, progress, until="compile")))


def _places(rundir: RunDir) -> tuple[Path, Path]:
    return rundir["export"], rundir["compile"] / "bundle"


def _delivered(exported: Path, bundle: Path) -> Delivered:
    told, runtimes = read_json(exported / "manifest.json"), read_json(bundle / "manifest.json")["runtimes"]
    files = [exported / network["file"] for network in told["networks"].values()]
    wanted = TARGETS[told["target"]].runtime
    option = "" if wanted in runtimes else f" --runtime {wanted}"
    command = f"python3 -m runtimes measure .{option}"
    return Delivered([*files, exported / "manifest.json"], bundle, told["warnings"], command)


def accepted(files: list[Path]) -> Iterator[str]:
    """One line for each ONNX file that TensorRT's parser and builder take, then what that does not show.

    The first file that they refuse is a `UserError`.
    """
    from runtimes.trt_check import check

    notes: dict[str, None] = {}
    for path in (path for path in files if path.suffix == ".onnx"):
        found = check(path)
        yield (
            f"{path.name}: accepted by {found.library} {found.version}, which builds an engine of "
            f"{found.engine_bytes / 1e6:.1f} MB in {found.precision} for compute capability {found.compute_capability}"
        )
        notes |= {found.note: None} if found.note else {}
    yield from notes


def examine(path: Path, target: str | None, *, check: bool) -> list[str]:
    """Hold an ONNX file that is there already to what it says of itself, to a target, and to TensorRT's parser."""
    if not check:
        raise UserError(
            f"{path} is an ONNX file already: there is nothing to export", "look whether it is accepted: add --check"
        )
    from export.examine import examine

    chosen: Target | None = pick(TARGETS, target, "target") if target else None
    return [*examine(path, chosen), *accepted([path])]
