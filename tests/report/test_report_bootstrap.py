"""Ratios of latencies against enumeration and closed forms, and what is claimed of engines that are the same."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.report.bootstrap import apart, expansion, noise_floor, ratio, reach, student
from edgeprune.report.uncertainty import verdict

times = st.floats(0.1, 100.0)


def logs(top, bottom):
    return [np.log(np.array(a) / np.array(b)) for a, b in zip(top, bottom, strict=True)]


def all_medians(values):
    """The median of every resample of the values, with replacement."""
    return np.median(np.array(list(itertools.product(values, repeat=len(values)))), axis=1)


def inside(found, exact, slack=0.01):
    """Whether the drawn ends cut off 2.5 % of the exact distribution, give or take."""
    low, high = found.interval
    ends = [np.quantile(exact, level) for level in (0.025 - slack, 0.025 + slack, 0.975 - slack, 0.975 + slack)]
    less, more = 1 - 1e-6, 1 + 1e-6
    return ends[0] * less <= low <= ends[1] * more and ends[2] * less <= high <= ends[3] * more


@given(st.lists(st.tuples(times, times), min_size=6, max_size=6))
@settings(max_examples=15, deadline=None)
def test_one_pass_of_six_rounds_agrees_with_all_its_resamples(pairs):
    """6^6 resamples can be enumerated."""
    ratios = np.array([top / bottom for top, bottom in pairs])
    found = ratio([[top for top, _ in pairs]], [[bottom for _, bottom in pairs]])
    assert found.value == pytest.approx(float(np.median(ratios)))
    assert inside(found, all_medians(ratios))
    assert (found.rounds, found.passes) == (6, 1)


@given(st.lists(st.lists(st.tuples(times, times), min_size=3, max_size=3), min_size=2, max_size=2), st.booleans())
@settings(max_examples=15, deadline=None)
def test_two_passes_of_three_rounds_agree_with_all_their_resamples(passes, expand):
    """Four ways to draw two passes, and 27 x 27 to draw their rounds; expanded, a pass lies k times as far out."""
    top = [[a for a, _ in rounds] for rounds in passes]
    bottom = [[b for _, b in rounds] for rounds in passes]
    ratios = [np.array(a) / np.array(b) for a, b in zip(top, bottom, strict=True)]
    places = [math.log(np.median(each)) for each in ratios]
    center = sum(places) / 2
    factor = math.sqrt(2) * 12.7062 / 1.959964 if expand else 1.0
    drawn = [
        np.log(all_medians(each)) + (factor - 1) * (place - center) for each, place in zip(ratios, places, strict=True)
    ]
    exact = np.concatenate(
        [np.add.outer(drawn[i], drawn[j]).ravel() / 2 for i, j in itertools.product((0, 1), repeat=2)]
    )
    found = ratio(top, bottom, expand=expand)
    assert found.value == pytest.approx(math.exp(center))
    assert inside(found, np.exp(exact))
    assert (found.rounds, found.passes) == (6, 2)


@given(st.lists(times, min_size=6, max_size=6), st.lists(times, min_size=6, max_size=6))
@settings(max_examples=10, deadline=None)
def test_two_sessions_agree_with_all_resamples_of_both(top, bottom):
    """Each side's distribution is enumerated and thinned to its quantiles; the ratio's is that of all their pairs."""
    levels = (np.arange(1000) + 0.5) / 1000
    sides = [np.quantile(np.log(all_medians(values)), levels, method="inverted_cdf") for values in (top, bottom)]
    found = apart([top], [bottom])
    assert found.value == pytest.approx(np.median(top) / np.median(bottom))
    assert inside(found, np.exp(np.subtract.outer(*sides).ravel()), slack=0.012)


@given(st.lists(times, min_size=6, max_size=20), st.floats(0.2, 5.0), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_a_constant_factor_is_found_exactly_whatever_the_clock_does(dense, factor, passes):
    """Where every sparse round is `factor` times its dense one, drift cancels and the interval has no width."""
    found = ratio([[factor * value for value in dense]] * passes, [dense] * passes)
    assert found.interval == pytest.approx((factor, factor))
    assert found.value == pytest.approx(factor)


def test_sessions_apart_know_no_rounds_that_pair():
    """The same drift on both sides cancels in turns and does not cancel apart."""
    drifting = [1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]
    assert ratio([drifting], [drifting]).interval == pytest.approx((1.0, 1.0))
    low, high = apart([drifting], [drifting]).interval
    assert low < 0.9 < 1.1 < high


def test_the_passes_ratio_is_the_geometric_mean_so_that_the_inverse_is_the_inverse():
    passes, ones = [[2.0] * 3, [0.5] * 3], [[1.0] * 3] * 2
    there, back = ratio(passes, ones), ratio(ones, passes)
    assert there.value == pytest.approx(1.0)
    assert there.interval == pytest.approx((1 / back.interval[1], 1 / back.interval[0]))


def test_equal_input_gives_an_equal_interval_and_few_rounds_none():
    sparse, dense = [1.0, 1.1, 0.9, 1.2, 1.0, 1.05], [1.1, 1.0, 0.95, 1.1, 1.2, 1.0]
    assert ratio([sparse], [dense]) == ratio([sparse], [dense])
    few = ratio([sparse[:5]], [dense[:5]])
    assert few.interval is None
    assert "5 rounds" in few.reason
    assert apart([sparse], [dense[:5]]).interval is None


def test_passes_that_do_not_pair_are_a_programming_error():
    with pytest.raises(ValueError, match="argument"):
        ratio([[1.0] * 6], [[1.0] * 6] * 2)


@pytest.mark.parametrize("df", [1, 2, 3, 5, 10, 11, 12, 20, 50, 200])
def test_students_quantile_leaves_two_and_a_half_percent(df):
    """The density integrated by the trapezoidal rule from 0 to the quantile, in the angle that makes it finite."""
    angle = np.linspace(0, math.atan(student(df) / math.sqrt(df)), 20_001)
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    assert constant * np.trapezoid(np.cos(angle) ** (df - 1), angle) == pytest.approx(0.475, abs=2e-5)


def test_expansion_is_nothing_for_one_pass_and_for_many():
    assert expansion(1) == 1.0
    assert expansion(2) > expansion(3) > expansion(10) > expansion(1000) > 1.0
    assert expansion(100_000) == pytest.approx(1.0, abs=1e-4)


# --- the noise floor


def test_the_floor_is_the_end_that_lies_further_from_one():
    own, twin = [[1.0] * 6], [[0.8, 0.8, 0.8, 0.8, 0.8, 0.8]]
    assert noise_floor(twin, own, "").value == pytest.approx(0.25)
    assert noise_floor(own, twin, "").value == pytest.approx(0.25)
    spread = noise_floor([[0.5, 0.9, 0.95, 1.0, 1.05, 1.1]], own, "")
    assert spread.value == pytest.approx(max(1 / spread.ratio.interval[0], spread.ratio.interval[1]) - 1)


def test_the_floor_is_what_was_seen_and_no_wider():
    """Two processes, 2 % and 4 % off: the spread of the twin is not expanded for being seen only twice."""
    found = noise_floor([[1.02] * 6, [1.04] * 6], [[1.0] * 6] * 2, "")
    assert found.value == pytest.approx(0.04)
    assert reach(ratio([[1.02] * 6, [1.04] * 6], [[1.0] * 6] * 2)) > 0.1


@pytest.mark.parametrize(
    ("twin", "why"), [(None, "nobody ran"), ([[1.0] * 5], "did not run in every round"), ([[1.0] * 3], "every round")]
)
def test_no_floor_has_a_reason(twin, why):
    found = noise_floor(twin, [[1.0] * 6], "nobody ran")
    assert found.value is None
    assert why in found.reason


def test_a_floor_of_too_few_rounds_has_a_reason():
    found = noise_floor([[1.0] * 5], [[1.0] * 5], "")
    assert found.value is None
    assert "5 rounds" in found.reason


# --- what is claimed when nothing is there


def sessions(rng, count, passes, process, noise, effect=1.0, rounds=10):
    """Made-up sessions of a network, its baseline and the baseline's twin: every process of each is slower or faster
    by its own luck (`process`), and every round by chance (`noise`)."""
    for _ in range(count):
        luck = np.exp(rng.normal(0, process, (3, passes, 1)) + rng.normal(0, noise, (3, passes, rounds)))
        yield (luck[0] * effect).tolist(), luck[1].tolist(), luck[2].tolist()


def judged(sparse, dense, twin):
    return verdict(ratio(sparse, dense).interval, noise_floor(twin, dense, "").value)


@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize(("process", "noise"), [(0.0, 0.05), (0.03, 0.01), (0.1, 0.02)])
def test_the_same_engine_is_hardly_ever_called_different_though_its_processes_differ(passes, process, noise):
    """120 comparisons of an engine with itself; 95 % intervals alone would allow six claims, the floor forbids them."""
    claims = [judged(*each) for each in sessions(np.random.default_rng(7), 120, passes, process, noise)]
    assert sum(claim != "within noise" for claim in claims) <= 2


def test_one_pass_does_not_see_what_processes_differ_by_and_its_interval_says_less():
    """Why the standard protocol has three: by itself one pass calls the same engine different more often than not."""
    made = list(sessions(np.random.default_rng(3), 60, 1, 0.03, 0.005))
    alone = [verdict(ratio(sparse, dense).interval) for sparse, dense, _ in made]
    floored = [judged(*each) for each in made]
    assert sum(claim != "within noise" for claim in alone) > 30
    assert sum(claim != "within noise" for claim in floored) < sum(claim != "within noise" for claim in alone)


@pytest.mark.parametrize(("passes", "process"), [(1, 0.0), (2, 0.03), (3, 0.03), (5, 0.03)])
def test_intervals_cover_the_truth_as_often_as_they_say(passes, process):
    """150 intervals of 95 %: fewer than 88 % of them right has a chance below 1 in 1,000."""
    truth = 0.9
    made = sessions(np.random.default_rng(11), 150, passes, process, 0.02, effect=truth)
    found = [ratio(sparse, dense).interval for sparse, dense, _ in made]
    assert sum(low <= truth <= high for low, high in found) >= 0.88 * len(found)


def test_the_plain_bootstrap_of_two_passes_does_not_and_is_expanded_for_that():
    made = list(sessions(np.random.default_rng(11), 150, 2, 0.03, 0.01))
    plain = [ratio(sparse, dense, expand=False).interval for sparse, dense, _ in made]
    assert sum(low <= 1 <= high for low, high in plain) < 0.8 * len(plain)


def test_a_real_speed_up_is_found_in_spite_of_the_floor():
    made = sessions(np.random.default_rng(5), 60, 3, 0.01, 0.01, effect=0.8)
    assert sum(judged(*each) == "faster" for each in made) >= 57
