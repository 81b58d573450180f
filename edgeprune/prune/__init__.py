"""Pruning as composition:

    mask = pattern(criterion(w, signals(model, batches, guide)), allocate(sparsity))

and a schedule says how often that is done and what is learnt in between. Teacher-guided is not a criterion: it is which
loss drives the pass that gathers the signals. Alim et al. 2025 (arXiv 2511.16653) is one point of this space;
`edgeprune.methods` names it and others.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edgeprune.layers import layers, left_dense
from edgeprune.optimise import leading
from edgeprune.prune import masks as masking
from edgeprune.prune.patterns import Pattern
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.prune.repair import Repair
from edgeprune.prune.schedules import Schedule
from edgeprune.prune.task import Task, counting
from edgeprune.recipe import Prune
from edgeprune.tables import REPAIRS, SCHEDULES
from runtimes.errors import UserError
from runtimes.tables import pick, resolve


@dataclass(frozen=True)
class Pruned:
    """The outcome: masks by layer name (True keeps), why the other layers stayed dense, and what to be wary of."""

    masks: dict[str, Tensor]
    reasons: dict[str, str]
    warnings: tuple[str, ...]
    guide_loss: tuple[float, ...] = ()  # of each scoring batch
    student_images: int = 0  # that went forward and backward through the student


def prune(task: Task, reasons: Mapping[str, str]) -> Pruned:
    """Prune `task.student` in place by the recipe's schedule and mend it; every pruned weight ends at zero.

    `reasons` says why the layers that are not in `task.chosen` stay dense. `UserError` where the guide diverges.
    """
    settings = task.recipe.prune
    schedule: Schedule = resolve(pick(SCHEDULES, settings.schedule, "schedule"))
    repair: Repair = resolve(pick(REPAIRS, settings.repair, "repair"))
    dense = copy.deepcopy(task.student)
    with counting(task.student) as seen:
        outcome = schedule(task)
    if settings.rewind:
        task.student.load_state_dict(dense.state_dict())
    masking.bake(task.student, outcome.masks)
    repair(task.student, dense, outcome.masks, (b.images for b in leading(task.batches, settings.repair_batches)))
    warnings = (*outcome.warnings, *_collapsed(outcome.masks))
    images = seen.images + outcome.earlier_images
    return Pruned(dict(outcome.masks), dict(reasons), warnings, outcome.guide_loss, images)


def already_pruned(student: nn.Module, pattern: Pattern, settings: Prune) -> Pruned:
    """The outcome that a network with zeros in it stands for: every zero of a convolution or linear layer is held.

    `UserError` where a layer that the pattern applies to has zeros that do not follow it.
    """
    chosen, reasons = choose(student, UNSTRUCTURED, everything(settings))
    keep = masking.of_zeros(student, chosen)
    bound = [layer.name for layer in layers(student) if layer.name in keep and pattern.refuses(layer) is None]
    for name in bound:
        kept = keep[name]
        if not kept.all() and (kept & ~pattern.keep(kept.float(), int(kept.sum()))).any():
            raise UserError(
                f"the zeros of layer {name} are not {pattern.name}", "name the pattern they follow: prune.pattern"
            )
    return Pruned(keep, reasons, tuple(_collapsed(keep)))


def everything(settings: Prune) -> Prune:
    """The settings under which all convolutions and linear layers are prunable: a given network's zeros are its own."""
    return settings.model_copy(update={"layers": ("conv", "linear"), "skip": ()})


def choose(model: nn.Module, pattern: Pattern, settings: Prune) -> tuple[tuple[str, ...], dict[str, str]]:
    """The names of the layers to prune, and for every other layer the reason why it stays dense."""
    reasons = left_dense(model, settings, pattern.refuses)
    names = tuple(layer.name for layer in layers(model) if layer.name not in reasons)
    if not names:
        told = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:3]) or "it has no layer with a weight"
        raise UserError(
            f"nothing in this network can be pruned: {told}", "see prune.layers, prune.skip and prune.pattern"
        )
    return names, reasons


def _collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    return [
        f"layer {name} lost all of its {keep.numel()} weights: nothing passes it; prune.floor prevents that"
        for name, keep in masks.items()
        if not keep.any()
    ]
