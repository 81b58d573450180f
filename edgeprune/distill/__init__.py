"""Distillation: what a student learns from beside the labels: a teacher, other images, its own past.

A loss with a teacher is a function, one file each: `(student, teacher, labels, objective) -> loss per example`, never
reduced. A self-taught one is a class, which may remember. The same lessons guide the pruning (their gradients make the
scores) and drive the retraining.
"""

from __future__ import annotations

from typing import Any

from edgeprune.distill.lesson import Labels, Lesson, Loss, Parts, Source, Taught
from edgeprune.distill.teacher import Teacher, answers, cached, live
from edgeprune.distill.temperature import Temperature
from edgeprune.distill.weight import Weight, constant
from edgeprune.recipe import Objective
from edgeprune.tables import LOSSES, TEMPERATURES, WEIGHTS
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

__all__ = [
    "Lesson",
    "Loss",
    "Parts",
    "Source",
    "Teacher",
    "answers",
    "cached",
    "lesson_of",
    "live",
    "needs_teacher",
]


def needs_teacher(objective: Objective) -> bool:
    """Whether this objective looks at a teacher at all."""
    return _distils(objective) and not isinstance(_loss(objective), type)


def lesson_of(objective: Objective, teacher: Teacher | None) -> Lesson:
    """L = a * L_distill + (1 - a) * CE, averaged over the batch (Alim et al. 2025; a starts from `objective.weight`).

    Cross entropy takes the raw logits of the student. The teacher is not asked where the objective does not look at it.
    An objective that needs a teacher and has none, or that would learn the temperature without one, is a `UserError`.
    """
    made: type[Any] = resolve(pick(TEMPERATURES, objective.temperature_schedule, "schedule of the temperature"))
    temperature: Temperature = made(objective.temperature)
    if not _distils(objective):
        return Lesson(objective, Labels(), constant, temperature)
    weight: Weight = resolve(pick(WEIGHTS, objective.weight_schedule, "schedule of the weight"))
    return Lesson(objective, _source(objective, teacher, temperature), weight, temperature)


def _source(objective: Objective, teacher: Teacher | None, temperature: Temperature) -> Source:
    loss = _loss(objective)
    if isinstance(loss, type):
        if objective.temperature_schedule == "learned":
            raise UserError(
                f"the loss '{objective.loss}' has no teacher to learn a temperature against",
                "set temperature_schedule=constant or annealed",
            )
        alone: Source = loss()
        return alone
    if teacher is None:
        raise UserError(f"the loss '{objective.loss}' needs a teacher; there is none", "name one, or set its loss=ce")
    return Taught(loss, teacher, temperature)


def _distils(objective: Objective) -> bool:
    return objective.loss != "ce" and objective.weight > 0.0


def _loss(objective: Objective) -> Any:
    """A function of student and teacher, or the class of a self-taught one."""
    return resolve(pick(LOSSES, objective.loss, "loss"))
