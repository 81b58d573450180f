"""Pruning as composition:

    mask = pattern(criterion(w, signals(model, batches, guide)), allocate(sparsity))

Teacher-guided is not a criterion: it is which loss drives the pass that gathers the signals. Alim et al. 2025
(arXiv 2511.16653) is one point of this space; `edgeprune.methods` names it and others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune import distill
from edgeprune.layers import layers, left_dense, weights
from edgeprune.optimise import Batches, backward, leading, no_tick, sgd
from edgeprune.progress import Tick
from edgeprune.prune import masks as masking
from edgeprune.prune.allocate import Allocation
from edgeprune.prune.patterns import Pattern
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.prune.signals import Criterion, MovingAverage, Signals
from edgeprune.recipe import Hardware, Prune
from edgeprune.tables import ALLOCATIONS, CRITERIA, PATTERNS, REPAIRS
from runtimes.errors import UserError
from runtimes.tables import pick, resolve


@dataclass(frozen=True)
class Pruned:
    """The outcome: masks by layer name (True keeps), why the other layers stayed dense, and what to be wary of."""

    masks: dict[str, Tensor]
    reasons: dict[str, str]
    warnings: tuple[str, ...]
    guide_loss: tuple[float, ...]  # of each scoring batch


def prune(
    student: nn.Module,
    teacher: nn.Module | None,
    batches: Batches,
    settings: Prune,
    shared: Hardware,
    *,
    seed: int,
    on_step: Tick = no_tick,
) -> Pruned:
    """Prune `student` in place, in one shot, and mend it (`settings.repair`); it ends with every pruned weight at zero.

    While the signals are gathered the student is fine-tuned under the guide for `settings.epochs`, by an optimiser
    whose momentum ends here. `UserError` where nothing can be pruned or the guide diverges.
    """
    pattern: Pattern = resolve(pick(PATTERNS, settings.pattern, "pattern"))
    chosen, reasons = choose(student, pattern, settings)
    signals, losses = gather(student, teacher, batches, chosen, settings, shared, seed, on_step)
    keep = mask(chosen, signals, pattern, settings)
    masking.bake(student, keep)
    repair = resolve(pick(REPAIRS, settings.repair, "repair"))
    repair(student, (images for images, _ in leading(batches, settings.repair_batches)))
    return Pruned(keep, reasons, tuple(_collapsed(keep)), tuple(losses))


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
    return Pruned(keep, reasons, tuple(_collapsed(keep)), ())


def everything(settings: Prune) -> Prune:
    """The settings under which all convolutions and linear layers are prunable: a given network's zeros are its own."""
    return settings.model_copy(update={"layers": ("conv", "linear"), "skip": ()})


def choose(model: nn.Module, pattern: Pattern, settings: Prune) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights to prune by layer name, and for every other layer the reason why it stays dense."""
    reasons = left_dense(model, settings, pattern.refuses)
    names = [layer.name for layer in layers(model) if layer.name not in reasons]
    if not names:
        told = "; ".join(f"{name}: {why}" for name, why in list(reasons.items())[:3]) or "it has no layer with a weight"
        raise UserError(
            f"nothing in this network can be pruned: {told}", "see prune.layers, prune.skip and prune.pattern"
        )
    return weights(model, dict.fromkeys(names)), reasons


def gather(
    student: nn.Module,
    teacher: nn.Module | None,
    batches: Batches,
    chosen: Mapping[str, Tensor],
    settings: Prune,
    shared: Hardware,
    seed: int,
    on_step: Tick = no_tick,
) -> tuple[dict[str, Signals], list[float]]:
    """Fine-tune `student` under the guide without weight decay, averaging the statistics that the criterion needs."""
    criterion: Criterion = resolve(pick(CRITERIA, settings.criterion, "criterion"))
    steps = round(settings.epochs * len(batches)) or math.ceil(settings.epochs)  # however little, at least one
    if criterion.needs and not steps:
        raise UserError(f"criterion {settings.criterion} needs gradients, but prune.epochs = 0", "set prune.epochs=1")
    guide = distill.criterion_of(settings.guide, teacher)
    average, losses = MovingAverage(settings.beta), []
    optimizer = sgd(student, settings.lr, shared.model_copy(update={"weight_decay": 0.0}))
    student.train()
    torch.manual_seed(seed)
    for step, (images, labels) in enumerate(leading(batches, steps)):
        optimizer.zero_grad(set_to_none=True)
        losses.append(backward(student, guide, images, labels))
        average.update(chosen, criterion.needs)
        optimizer.step()
        on_step(step + 1, steps, f"guide loss {losses[-1]:.3f}")
    return {name: average.signals(name, seed + index) for index, name in enumerate(chosen)}, losses


def mask(
    chosen: Mapping[str, Tensor], signals: Mapping[str, Signals], pattern: Pattern, settings: Prune
) -> dict[str, Tensor]:
    """Score, allocate, and let the pattern choose: masks by layer name, on the CPU."""
    criterion: Criterion = resolve(pick(CRITERIA, settings.criterion, "criterion"))
    allocate: Allocation = resolve(pick(ALLOCATIONS, settings.allocation, "allocation"))
    scores = {name: criterion(w.detach(), signals[name]) for name, w in chosen.items()}
    counts = allocate(scores, settings.sparsity, settings.floor)
    return {name: pattern.keep(score, counts[name]).cpu() for name, score in scores.items()}


def _collapsed(masks: Mapping[str, Tensor]) -> list[str]:
    return [
        f"layer {name} lost all of its {keep.numel()} weights: nothing passes it; prune.floor prevents that"
        for name, keep in masks.items()
        if not keep.any()
    ]
