"""The pieces that rounds of training and pruning are made of, to put them together by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from toys import task_of, toy

from edgeprune.data import Dataset
from edgeprune.data.batches import Batches
from edgeprune.distill import lesson_of
from edgeprune.prune.masks import Masks
from edgeprune.prune.score import choose_kept
from edgeprune.prune.task import Task
from edgeprune.recipe import Objective, Prune, Retrain
from edgeprune.train import train

LEARNING = Retrain(epochs=1, lr=0.05, objective=Objective())
BY_MAGNITUDE = {"sparsity": 0.8, "criterion": "magnitude", "epochs": 0.0}


def task(data: Dataset, folder: Path, *, retrain: Retrain = LEARNING, dropout: float = 0.0, **settings: Any) -> Task:
    """By magnitude to 80 %, on the synthetic images, whose classes can be had in parts."""
    student = toy(0, dropout=dropout)
    given = task_of(student, Prune(**{**BY_MAGNITUDE, **settings}), folder, data=data, retrain=retrain)

    def part(classes: Sequence[int]) -> tuple[Batches, Batches]:
        train_, held = (np.flatnonzero(np.isin(split.labels, classes)) for split in (data.train, data.validation))
        shuffled = {"batch_size": 64, "device": "cpu", "augment": data.augment, "seed": 7}
        return (
            Batches(data.train, data.preprocess, only=train_, **shuffled),
            Batches(data.validation, data.preprocess, only=held, batch_size=64, device="cpu"),
        )

    return replace(given, part=part)


def zeros(masks: Masks) -> int:
    """How many weights are pruned."""
    return sum(int((~mask).sum()) for mask in masks.values())


def learnt(given: Task, model: nn.Module, masks: Masks | None, piece: int, folder: Path, **changes: Any) -> None:
    """One training of a round."""
    train(
        model,
        given.batches,
        given.validation,
        lesson_of(given.recipe.retrain.objective, given.teacher),
        given.recipe.retrain.model_copy(update=changes),
        given.recipe.train,
        seed=given.seed + piece,
        checkpoint=folder / f"by-hand-{piece}",
        masks=masks,
    )


def smallest_gone(given: Task, model: nn.Module, sparsity: float, keep: Masks | None) -> dict[str, Tensor]:
    """Masks without the smallest weights of all layers together."""
    scores = {name: model.get_submodule(name).weight.detach().abs() for name in given.chosen}
    return choose_kept(scores, given, sparsity, keep)[0]
