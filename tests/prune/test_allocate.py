"""Allocations: exact totals whatever the sizes, and the global one against brute force, ties and floors included."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeprune.prune.allocate import Allocation, by_global_ranking, uniform
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.tables import ALLOCATIONS
from runtimes.errors import UserError
from runtimes.tables import resolve

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)
SPARSITY = st.one_of(st.floats(0, 0.999), st.sampled_from([0.0, 0.5, 0.9, 0.985]))


def layers(sizes: list[int], seed: int, ties: bool = True) -> dict[str, Tensor]:
    """Scores by layer: small whole numbers, so that many are equal, or all different."""
    draw = torch.Generator().manual_seed(seed)
    if ties:
        return {f"l{i}": torch.randint(0, 5, (n,), generator=draw).double() for i, n in enumerate(sizes)}
    everything = torch.randperm(sum(sizes), generator=draw).double()
    return {f"l{i}": part for i, part in enumerate(everything.split(sizes))}


def budget(sizes: list[int], sparsity: float) -> int:
    return sum(sizes) - round(sparsity * sum(sizes))


@pytest.mark.parametrize("name", ALLOCATIONS)
@given(sizes=SIZES, sparsity=SPARSITY, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_every_allocation_is_exact_in_total_and_possible(
    name: str, sizes: list[int], sparsity: float, seed: int
) -> None:
    allocate: Allocation = resolve(ALLOCATIONS[name])
    scores = layers(sizes, seed)
    counts = allocate(scores, sparsity, 0.0)
    assert list(counts) == list(scores)
    assert sum(counts.values()) == budget(sizes, sparsity)
    assert all(0 <= counts[name] <= score.numel() for name, score in scores.items())
    assert counts == allocate(scores, sparsity, 0.0)


@given(sizes=SIZES, sparsity=SPARSITY, seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_the_global_one_keeps_the_highest_scores_of_all_first_ones_first(
    sizes: list[int], sparsity: float, seed: int
) -> None:
    """Brute force: all weights in one sorted list, equal scores in the order of layer and position."""
    scores = layers(sizes, seed)
    everything = [(-float(v), i, k) for i, layer in enumerate(scores.values()) for k, v in enumerate(layer)]
    kept = {(i, k) for _, i, k in sorted(everything)[: budget(sizes, sparsity)]}
    counts = by_global_ranking(scores, sparsity, 0.0)
    for i, (name, layer) in enumerate(scores.items()):
        mask = UNSTRUCTURED.keep(layer, counts[name])
        assert mask.tolist() == [(i, k) in kept for k in range(len(layer))]


@given(sizes=SIZES, sparsity=SPARSITY, floor=st.floats(0.001, 0.9), seed=st.integers(0, 9))
@settings(max_examples=120, deadline=None)
def test_floors_are_held_at_the_least_loss_of_score(sizes: list[int], sparsity: float, floor: float, seed: int) -> None:
    """Another route to the optimum: give each layer its floor, then fill up with the best of what is left."""
    scores = layers(sizes, seed, ties=False)
    least = {name: max(1, round(floor * layer.numel())) for name, layer in scores.items()}
    total = budget(sizes, sparsity)
    if sum(least.values()) > total:
        with pytest.raises(UserError, match=r"prune\.floor"):
            by_global_ranking(scores, sparsity, floor)
        return
    counts = by_global_ranking(scores, sparsity, floor)
    expected = dict(least)
    ranked = {name: layer.sort(descending=True).values.tolist() for name, layer in scores.items()}
    rest = sorted(((v, name) for name, row in ranked.items() for v in row[least[name] :]), reverse=True)
    for _, name in rest[: total - sum(least.values())]:
        expected[name] += 1
    assert counts == expected


@given(sizes=SIZES, sparsity=SPARSITY)
@settings(max_examples=60, deadline=None)
def test_the_uniform_one_is_within_one_weight_of_the_share_in_each_layer(sizes: list[int], sparsity: float) -> None:
    for layer, count in zip(sizes, uniform(layers(sizes, 0), sparsity, 0.0).values(), strict=True):
        assert abs(count * sum(sizes) - layer * budget(sizes, sparsity)) < sum(sizes)


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_a_floor_that_the_sparsity_does_not_leave_is_told(name: str) -> None:
    with pytest.raises(UserError, match=r"prune\.floor = 0\.2 keeps 20 weights, .* leaves only 10"):
        resolve(ALLOCATIONS[name])({"a": torch.rand(50), "b": torch.rand(50)}, 0.9, 0.2)


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_a_floor_keeps_every_layer_alive(name: str) -> None:
    """A layer of two weights at 90 %: its even share rounds to nothing."""
    counts = resolve(ALLOCATIONS[name])({"large": torch.ones(100), "small": torch.zeros(2)}, 0.9, 0.01)
    assert counts["small"] >= 1
    assert sum(counts.values()) == 102 - 92


def test_a_network_of_one_weight_each_and_no_room_at_all() -> None:
    assert by_global_ranking({"a": torch.ones(1)}, 0.6, 0.0) == {"a": 0}
    assert uniform({"a": torch.ones(1)}, 0.6, 0.0) == {"a": 0}
