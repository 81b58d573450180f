"""Intervals against oracles by other routes: bisection, full enumeration, counting."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.report import uncertainty
from edgeprune.report.uncertainty import Z, quantiles, ratio, standard_error, verdict, wilson

times = st.floats(0.1, 100.0)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_where_the_score_test_rejects(counts):
    """By definition the ends are the accuracies p with |seen - p| = Z sqrt(p (1 - p) / n): found here by bisection."""
    correct, n = counts
    seen = correct / n

    def rejected(p: float) -> bool:
        return abs(seen - p) > Z * math.sqrt(p * (1 - p) / n)

    def edge(outside: float) -> float:
        inside = seen
        for _ in range(80):
            middle = (outside + inside) / 2
            outside, inside = (middle, inside) if rejected(middle) else (outside, middle)
        return 100 * inside

    low, high = wilson(100 * seen, n)
    assert low == pytest.approx(edge(0.0), abs=1e-6)
    assert high == pytest.approx(edge(1.0), abs=1e-6)


def test_standard_error_is_the_deviation_of_a_binomial_share():
    n, p = 12, 0.3
    chances = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    variance = sum(chance * (k / n - p) ** 2 for k, chance in enumerate(chances))
    assert standard_error(100 * p, n) == pytest.approx(100 * math.sqrt(variance))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_no_accuracy_is_known_without_error_and_no_error_is_below_the_binomial(counts):
    """Two images of each kind more, nearly: the rule of thumb behind Agresti and Coull's interval."""
    correct, n = counts
    p, thumb = correct / n, (correct + 2) / (n + 4)
    found = standard_error(100 * p, n) / 100
    assert found >= math.sqrt(p * (1 - p) / n) - 1e-12
    assert found >= 0.97 * math.sqrt(thumb * (1 - thumb) / (n + 4)) > 0


@given(st.lists(st.tuples(times, times), min_size=6, max_size=6))
@settings(max_examples=15, deadline=None)
def test_bootstrap_of_six_rounds_agrees_with_all_their_resamples(pairs):
    """6^6 resamples can be enumerated: the drawn ends must cut off between 1.5 and 3.5 % of the exact distribution."""
    ratios = np.array([top / bottom for top, bottom in pairs])
    exact = np.median(ratios[np.array(list(itertools.product(range(6), repeat=6)))], axis=1)
    found = ratio([top for top, _ in pairs], [bottom for _, bottom in pairs])
    assert found.value == pytest.approx(float(np.median(ratios)))
    low, high = found.interval
    assert np.quantile(exact, 0.015) - 1e-9 <= low <= np.quantile(exact, 0.035) + 1e-9
    assert np.quantile(exact, 0.965) - 1e-9 <= high <= np.quantile(exact, 0.985) + 1e-9


@given(st.lists(times, min_size=6, max_size=20), st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_a_constant_factor_is_found_exactly(dense, factor):
    """Where every sparse round is `factor` times its dense one, drift cancels and the interval has no width."""
    found = ratio([factor * value for value in dense], dense)
    assert found.interval == pytest.approx((factor, factor))
    assert found.value == pytest.approx(factor)


def test_equal_input_gives_an_equal_interval_and_few_rounds_none():
    sparse, dense = [1.0, 1.1, 0.9, 1.2, 1.0, 1.05], [1.1, 1.0, 0.95, 1.1, 1.2, 1.0]
    assert ratio(sparse, dense) == ratio(sparse, dense)
    few = ratio(sparse[:5], dense[:5])
    assert few.interval is None
    assert "5 rounds" in few.reason


def test_two_equal_engines_are_rarely_called_different():
    """Under the null, whatever the noise, a claim has to be rare: here at most 5 % of 400 comparisons."""
    rng = np.random.default_rng(7)
    noise = np.exp(rng.normal(0, 0.05, size=(400, 2, 10)))
    claims = [verdict(ratio(list(sparse), list(dense)).interval) for sparse, dense in noise]
    assert sum(claim != "within noise" for claim in claims) <= 20


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (None, "not known"),
        ((0.99, 1.01), "within noise"),
        ((0.5, 1.0), "within noise"),
        ((0.98, 0.995), "within noise"),  # repeatable, and too small to claim
        ((1.005, 1.2), "within noise"),
        ((0.5, 0.99), "faster"),
        ((1.01, 1.5), "slower"),
    ],
)
def test_a_verdict_needs_the_whole_interval(interval, expected):
    assert verdict(interval) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(0, 100))
def test_quantiles_invert_the_counted_distribution_function(values, percent):
    found = quantiles(values, [percent / 100])[0]
    assert found in values
    assert sum(v <= found for v in values) / len(values) >= percent / 100 - 1e-12
    below = sum(v < found for v in values) / len(values)
    assert below < percent / 100 or (percent == 0 and below == 0)


def test_the_fewest_rounds_are_those_whose_agreement_is_rarer_than_the_level():
    assert 2 / 2**uncertainty.LEAST_ROUNDS < 1 - uncertainty.LEVEL < 2 / 2 ** (uncertainty.LEAST_ROUNDS - 1)
