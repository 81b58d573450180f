"""How many weights each layer keeps: `(scores by layer, sparsity, floor) -> kept counts by layer`, exact in total."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from runtimes.errors import UserError

Allocation = Callable[[Mapping[str, Tensor], float, float], dict[str, int]]
_Divide = Callable[[Mapping[str, Tensor], int], dict[str, int]]  # (scores by layer, budget) -> counts


def by_global_ranking(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """One threshold over all layers, from below which every layer keeps at least `floor` of its weights."""
    return _above_floor(_ranked, scores, sparsity, floor)


def uniform(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """The same share of each layer, at least `floor`; the largest remainders are rounded up, first ones first."""
    return _above_floor(_even, scores, sparsity, floor)


def kept_in_total(scores: Mapping[str, Tensor], sparsity: float) -> int:
    """N - round(sparsity * N): the zeros are what is rounded."""
    total = sum(layer.numel() for layer in scores.values())
    return total - round(sparsity * total)


def _above_floor(divide: _Divide, scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """Divide the budget; layers that get less than their floor are set to it, and the others divide what is left.

    Again until none falls below: the total stays exact.
    """
    budget = kept_in_total(scores, sparsity)
    least = {name: _least(layer.numel(), floor) for name, layer in scores.items()}
    _check_floor(sum(least.values()), budget, floor)
    fixed: dict[str, int] = {}
    while True:
        free = {name: layer for name, layer in scores.items() if name not in fixed}
        counts = divide(free, budget - sum(fixed.values())) if free else {}
        short = [name for name, count in counts.items() if count < least[name]]
        if not short:
            return {name: fixed.get(name, counts.get(name, 0)) for name in scores}
        fixed |= {name: least[name] for name in short}


def _ranked(scores: Mapping[str, Tensor], budget: int) -> dict[str, int]:
    sizes = torch.tensor([layer.numel() for layer in scores.values()])
    order = torch.cat([layer.flatten() for layer in scores.values()]).argsort(descending=True, stable=True)
    owners = torch.repeat_interleave(torch.arange(len(sizes)), sizes)[order[:budget].cpu()]
    return dict(zip(scores, torch.bincount(owners, minlength=len(sizes)).tolist(), strict=True))


def _even(scores: Mapping[str, Tensor], budget: int) -> dict[str, int]:
    sizes = {name: layer.numel() for name, layer in scores.items()}
    total = sum(sizes.values())
    counts = {name: size * budget // total for name, size in sizes.items()}
    lost = sorted(sizes, key=lambda name: -(sizes[name] * budget % total))
    for name in lost[: budget - sum(counts.values())]:
        counts[name] += 1
    return counts


def _least(size: int, floor: float) -> int:
    return max(1, round(floor * size)) if floor > 0 else 0


def _check_floor(least: int, budget: int, floor: float) -> None:
    if least > budget:
        raise UserError(
            f"prune.floor = {floor:g} keeps {least} weights, but the sparsity leaves only {budget}",
            "lower prune.floor or prune.sparsity",
        )
