"""How many weights each layer keeps: `(scores by layer, sparsity, floor) -> kept counts by layer`, exact in total.

`sparsity` is the share of all weights. A score of -inf means that the weight is gone already: no layer is given more
weights than it has alive, and where fewer are alive than the sparsity leaves, all of them are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction

import torch
from torch import Tensor

from runtimes.errors import UserError

Allocation = Callable[[Mapping[str, Tensor], float, float], dict[str, int]]
_Divide = Callable[[Mapping[str, Tensor], int], dict[str, int]]  # (scores by layer, budget) -> counts
_Weigh = Callable[[Iterable[str]], Mapping[str, Fraction]]  # what each of these layers is to get, in proportion


def by_global_ranking(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """One threshold over all layers, from below which every layer keeps at least `floor` of its weights."""
    return _above_floor(_ranked, scores, sparsity, floor)


def uniform(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """The same share of each layer, at least `floor`; the largest remainders are rounded up, first ones first."""
    return _above_floor(_even, scores, sparsity, floor)


def erdos_renyi_kernel(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """Erdos-Renyi-Kernel (Evci et al. 2020, RigL, arXiv 1911.11134, section 3): small layers stay denser.

    The density of a layer is eps * (n_out + n_in + h + w) / (n_out * n_in * h * w), at most 1, with the eps that meets
    the sparsity; n_in is that of a group, as in the weight's shape. At least `floor`, and the largest remainders up.
    """
    return _above_floor(_by_dimensions, scores, sparsity, floor)


def by_entropy(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """EGP's budget (Liao et al. 2023, arXiv 2308.06619), from the scores |w| * H_l of the criterion `entropy`.

    I_l is the mean of the layer's positive scores, R_l = (sum of all I) / I_l, and softmax(R)_l the layer's share in
    what is removed now; what it cannot give, down to its floor, the others give in the same way. Layers with I_l = 0
    are left out, and give by their size only when the others have nothing left.
    """
    budget, least = _limits(scores, sparsity, floor)
    alive = _alive(scores)
    spare = {name: alive[name] - least[name] for name in scores}
    importance = {name: _mean_positive(layer) for name, layer in scores.items()}
    total = sum(importance.values())
    R = {name: total / mean for name, mean in importance.items() if mean > 0}
    excess = sum(alive.values()) - budget
    given = _share_out(lambda free: _softmax({name: R[name] for name in free}), {n: spare[n] for n in R}, excess)
    dead = {name: spare[name] for name in scores if name not in R}
    given |= _share_out(_sizes(scores), dead, excess - sum(given.values()))
    return {name: alive[name] - given[name] for name in scores}


def would_collapse(scores: Mapping[str, Tensor], allocate: Allocation, sparsity: float) -> list[str]:
    """The layers that `allocate` would leave with nothing if there were no floor; they must have had something."""
    counts, alive = allocate(scores, sparsity, 0.0), _alive(scores)
    return [name for name, count in counts.items() if count == 0 < alive[name]]


def kept_in_total(scores: Mapping[str, Tensor], sparsity: float) -> int:
    """N - round(sparsity * N): the zeros are what is rounded."""
    total = sum(layer.numel() for layer in scores.values())
    return total - round(sparsity * total)


def _limits(scores: Mapping[str, Tensor], sparsity: float, floor: float) -> tuple[int, dict[str, int]]:
    """How many weights are kept in all, and how many each layer keeps at least; `UserError` where both cannot be."""
    alive = _alive(scores)
    budget = min(kept_in_total(scores, sparsity), sum(alive.values()))
    least = {name: min(_least(layer.numel(), floor), alive[name]) for name, layer in scores.items()}
    if sum(least.values()) > budget:
        raise UserError(
            f"prune.floor = {floor:g} keeps {sum(least.values())} weights, but the sparsity leaves only {budget}",
            "lower prune.floor or prune.sparsity",
        )
    return budget, least


def _above_floor(divide: _Divide, scores: Mapping[str, Tensor], sparsity: float, floor: float) -> dict[str, int]:
    """Divide the budget; layers that get less than their floor are set to it, and the others divide what is left.

    Again until none falls below: the total stays exact.
    """
    budget, least = _limits(scores, sparsity, floor)
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
    return _share_out(_sizes(scores), _alive(scores), budget)


def _by_dimensions(scores: Mapping[str, Tensor], budget: int) -> dict[str, int]:
    return _share_out(lambda free: {name: Fraction(sum(scores[name].shape)) for name in free}, _alive(scores), budget)


def _share_out(weigh: _Weigh, most: Mapping[str, int], budget: int) -> dict[str, int]:
    """Divide `budget` in the proportions of `weigh`, no layer getting more than its `most`; all of it if it fits.

    A layer whose part is too large is filled, and the others are weighed anew for what is left. Parts are exact
    fractions, rounded down; the largest remainders are rounded up, first ones first.
    """
    counts: dict[str, int] = {}
    left, free = budget, list(most)
    while free:
        weight = weigh(free)
        total = sum(weight.values())
        parts = {name: left * weight[name] / total for name in free}
        over = [name for name, part in parts.items() if part >= most[name]]
        if not over:
            return {**counts, **_rounded(parts)}
        counts |= {name: most[name] for name in over}
        left -= sum(most[name] for name in over)
        free = [name for name in free if name not in over]
    return counts


def _sizes(scores: Mapping[str, Tensor]) -> _Weigh:
    return lambda free: {name: Fraction(scores[name].numel()) for name in free}


def _rounded(parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Whole numbers with the same sum."""
    counts = {name: math.floor(part) for name, part in parts.items()}
    lost = sorted(parts, key=lambda name: counts[name] - parts[name])
    for name in lost[: round(sum(parts.values())) - sum(counts.values())]:
        counts[name] += 1
    return counts


def _softmax(R: Mapping[str, float]) -> dict[str, Fraction]:
    """Up to a factor."""
    largest = max(R.values())
    return {name: Fraction(math.exp(value - largest)) for name, value in R.items()}


def _alive(scores: Mapping[str, Tensor]) -> dict[str, int]:
    return {name: layer.numel() - int(torch.isneginf(layer).sum()) for name, layer in scores.items()}


def _mean_positive(layer: Tensor) -> float:
    positive = layer[layer > 0].double()
    return float(positive.mean()) if positive.numel() else 0.0


def _least(size: int, floor: float) -> int:
    return max(1, round(floor * size)) if floor > 0 else 0
