"""Intervals against oracles by other routes: bisection, full enumeration, counting."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.report import uncertainty
from edgeprune.report.uncertainty import (
    Z,
    mcnemar,
    mcnemar_at_most,
    paired_error,
    quantiles,
    standard_error,
    verdict,
    wilson,
)


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


@pytest.mark.parametrize(
    ("interval", "floor", "expected"),
    [
        (None, None, "not known"),
        (None, 0.0, "not known"),
        ((0.99, 1.01), None, "within noise"),
        ((0.5, 1.0), None, "within noise"),
        ((0.98, 0.995), None, "within noise"),  # repeatable, and too small to claim
        ((1.005, 1.2), None, "within noise"),
        ((0.5, 0.99), None, "faster"),
        ((1.01, 1.5), None, "slower"),
        ((0.5, 0.99), 0.001, "faster"),  # the least effect still counts
        ((0.995, 0.998), 0.0, "within noise"),
        ((0.5, 0.80), 0.25, "faster"),  # 1 / 1.25
        ((0.5, 0.81), 0.25, "within noise"),
        ((1.25, 1.5), 0.25, "slower"),
        ((1.24, 1.5), 0.25, "within noise"),
    ],
)
def test_a_verdict_needs_the_whole_interval_beyond_the_noise_floor(interval, floor, expected):
    assert verdict(interval, floor) == expected


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50), st.integers(0, 100))
def test_quantiles_invert_the_counted_distribution_function(values, percent):
    found = quantiles(values, [percent / 100])[0]
    assert found in values
    assert sum(v <= found for v in values) / len(values) >= percent / 100 - 1e-12
    below = sum(v < found for v in values) / len(values)
    assert below < percent / 100 or (percent == 0 and below == 0)


@settings(deadline=None)  # it goes through all tosses one by one
@given(st.integers(0, 9), st.integers(0, 9))
def test_mcnemar_counts_the_coin_tosses_that_are_as_lopsided(first, second):
    """All 2^n ways in which n images could have fallen to either network, each as likely."""
    n = first + second
    tosses = [sum(toss) for toss in itertools.product((0, 1), repeat=n)]
    as_far = sum(abs(2 * heads - n) >= abs(first - second) for heads in tosses)
    assert mcnemar(first, second) == pytest.approx(as_far / 2**n)


@given(st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(-n, n))))
def test_the_bound_without_labels_is_the_worst_of_all_labels(counts):
    """Every split of the differing answers into right here, right there and wrong in both that makes the difference."""
    differing, difference = counts
    splits = [(b, c) for b in range(differing + 1) for c in range(differing + 1 - b) if b - c == difference]
    assert mcnemar_at_most(differing, difference) == pytest.approx(max(mcnemar(b, c) for b, c in splits))


def test_a_difference_larger_than_the_differing_answers_is_refused():
    with pytest.raises(ValueError, match="2 answers differ"):
        mcnemar_at_most(2, -3)


def test_mcnemar_of_an_imagenets_worth_of_answers_is_quick_and_exact():
    """The binomial tail by logarithms of the gamma function instead of whole numbers."""
    first, second = 4000, 4200
    n = first + second
    log_tail = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(first + 1)]
    expected = 2 * math.fsum(math.exp(value - n * math.log(2)) for value in log_tail)
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.sampled_from((-1, 0, 0, 0, 0, 1)), min_size=4, max_size=200))
def test_the_error_of_a_paired_difference_is_that_of_the_images_differences(scores):
    """Each image adds 1, 0 or -1; the standard error of their mean, from its definition, is never underestimated."""
    n, differing = len(scores), sum(map(abs, scores))
    found = paired_error(differing, sum(scores), n)
    assert found >= 100 * np.std(scores) / math.sqrt(n) - 1e-9
    assert found > 0
    with_two_more = 100 * math.sqrt(np.var(scores) * n + 2) / n
    assert found == pytest.approx(with_two_more)


def test_the_fewest_rounds_are_those_whose_agreement_is_rarer_than_the_level():
    assert 2 / 2**uncertainty.LEAST_ROUNDS < 1 - uncertainty.LEVEL < 2 / 2 ** (uncertainty.LEAST_ROUNDS - 1)
