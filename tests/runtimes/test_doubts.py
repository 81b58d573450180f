import pytest

from runtimes.doubts import DOUBTS, Evidence, doubts
from runtimes.records import Workload

STEADY = [[1_000_000 + 100 * (i % 7) for i in range(40)] for _ in range(5)]


def evidence(**changes):
    calm = {
        "workload": Workload(min_samples=100),
        "rounds": STEADY,
        "cores": 4,
        "other_cores": [0.1, 0.0],
        "clocks_mhz": [1500.0, 1500.0],
        "throttling": [{"core_throttle_count": 3}, {"core_throttle_count": 3}],
    }
    return Evidence(**{**calm, **changes})


def scaled(factors):
    return [[int(sample * factor) for sample in row] for row, factor in zip(STEADY, factors, strict=True)]


SUSPECT = {
    "too_few_samples": {"rounds": [row[:3] for row in STEADY]},
    "outliers": {"rounds": [[*row[:-4], *[5_000_000] * 4] for row in STEADY]},
    "slow_first_run": {"rounds": scaled([1.3, 1, 1, 1, 1])},
    "drift": {"rounds": scaled([1, 1.05, 1.1, 1.15, 1.2])},
    "clock_change": {"clocks_mhz": [1500.0, 1200.0]},
    "throttled": {"throttling": [{"core_throttle_count": 3}, {"core_throttle_count": 4}]},
    "other_load": {"other_cores": [0.9, 0.7]},
    "non_finite": {"non_finite": 2},
}


def test_a_calm_machine_raises_no_doubt():
    assert doubts(evidence()) == []


def test_what_could_not_be_read_raises_no_doubt():
    assert doubts(evidence(other_cores=[], clocks_mhz=[], throttling=[])) == []


@pytest.mark.parametrize("code", DOUBTS)
def test_each_doubt_is_raised_by_its_own_case_alone(code):
    found = [doubt.code for doubt in doubts(evidence(**SUSPECT[code]))]
    assert code in found
    assert set(found) <= {code, "outliers"}  # rounds that differ also have outlying samples


@pytest.mark.parametrize(("bits", "doubted"), [(0x50005, True), (0x50000, False), (0x0, False)])
def test_raspberry_pi_marks_of_the_past_are_not_throttling_now(bits, doubted):
    marks = {"get_throttled": bits}
    assert bool(doubts(evidence(throttling=[marks, marks]))) == doubted


def test_one_round_of_one_sample_can_be_judged():
    assert [doubt.code for doubt in doubts(evidence(rounds=[[5]]))] == ["too_few_samples"]
