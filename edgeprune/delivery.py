"""What `edgeprune export` does: files for a target, a bundle of them, and a look at a file that is there already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.pipeline import perform, run, workbench
from edgeprune.progress import Progress
from edgeprune.rundir import RunDir
from edgeprune.verbs import is_run, opened, partial_recipe, read
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
    target: Target


def deliver(
    recipe: str | None, given: Mapping[str, Any], settings: list[str], out: Path | None, progress: Progress
) -> Delivered:
    """Export a run folder anew, or do a recipe's steps (or those for a checkpoint) up to its bundle."""
    if recipe is not None and is_run(recipe):
        _refuse(recipe, given, settings, out, but=("target", "precision"))
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


def _refuse(what: str, given: Mapping[str, Any], settings: list[str], out: Path | None, but: tuple[str, ...]) -> None:
    """What is there already is exported, or looked at, as it is: an option that would change it is refused."""
    others = [name for name in given if name not in but]
    others += ["set"] * bool(settings) + ["out"] * (out is not None)
    if others:
        raise UserError(
            f"{what} is taken as it is: --{others[0].replace('_', '-')} has no place here",
            "leave it out; to change the run itself, begin from its recipe",
        )


def _places(rundir: RunDir) -> tuple[Path, Path]:
    return rundir["export"], rundir["compile"] / "bundle"


def _delivered(exported: Path, bundle: Path) -> Delivered:
    told, runtimes = read_json(exported / "manifest.json"), read_json(bundle / "manifest.json")["runtimes"]
    networks = told["networks"].values()
    files = [exported / name for network in networks for name in (network["file"], *network.get("program", ()))]
    target = TARGETS[told["target"]]
    option = "" if target.runtime in runtimes else f" --runtime {target.runtime}"
    command = f"python3 -m runtimes measure .{option}"
    return Delivered([*files, exported / "manifest.json"], bundle, told["warnings"], command, target)


def accepted(files: list[Path], target: Target | None) -> Iterator[str]:
    """One line for each ONNX file that TensorRT's parser and builder take, then what that does not show.

    The first file that they refuse is a `UserError`, and so is a target that TensorRT does not run on.
    """
    if target is not None and target.runtime != "trt":
        raise UserError(
            f"{target.name} does not run TensorRT, whose parser --check asks",
            "leave --check out: ONNX Runtime has run each file when it was verified",
        )
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
    if notes and target is not None and target.compute_capability not in ("8.6", "8.7"):
        capability = target.compute_capability
        yield f"{target.name} has compute capability {capability}: its own builder may decide otherwise"


def examine(path: Path, given: Mapping[str, Any], settings: list[str], out: Path | None, *, check: bool) -> list[str]:
    """Hold an ONNX file that is there already to what it says of itself, to a target, and to TensorRT's parser."""
    _refuse(str(path), given, settings, out, but=("target",))
    if not check:
        raise UserError(
            f"{path} is an ONNX file already: there is nothing to export", "look whether it is accepted: add --check"
        )
    from export.examine import examine

    chosen = pick(TARGETS, given["target"], "target") if "target" in given else None
    return [*examine(path, chosen), *accepted([path], chosen)]
