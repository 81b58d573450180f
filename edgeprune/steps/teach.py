"""0-teacher: the teacher and the dense student, from checkpoints or trained here on the labels."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save

from edgeprune.distill import answers, lesson_of
from edgeprune.models.checkpoint import save_state
from edgeprune.optimise import top1
from edgeprune.progress import Tick
from edgeprune.recipe import Objective
from edgeprune.train import train
from edgeprune.workbench import Role, Workbench
from runtimes.files import write_bytes, write_json


def teach(bench: Workbench, tick: Tick) -> list[Path]:
    """Write `teacher` and `dense` (weights and history); what the recipe has none of is left out."""
    folder = bench.run["teach"]
    roles: list[tuple[Role, str]] = [("teacher", "teacher")] if bench.recipe.teacher.model else []
    if bench.recipe.student.holds == "dense":
        roles.append(("student", "dense"))
    for role, _ in roles:
        bench.fresh(role)  # a wrong name or number of classes shows now, not after the first training
    for role, name in roles:
        if not all(path.is_file() for path in _files(folder, name)):
            _provide(bench, role, folder / name, tick)
    return [path for _, name in roles for path in _files(folder, name)] + _answers(bench, folder, tick)


def _answers(bench: Workbench, folder: Path, tick: Tick) -> list[Path]:
    """The teacher's logits of every training image and its mirror image, (2, n, C), where the recipe keeps them."""
    recipe, path = bench.recipe, folder / "answers.safetensors"
    if not recipe.train.cache_teacher:
        return []
    if not path.is_file():
        logits = answers(bench.teacher(), bench.in_order(bench.data.train), tick)
        write_bytes(path, save({"logits": logits.contiguous()}))
    return [path]


def _files(folder: Path, name: str) -> tuple[Path, Path]:
    """What is written of a network; the weights come last: where both stand, it is finished."""
    return folder / f"{name}.history.json", folder / f"{name}.safetensors"


def _provide(bench: Workbench, role: Role, path: Path, tick: Tick) -> None:
    settings, shared = bench.settings(role), bench.recipe.train
    checkpoint = path.with_suffix(".checkpoint")
    if settings.checkpoint:
        model, history = bench.from_user(role), [{"epoch": 0.0}]
        history[0]["validation_top1"] = top1(model, bench.validation())
    else:
        model = bench.fresh(role)
        history = train(
            model,
            bench.training(role),
            bench.validation(),
            lesson_of(Objective(loss="ce"), None),
            settings,
            shared,
            seed=bench.seed(role),
            checkpoint=checkpoint,
            on_step=lambda done, total, note: tick(done, total, f"{path.name}, {note}"),
        )
    write_json(path.with_suffix(".history.json"), history)
    save_state(model, path.with_suffix(".safetensors"), {"role": path.name})
