"""Gradual pruning (Zhu and Gupta 2017, arXiv 1710.01878, equation 1): the mask grows while the student is trained.

    s_t = s - s (1 - t / T)^3

from a dense network at t = 0: fast at first, while there is much to spare, and ever slower.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from edgeprune.data.batches import Batch
from edgeprune.distill import Lesson, lesson_of
from edgeprune.learning_rate import CONSTANT, rate
from edgeprune.optimise import backward, leading, set_rate, sgd
from edgeprune.prune import masks as masking
from edgeprune.prune.schedules import Outcome
from edgeprune.prune.score import cut, signals_of
from edgeprune.prune.signals import STATISTICS, Criterion, MovingAverage
from edgeprune.prune.task import Task
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
    get one over the batch of that step. `UserError` where `prune.epochs` leaves no step.
    """
    settings, training, w = task.recipe.prune, task.recipe.retrain, task.weights()
    steps = round(settings.epochs * len(task.batches))
    if not steps:
        raise UserError("the gradual schedule prunes while it trains, but prune.epochs = 0", "set prune.epochs=1")
    growth, losses = _Growth(task), list[float]()
    optimizer = sgd(task.student, training.lr, task.recipe.train)
    lesson, every = lesson_of(settings.guide, task.teacher), math.ceil(steps / _CHOICES)
    task.student.train()
    torch.manual_seed(task.seed)
    for step, batch in enumerate(leading(task.batches, steps), start=1):
        set_rate(optimizer, training.lr * rate(CONSTANT, step - 1, steps, training.warmup))
        optimizer.zero_grad(set_to_none=True)
        losses.append(backward(task.student, lesson, batch, (step - 1) / steps))
        growth.average.update(w, growth.statistics)
        optimizer.step()
        masking.bake(task.student, growth.masks)
        if step % every == 0 or step == steps:
            growth.choose(cubic(settings.sparsity, step / steps), lesson, batch)
        task.on_step(step, steps, f"guide loss {losses[-1]:.3f}")
    masks = {name: mask.cpu() for name, mask in growth.masks.items()}
    return Outcome(masks, tuple(losses), tuple(growth.warnings))


class _Growth:
    """The growing mask of one task, on its device, and what the criterion judges by."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.criterion: Criterion = resolve(pick(CRITERIA, task.recipe.prune.criterion, "criterion"))
        self.statistics = self.criterion.needs & STATISTICS.keys()
        self.average = MovingAverage(task.recipe.prune.beta)
        self.start = {name: w.detach().clone() for name, w in task.weights().items()}
        self.masks: dict[str, Tensor] = {}
        self.warnings: list[str] = []

    def choose(self, sparsity: float, lesson: Lesson, batch: Batch) -> None:
        """Prune to `sparsity` by the criterion on the present weights."""
        task, average = self.task, self.average
        signals = signals_of(task, self.criterion, average, self.start, [batch], lesson)
        masks, self.warnings = cut(task, self.criterion, signals, sparsity, self.masks or None)
        self.masks = {name: masks[name].to(w.device) for name, w in task.weights().items()}
