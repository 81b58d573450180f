"""The statistics of a study against printed tables, numpy, and a count of how often the interval covers the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.study.summary import paired, spread, t_quantile

PRINTED = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 29: 2.045, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("degrees", "value"), PRINTED.items())
def test_quantiles_are_those_that_are_printed(degrees: int, value: float) -> None:
    assert t_quantile(degrees) == pytest.approx(value, abs=5.1e-4)


def test_quantiles_in_closed_form_and_in_the_limit() -> None:
    for level in (0.5, 0.9, 0.99):
        assert t_quantile(1, level) == pytest.approx(math.tan(math.pi * level / 2))
        assert t_quantile(2, level) == pytest.approx(level * math.sqrt(2 / (1 - level**2)))
    assert t_quantile(100_001) == pytest.approx(1.959964, abs=1e-4)


values = st.lists(st.floats(0, 100, width=32), min_size=2, max_size=8)


@given(values)
def test_mean_and_deviation_are_numpys(seen: list[float]) -> None:
    found = spread(seen)
    assert found is not None
    assert (found.mean, found.deviation) == pytest.approx((np.mean(seen), np.std(seen, ddof=1)), abs=1e-9)
    assert found.n == len(seen)


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    one = spread([4.0])
    assert one is not None
    assert (one.mean, one.deviation, one.n) == (4.0, None, 1)
    assert spread([]) is None


def test_differences_are_paired_by_seed_by_hand() -> None:
    found = paired({0: 51.0, 1: 53.0, 2: 55.0, 7: 99.0}, {2: 54.0, 1: 51.0, 0: 48.0, 8: 1.0})
    assert found is not None
    half = 4.302653 * 1.0 / math.sqrt(3)  # differences 3, 2, 1: mean 2, deviation 1
    assert found.n == 3
    assert found.mean == pytest.approx(2.0)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_one_pair_has_no_interval_and_no_pair_no_difference() -> None:
    one = paired({0: 5.0, 1: 1.0}, {0: 3.0})
    assert one is not None
    assert (one.mean, one.interval, one.n) == (2.0, None, 1)
    assert paired({0: 5.0}, {1: 3.0}) is None


def test_the_interval_covers_the_true_difference_in_95_of_100_studies() -> None:
    draw, covered, studies = np.random.default_rng(0), 0, 2000
    for _ in range(studies):
        noise = draw.normal(1.0, 2.0, 3)
        found = paired(dict(enumerate(noise)), dict.fromkeys(range(3), 0.0))
        assert found is not None
        assert found.interval is not None
        covered += found.interval[0] <= 1.0 <= found.interval[1]
    assert covered / studies == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / studies))
