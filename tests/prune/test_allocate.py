"""Allocations: exact totals whatever the sizes, and the global one against brute force, ties and floors included."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.models.resnet_small_stem import resnet18
from edgeprune.prune.allocate import (
    Allocation,
    by_entropy,
    by_global_ranking,
    erdos_renyi_kernel,
    uniform,
    would_collapse,
)
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


# --- what has been pruned before


@pytest.mark.parametrize("name", ALLOCATIONS)
@given(sizes=SIZES, sparsity=SPARSITY, gone=st.floats(0, 1), floor=st.sampled_from([0.0, 0.01]), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_layer_gets_more_than_it_has_alive_and_the_total_is_that_of_all_weights(
    name: str, sizes: list[int], sparsity: float, gone: float, floor: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = {
        layer: score.masked_fill(torch.rand(score.shape, generator=draw) < gone, -math.inf)
        for layer, score in layers(sizes, seed).items()
    }
    alive = {layer: sum(v > -math.inf for v in score.tolist()) for layer, score in scores.items()}
    allowed = min(budget(sizes, sparsity), sum(alive.values()))
    if floor and sum(count > 0 for count in alive.values()) > allowed:
        return
    counts = resolve(ALLOCATIONS[name])(scores, sparsity, floor)
    assert sum(counts.values()) == allowed
    for layer, count in counts.items():
        assert min(alive[layer], int(floor > 0)) <= count <= alive[layer]


def test_uniform_gives_what_a_layer_has_not_alive_to_the_others() -> None:
    scores = {"a": torch.ones(100), "b": torch.ones(100), "c": torch.ones(100)}
    scores["a"][10:] = -math.inf
    assert uniform(scores, 0.5, 0.0) == {"a": 10, "b": 70, "c": 70}


# --- Erdos-Renyi-Kernel


def test_erk_has_the_densities_of_resnet18_at_three_halves_of_a_percent() -> None:
    """What a public implementation of ERK prints for the small-stem ResNet-18, convolutions at 98.5 %."""
    convs = {
        name: torch.zeros(1).expand(module.weight.shape)
        for name, module in resnet18(classes=10, channels=3).named_modules()
        if isinstance(module, nn.Conv2d)
    }
    counts = erdos_renyi_kernel(convs, 0.985, 0.0)
    density = {name: 100 * counts[name] / w.numel() for name, w in convs.items()}
    assert sum(counts.values()) == budget([w.numel() for w in convs.values()], 0.985)
    assert density["conv1"] == pytest.approx(81, abs=0.6)
    for stage, shortcut in ((2, 45), (3, 23), (4, 11)):
        assert density[f"layer{stage}.0.downsample.0"] == pytest.approx(shortcut, abs=0.6)
    for stage, least, most in ((1, 7, 7), (2, 3.4, 5), (3, 1.7, 2.5), (4, 0.84, 1.3)):
        found = [v for name, v in density.items() if name.startswith(f"layer{stage}") and "downsample" not in name]
        assert min(found) == pytest.approx(least, rel=0.06)
        assert max(found) == pytest.approx(most, rel=0.06)


SHAPES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=6)


@given(shapes=SHAPES, sparsity=SPARSITY)
@settings(max_examples=60, deadline=None)
def test_erk_is_one_epsilon_for_all_layers_that_are_not_full(shapes: list[list[int]], sparsity: float) -> None:
    """eps by bisection: density = min(1, eps * sum / product); rounding moves a layer by less than one weight."""
    scores = {f"l{i}": torch.zeros(shape) for i, shape in enumerate(shapes)}
    total = budget([math.prod(shape) for shape in shapes], sparsity)
    low, high = 0.0, 1e6
    for _ in range(200):
        eps = (low + high) / 2
        kept = sum(min(math.prod(shape), eps * sum(shape)) for shape in shapes)
        low, high = (eps, high) if kept < total else (low, eps)
    for count, shape in zip(erdos_renyi_kernel(scores, sparsity, 0.0).values(), shapes, strict=True):
        assert abs(count - min(math.prod(shape), eps * sum(shape))) < 1 + 1e-6


# --- EGP's budget


def test_egp_removes_by_the_softmax_of_inverse_importance() -> None:
    """I = (1, 2, 4) makes R = (7, 7/2, 7/4): half of 3,000 weights go by the softmax of that, to the nearest weight."""
    scores = {"a": torch.full((2000,), 1.0), "b": torch.full((500,), 2.0), "c": torch.full((500,), 4.0)}
    odds = [math.exp(7 / importance) for importance in (1, 2, 4)]
    counts = by_entropy(scores, 0.5, 0.0)
    for (name, layer), odd in zip(scores.items(), odds, strict=True):
        assert abs(layer.numel() - counts[name] - 1500 * odd / sum(odds)) < 1


def test_egp_takes_from_the_others_what_a_layer_cannot_give() -> None:
    """1,200 are to go, of which `a` would give more than it has; the others share the rest in their own proportion."""
    scores = {"a": torch.full((1000,), 1.0), "b": torch.full((500,), 2.0), "c": torch.full((500,), 4.0)}
    b, c = math.exp(3.5), math.exp(1.75)
    for floor, kept, rest in ((0.0, 0, 200), (0.1, 100, 300)):
        counts = by_entropy(scores, 0.6, floor)
        assert counts["a"] == kept
        assert 500 - counts["b"] == pytest.approx(rest * b / (b + c), abs=1)
        assert sum(counts.values()) == 800


def test_egp_measures_importance_over_living_weights_and_leaves_layers_without_entropy_out() -> None:
    """A layer's pruned weights do not lower its mean, and one whose units are decided gives only what no other can."""
    scores = {"a": torch.full((100,), 1.0), "b": torch.full((100,), 1.0), "decided": torch.zeros(100)}
    scores["a"][:50] = -math.inf
    assert by_entropy(scores, 0.3, 0.0) == {"a": 30, "b": 80, "decided": 100}
    assert by_entropy(scores, 0.5, 0.0) == {"a": 0, "b": 50, "decided": 100}
    assert by_entropy(scores, 0.8, 0.0) == {"a": 0, "b": 0, "decided": 60}


def test_egp_stands_importances_of_very_different_size() -> None:
    """Softmax of R = 1e6 and more: the least important layer is emptied first, then the next."""
    scores = {"a": torch.full((10,), 1e-6), "b": torch.full((10,), 1e-3), "c": torch.full((10,), 1.0)}
    assert by_entropy(scores, 0.5, 0.0) == {"a": 0, "b": 5, "c": 10}


# --- collapse


def test_layers_that_a_floor_saves_are_named() -> None:
    scores = {"strong": torch.full((50,), 9.0), "weak": torch.rand(50), "gone": torch.full((5,), -math.inf)}
    assert would_collapse(scores, by_global_ranking, 0.6) == ["weak"]
    assert would_collapse(scores, by_global_ranking, 0.4) == []
    assert would_collapse(scores, uniform, 0.6) == []
    assert by_global_ranking(scores, 0.6, 0.1)["weak"] == 5
