"""Gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878, equation 1): the mask grows while the student is trained.

    s_t = s - s (1 - t / T)^3

from a dense network at t = 0: fast at first, while there is much to spare, and ever slower.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of
from edgeprune.learning_rate import CONSTANT, rate
from edgeprune.optimise import backward, set_rate, sgd
from edgeprune.prune import masks as masking
from edgeprune.prune.schedules import Outcome
from edgeprune.prune.score import cut, signals_of
from edgeprune.prune.signals import STATISTICS, Criterion, MovingAverage
from edgeprune.prune.task import Task, counting
from edgeprune.resuming import Stateful, load_progress, save_progress
from edgeprune.tables import CRITERIA
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

_CHOICES = 100  # how often the mask is chosen anew, at most


def cubic(sparsity: float, progress: float) -> float:
    """s (1 - (1 - t / T)^3), which is exactly s at the end; `progress` is t / T."""
    return sparsity * (1.0 - (1.0 - progress) ** 3)


def gradual(task: Task) -> Outcome:
    """Train for `prune.epochs` under the guide, and prune meanwhile; no pruned weight returns.

    This is a training, not a scoring: it goes at the retraining's rate after the retraining's warm-up, and the recipe's
    weight decay holds. Its momentum ends here.
    The criterion judges the weights of the moment by the moving averages so far; signals that need a pass of their own
    get one over the batch of that step. A killed process goes on at the last whole epoch and ends with the same bits.
    `UserError` where `prune.epochs` leaves no step.
    """
    settings, length = task.recipe.prune, len(task.batches)
    steps = round(settings.epochs * length)
    if not steps:
        raise UserError("the gradual schedule prunes while it trains, but prune.epochs = 0", "set prune.epochs=1")
    growth, checkpoint = _Growth(task, steps), task.checkpoints / "gradual.checkpoint"
    told = load_progress(checkpoint, growth.parts)
    losses: list[float] = told.get("losses", [])
    earlier: int = told.get("images", 0)
    with counting(task.student) as seen:
        for epoch in range(len(losses) // length, math.ceil(steps / length)):
            torch.manual_seed(task.seed + epoch)
            for batch in islice(task.batches.epoch(epoch), steps - len(losses)):
                losses.append(growth.step(len(losses) + 1, batch))
                task.on_step(len(losses), steps, f"guide loss {losses[-1]:.3f}")
            save_progress(checkpoint, growth.parts, losses=losses, images=earlier + seen.images)
    masks = {name: mask.cpu() for name, mask in growth.masks.items()}
    return Outcome(masks, tuple(losses), tuple(growth.warnings), earlier)


class _Growth:
    """The training of one task and its growing mask, on the student's device, with what the criterion judges by."""

    def __init__(self, task: Task, steps: int) -> None:
        self.task, self.steps = task, steps
        self.criterion: Criterion = resolve(pick(CRITERIA, task.recipe.prune.criterion, "criterion"))
        self.average = MovingAverage(task.recipe.prune.beta)
        self.optimizer = sgd(task.student, task.recipe.retrain.lr, task.recipe.train)
        self.lesson = lesson_of(task.recipe.prune.guide, task.teacher)
        self.start = {name: w.detach().clone() for name, w in task.weights().items()}
        self.masks: dict[str, Tensor] = {}
        self.warnings: list[str] = []
        learning: dict[str, Stateful] = {"student": task.student, "optimizer": self.optimizer, "lesson": self.lesson}
        self.parts = {**learning, "average": self.average, "growth": self}
        task.student.train()

    def step(self, number: int, batch: Batch) -> float:
        """Learn from one batch, from number 1 on, and prune where that is due; the guide's loss."""
        task, training = self.task, self.task.recipe.retrain
        set_rate(self.optimizer, training.lr * rate(CONSTANT, number - 1, self.steps, training.warmup))
        self.optimizer.zero_grad(set_to_none=True)
        loss = backward(task.student, self.lesson, batch, (number - 1) / self.steps)
        self.average.update(task.weights(), self.criterion.needs & STATISTICS.keys())
        self.optimizer.step()
        masking.bake(task.student, self.masks)
        if number % math.ceil(self.steps / _CHOICES) == 0 or number == self.steps:
            self.choose(cubic(task.recipe.prune.sparsity, number / self.steps), batch)
        return loss

    def choose(self, sparsity: float, batch: Batch) -> None:
        """Prune to `sparsity` by the criterion on the present weights."""
        task, average = self.task, self.average
        signals = signals_of(task, self.criterion, average, self.start, [batch], self.lesson)
        masks, self.warnings = cut(task, self.criterion, signals, sparsity, self.masks or None)
        self.masks = {name: masks[name].to(w.device) for name, w in task.weights().items()}

    def state_dict(self) -> dict[str, Any]:
        """What is neither the student's nor the optimiser's."""
        return {"start": self.start, "masks": self.masks, "warnings": self.warnings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; the student's own device is where masks and weights belong."""
        place = {name: w.device for name, w in self.task.weights().items()}
        self.start = {name: w.to(place[name]) for name, w in state["start"].items()}
        self.masks = {name: mask.to(place[name]) for name, mask in state["masks"].items()}
        self.warnings = list(state["warnings"])
