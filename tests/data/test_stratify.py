"""The hold-out: exact totals, every class within one of its share, nothing in both parts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.data.stratify import hold_out, quotas


@given(
    sizes=st.lists(st.integers(0, 60), min_size=1, max_size=12),
    fraction=st.floats(0, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_partition_with_exact_total_and_each_class_within_one(sizes: list[int], fraction: float, seed: int) -> None:
    labels = np.random.RandomState(1).permutation(np.repeat(np.arange(len(sizes)), sizes))
    kept, held = hold_out(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert len(held) == round(len(labels) * fraction)
    for label, size in enumerate(sizes):
        assert abs(np.count_nonzero(labels[held] == label) - size * fraction) < 1


def test_largest_remainders_are_rounded_up_and_the_first_class_goes_first() -> None:
    assert quotas(np.array([15, 15, 15, 15]), 0.1).tolist() == [2, 2, 1, 1]
    assert quotas(np.array([12, 19, 9]), 0.1).tolist() == [1, 2, 1]


def test_another_seed_holds_out_others() -> None:
    labels = np.arange(200) % 5
    held = [hold_out(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1)]
    assert held[0] == held[1] != held[2]


def test_the_split_of_a_seed_never_changes() -> None:
    """Numbers written down once: a split that moved would let yesterday's training images into today's test."""
    _, held = hold_out(np.arange(20) % 2, 0.3, 0)
    assert held.tolist() == [1, 8, 10, 17, 18, 19]
