"""2-retrain: the pruned student learns again under its fixed mask, with or without the teacher."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from edgeprune.layers import weights
from edgeprune.learning_rate import norm_drop, retraining
from edgeprune.models.checkpoint import save_state
from edgeprune.progress import Tick
from edgeprune.recipe import Training
from edgeprune.train import Epoch, train
from edgeprune.workbench import Workbench
from runtimes.files import write_json


def retrain(bench: Workbench, tick: Tick) -> list[Path]:
    """Write the final student and its history. No pruned weight comes back: the mask is held after every step."""
    folder, recipe = bench.run["retrain"], bench.recipe
    student = bench.saved("student", bench.run["prune"] / "student.safetensors")
    history: list[Epoch] = []
    if recipe.student.holds != "sparse":
        history = _train(bench, student, folder / "student.checkpoint", tick)
    write_json(folder / "history.json", history)
    save_state(student, folder / "student.safetensors", {"role": "sparse"})
    return [folder / "history.json", folder / "student.safetensors"]


def _train(bench: Workbench, student: nn.Module, checkpoint: Path, tick: Tick) -> list[Epoch]:
    recipe = bench.recipe
    return train(
        student,
        bench.training("retrain"),
        bench.validation(),
        bench.lesson(recipe.retrain.objective),
        _settings(bench),
        recipe.train,
        seed=bench.seed("retrain"),
        checkpoint=checkpoint,
        masks=bench.masks(),
        on_step=tick,
    )


def _settings(bench: Workbench) -> Training:
    """The recipe's retraining; how much of the dense weights' norm pruning took may lower its peak learning rate."""
    masks = bench.masks()
    if bench.recipe.student.holds != "dense" or not masks:
        return bench.recipe.retrain
    dense = torch.cat([w.flatten() for w in weights(bench.dense(), masks).values()]).detach()
    keep = torch.cat([mask.flatten() for mask in masks.values()]).to(dense.device)
    drop = norm_drop(float(dense.norm()), float(dense[keep].norm()))
    return retraining(bench.recipe, drop, 1.0 - float(keep.float().mean()))
