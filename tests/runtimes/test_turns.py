"""The order of turns: who comes after whom, and who comes first, counted over whole measurements."""

from __future__ import annotations

import collections
import itertools

import pytest

from runtimes.turns import Turns

PROTOCOLS = [(2, 6), (3, 10), (2, 5)]  # passes and rounds: quick, standard, mlperf-like


def orders(count: int, passes: int, rounds: int) -> list[list[list[int]]]:
    turns = Turns(count)
    found = []
    for _ in range(passes):
        turns.open()
        found.append([turns.order() for _ in range(rounds)])
    return found


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize(("passes", "rounds"), PROTOCOLS)
def test_each_engine_has_one_turn_in_each_round(count: int, passes: int, rounds: int) -> None:
    for order in itertools.chain(*orders(count, passes, rounds)):
        assert sorted(order) == list(range(count))


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize(("passes", "rounds"), PROTOCOLS)
def test_each_engine_comes_after_each_other_about_as_often(count: int, passes: int, rounds: int) -> None:
    """Borders between two rounds of a pass are among them. A fixed order would make it all or nothing."""
    after = collections.Counter()
    for one in orders(count, passes, rounds):
        after.update(itertools.pairwise(itertools.chain(*one)))
    pairs = [after[pair] for pair in itertools.permutations(range(count), 2)]
    mean = sum(pairs) / len(pairs)
    assert max(pairs) <= mean + 2
    assert min(pairs) >= mean - 3
    if passes * rounds >= 30:
        assert min(pairs) >= 1


@pytest.mark.parametrize("count", range(2, 10))
@pytest.mark.parametrize(("passes", "rounds"), PROTOCOLS)
def test_no_engine_opens_two_passes_before_each_has_opened_one(count: int, passes: int, rounds: int) -> None:
    first = [one[0][0] for one in orders(count, passes, rounds)]
    assert len(set(first)) == min(count, passes)


@pytest.mark.parametrize("count", range(2, 10))
def test_no_engine_keeps_a_place(count: int) -> None:
    places = collections.Counter()
    for order in itertools.chain(*orders(count, 3, 10)):
        places.update(enumerate(order))
    assert max(places.values()) <= 30 / count + 4


def test_the_same_engines_have_the_same_orders_every_time() -> None:
    assert orders(5, 2, 6) == orders(5, 2, 6)
    assert orders(3, 1, 4) == [[[0, 1, 2], [1, 0, 2], [2, 0, 1], [1, 2, 0]]]
