import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.latency import modified_z_scores, round_medians_ns, summary_ms, throughput_ips

rounds_of_samples = st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=20), min_size=1, max_size=6)


def percentile_by_hand(samples: list[int], p: float) -> float:
    """Type 7 of Hyndman and Fan, from its definition, on sorted samples."""
    ordered = sorted(samples)
    position = p / 100 * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


@given(rounds_of_samples)
def test_summary_equals_the_definition(rounds):
    samples = [sample for row in rounds for sample in row]
    summary = summary_ms(rounds)
    expected = {"median": 50, "p90": 90, "p99": 99, "min": 0, "max": 100}
    for key, p in expected.items():
        assert summary[key] == pytest.approx(percentile_by_hand(samples, p) / 1e6, rel=1e-9)
    assert summary["mean"] == pytest.approx(math.fsum(samples) / len(samples) / 1e6)


def test_throughput_counts_images_not_calls():
    assert throughput_ips([[10**6, 3 * 10**6], [2 * 10**6]], batch=8) == pytest.approx(3 * 8 / 0.006)


def test_round_medians():
    assert round_medians_ns([[1, 5, 3], [2, 4]]) == [3.0, 3.0]


def test_modified_z_scores_are_z_scores_of_a_normal_sample():
    """For a normal distribution MAD / 0.6745 is the standard deviation, so M_i is the usual z."""
    samples = np.random.default_rng(0).normal(100, 7, 200_000)
    usual = (samples - samples.mean()) / samples.std()
    np.testing.assert_allclose(modified_z_scores(samples), usual, atol=0.06)


def test_modified_z_scores_where_most_samples_are_equal():
    scores = modified_z_scores(np.array([5.0] * 9 + [15.0]))
    assert scores[-1] == pytest.approx(10 / (1.253314 * 1.0))
    assert not modified_z_scores(np.full(4, 3.0)).any()
