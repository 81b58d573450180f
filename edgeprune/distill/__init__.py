"""Distillation: one loss, one file, `(student, teacher, labels, objective) -> loss per example`, never reduced.

The same losses guide the pruning (their gradients make the scores) and drive the retraining.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from edgeprune.distill.ce import ce
from edgeprune.recipe import Objective
from edgeprune.tables import LOSSES
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

# (student logits (N, C), teacher logits (N, C), labels (N,), objective) -> (N,)
Loss = Callable[[Tensor, Tensor, Tensor, Objective], Tensor]
# (student logits, images, labels) -> scalar
Criterion = Callable[[Tensor, Tensor, Tensor], Tensor]


def needs_teacher(objective: Objective) -> bool:
    """Whether this objective looks at the teacher at all."""
    return objective.loss != "ce" and objective.weight > 0.0


def criterion_of(objective: Objective, teacher: nn.Module | None) -> Criterion:
    """L = a * L_distill + (1 - a) * CE, averaged over the batch (Alim et al. 2025; a is `objective.weight`).

    Cross entropy takes the raw logits of the student. The teacher is put into `eval()` and gets no gradient; where the
    objective does not look at it, it is not run. An objective that needs a teacher and has none is a `UserError`.
    """
    if not needs_teacher(objective):
        return lambda student, images, labels: ce(student, student, labels, objective).mean()
    if teacher is None:
        raise UserError(f"the loss '{objective.loss}' needs a teacher; there is none", "name one, or set its loss=ce")
    distance: Loss = resolve(pick(LOSSES, objective.loss, "loss"))
    teacher.eval()

    def total(student: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            guide = teacher(images)
        student, guide = student.float(), guide.float()
        a = objective.weight
        return (
            a * distance(student, guide, labels, objective) + (1 - a) * ce(student, guide, labels, objective)
        ).mean()

    return total
