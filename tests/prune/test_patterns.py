"""Patterns: exact counts, N:M against every choice in every group, ties by position, refusals with a reason."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import toy

from edgeprune.layers import layers
from edgeprune.prune.patterns import Pattern
from edgeprune.prune.patterns.n_of_m import NOfM
from edgeprune.prune.patterns.shuffled import SHUFFLED
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.tables import PATTERNS
from runtimes.tables import resolve

SHAPES = [(6, 8, 3, 3), (1, 4, 1, 1), (5, 12, 2), (7, 16)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kept", [2, 1])
@pytest.mark.parametrize("ties", [False, True])
def test_n_of_m_is_the_best_of_all_choices_in_each_group_of_input_channels(
    shape: tuple[int, ...], kept: int, ties: bool
) -> None:
    """Groups are walked by hand: aligned fours along dim 1, at each output channel and kernel position."""
    draw = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 3, shape, generator=draw).double() if ties else torch.rand(shape, generator=draw)
    mask = NOfM(kept, 4).keep(scores, 0)
    assert mask.shape == shape
    assert mask.dtype == torch.bool
    for k, first, *position in product(range(shape[0]), range(0, shape[1], 4), *map(range, shape[2:])):
        places = [(k, first + offset, *position) for offset in range(4)]
        values = [float(scores[place]) for place in places]
        choices = combinations(range(4), kept)  # in the order of position: `max` keeps the first of equals
        best = max(choices, key=lambda chosen: sum(values[i] for i in chosen))
        assert [i for i in range(4) if mask[places[i]]] == list(best)


@pytest.mark.parametrize(("n", "kept"), [(2, 192), (2, 150), (2, 96), (2, 0), (1, 150), (1, 48)])
def test_a_growing_n_of_m_completes_the_groups_that_lose_least(n: int, kept: int) -> None:
    """192 weights in 48 groups: as many groups follow the pattern as leave `kept` weights or just more."""
    scores = torch.rand(6, 8, 2, 2, generator=torch.Generator().manual_seed(3))
    mask = NOfM(n, 4).keep(scores, kept)
    groups = [(k, c, i, j) for k, c, i, j in product(range(6), (0, 4), range(2), range(2))]
    whole = {place: bool(mask[place[0], place[1] : place[1] + 4, place[2], place[3]].all()) for place in groups}
    loss = {(k, c, i, j): sum(sorted(scores[k, c : c + 4, i, j].tolist())[: 4 - n]) for k, c, i, j in groups}
    follow = min(48, (192 - kept) // (4 - n))
    assert sum(not one for one in whole.values()) == follow
    assert int(mask.sum()) == 192 - follow * (4 - n)
    assert {place for place in groups if not whole[place]} == set(sorted(groups, key=loss.__getitem__)[:follow])


@given(n=st.integers(0, 40), values=st.lists(st.integers(0, 3), min_size=40, max_size=40))
@settings(max_examples=50, deadline=None)
def test_unstructured_keeps_exactly_the_first_of_the_largest(n: int, values: list[int]) -> None:
    mask = UNSTRUCTURED.keep(torch.tensor(values).view(4, 10).float(), n)
    order = sorted(range(40), key=lambda place: (-values[place], place))
    assert sorted(order[:n]) == mask.flatten().nonzero().flatten().tolist()


def test_equal_scores_are_decided_by_position_alone() -> None:
    for shape in SHAPES:
        assert NOfM(2, 4).keep(torch.zeros(shape), 0).movedim(1, -1).reshape(-1, 4).tolist()[0] == [
            True,
            True,
            False,
            False,
        ]
        kept = UNSTRUCTURED.keep(torch.zeros(shape), 3).flatten()
        assert kept[:3].all()
        assert not kept[3:].any()


REFUSED = {  # layer of the toy network -> what the reason must speak of
    "stem": "3 input channels",
    "norm1": "norm",
    "depthwise": "8 groups",
    "grouped": "2 groups",
    "head": "classifier",
}


@pytest.mark.parametrize("name", ["2:4", "1:4"])
def test_n_of_m_says_why_it_leaves_a_layer_dense(name: str) -> None:
    pattern: Pattern = resolve(PATTERNS[name])
    reasons = {layer.name: pattern.refuses(layer) for layer in layers(toy())}
    for layer, words in REFUSED.items():
        assert words in str(reasons[layer]), layer
    assert {layer for layer, reason in reasons.items() if reason is None} == {"conv", "pointwise", "hidden"}


# --- what every pattern of the table promises


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_pattern_keeps_the_contract(name: str, shape: tuple[int, ...]) -> None:
    pattern: Pattern = resolve(PATTERNS[name])
    assert pattern.name == name
    scores = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    fixed, _, group = name.partition(":")
    count = scores.numel() * int(fixed) // int(group) if group else scores.numel() // 3
    mask = pattern.keep(scores, count)
    assert int(mask.sum()) == count
    assert mask.shape == shape
    assert mask.flatten()[scores.argmax()] or name == "shuffled", "a lot may fall on any"
    assert torch.equal(mask, pattern.keep(scores.log() * 3 - 1, count)), "only the order of the scores counts"
    assert torch.equal(mask, pattern.keep(mask.float(), count)), "its own mask fits it"
    transposed = scores.transpose(0, -1).contiguous().transpose(0, -1)
    assert torch.equal(mask, pattern.keep(transposed, count)), "the memory layout is not part of the weight"


def test_shuffled_keeps_as_many_by_lot_among_those_that_are_alive() -> None:
    """The counts are exact, pruned weights stay out, and every alive weight gets its turn under other scores."""
    draw, seen = torch.Generator().manual_seed(0), torch.zeros(6, 8, dtype=torch.bool)
    for _ in range(60):
        scores = torch.rand(6, 8, generator=draw)
        scores[0] = -torch.inf
        mask = SHUFFLED.keep(scores, 10)
        assert int(mask.sum()) == 10
        assert torch.equal(mask, SHUFFLED.keep(scores, 10)), "equal input, equal lots"
        assert not torch.equal(mask, UNSTRUCTURED.keep(scores, 10))
        seen |= mask
    assert not seen[0].any()
    assert seen[1:].all()
