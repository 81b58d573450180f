"""2-retrain: the pruned student learns again under its fixed mask, with or without the teacher."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from edgeprune import distill
from edgeprune.bench import Bench
from edgeprune.models.checkpoint import save_state
from edgeprune.progress import Tick
from edgeprune.train import Epoch, train
from runtimes.files import write_json


def retrain(bench: Bench, tick: Tick) -> list[Path]:
    """Write the final student and its history. No pruned weight comes back: the mask is held after every step."""
    folder, recipe = bench.run["retrain"], bench.recipe
    student = bench.saved("student", bench.run["prune"] / "student.safetensors")
    history: list[Epoch] = []
    if recipe.student.holds != "sparse":
        history = _train(bench, student, folder / "student.checkpoint", tick)
    write_json(folder / "history.json", history)
    save_state(student, folder / "student.safetensors", {"role": "sparse"})
    (folder / "student.checkpoint").unlink(missing_ok=True)
    return [folder / "history.json", folder / "student.safetensors"]


def _train(bench: Bench, student: nn.Module, checkpoint: Path, tick: Tick) -> list[Epoch]:
    recipe = bench.recipe
    return train(
        student,
        bench.training("retrain"),
        bench.validation(),
        distill.criterion_of(recipe.retrain.objective, bench.teacher_for(recipe.retrain.objective)),
        recipe.retrain,
        recipe.train,
        seed=bench.seed("retrain"),
        checkpoint=checkpoint,
        masks=bench.masks(),
        on_step=tick,
    )
