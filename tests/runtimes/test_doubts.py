"""Each doubt is raised by its own case, and by nothing else."""

import pytest

from runtimes.doubts import DOUBTS, Evidence, doubts
from runtimes.records import Workload

STEADY = [[1_000_000 + 100 * (i % 7) for i in range(40)] for _ in range(5)]


JETSON = {
    "l4t": "36.4.4",
    "stand_in": None,
    "clocks_pinned": {"before": {"gpu": False, "cpu": False}, "after": {"gpu": True, "cpu": True}},
    "gpu_clock_mhz": {"before": None, "after": {"min": 306, "cur": 306, "max": 1020}},
    "swap_used_bytes": {"before": 5 << 20, "after": 5 << 20},
    "throttled": {"before": None, "after": {"now": "no", "since boot": "under-voltage"}},
    "busy_programs": {"before": None, "after": []},
}


def with_fact(name, value):
    return {**JETSON, name: value}


def evidence(**changes):
    calm = {
        "workload": Workload(min_samples=100, passes=1, rounds=5),
        "rounds": STEADY,
        "cores": 4,
        "other_cores": [0.1, 0.0],
        "clocks_mhz": [1500.0, 1500.0],
        "throttling": [{"core_throttle_count": 3}, {"core_throttle_count": 3}],
        "facts": JETSON,
    }
    return Evidence(**{**calm, **changes})


def scaled(factors):
    return [[int(sample * factor) for sample in row] for row, factor in zip(STEADY, factors, strict=False)]


GRAPH = Workload(min_samples=100, passes=1, rounds=5, options={"cuda_graph": "1"})
TEN_MINUTES = Workload().changed(protocol="mlperf-like", rounds=5, min_samples=100)
LOOSE = {"after": {"gpu": False, "cpu": False}}
SUSPECT = {
    "too_few_samples": {"rounds": [row[:3] for row in STEADY]},
    "outliers": {"rounds": [[*row[:-4], *[5_000_000] * 4] for row in STEADY]},
    "slow_first_run": {"rounds": scaled([1.3, 1, 1, 1, 1])},
    "drift": {"rounds": scaled([1, 1.05, 1.1, 1.15, 1.2])},
    "clock_change": {"clocks_mhz": [1500.0, 1200.0]},
    "throttled": {"throttling": [{"core_throttle_count": 3}, {"core_throttle_count": 4}]},
    "slowed_down": {"facts": {"throttled": {"before": {"now": "no"}, "after": {"now": "cpufreq-cpu0"}}}},
    "other_load": {"other_cores": [0.9, 0.7]},
    "non_finite": {"non_finite": 2},
    "cuda_graph": {"workload": GRAPH, "engine": {"cuda_graph": "it cannot be captured: no"}},
    "enqueue-bound": {"engine": {"enqueue_ms": {"median": 0.9}}, "gpu_rounds": [[1_000_000] * 3]},
    "little_memory": {"engine": {"build": {"available_mb": 3071}}},
    "passes_differ": {"rounds": scaled([1, 1.2]), "workload": Workload(passes=2, rounds=1, min_samples=9)},
    "builds_differ": {"verdicts": ["yes", "no", "yes"]},
    "short": {"workload": TEN_MINUTES, "timed_s": 599.0},
    "stand_in": {"facts": with_fact("stand_in", "emulated by qemu-aarch64")},
    "unpinned": {"facts": with_fact("clocks_pinned", LOOSE)},
    "swapping": {"facts": with_fact("swap_used_bytes", {"before": 5 << 20, "after": 6 << 20})},
    "watch_stopped": {"watch_stopped": "tegrastats said nothing after 1.3 s"},
    "not_answered": {"unanswered": "its process was killed"},
    "settings_left": {"facts": with_fact("settings_left", "power mode 15W not restored since T")},
    "not_restored": {"settings": {"problems": ["the power mode was not restored: run this"]}},
}


def test_a_calm_machine_raises_no_doubt():
    assert doubts(evidence()) == []


def test_what_could_not_be_read_raises_no_doubt():
    assert doubts(evidence(other_cores=[], clocks_mhz=[], throttling=[], facts={})) == []
    silent = dict.fromkeys(JETSON) | {"swap_used_bytes": {"before": None, "after": 1 << 30}}
    assert doubts(evidence(facts=silent)) == []


@pytest.mark.parametrize("code", DOUBTS)
def test_each_doubt_is_raised_by_its_own_case_alone(code):
    found = [doubt.code for doubt in doubts(evidence(**SUSPECT[code]))]
    assert code in found
    assert set(found) <= {code, "outliers"}  # rounds that differ also have outlying samples


@pytest.mark.parametrize(("bits", "doubted"), [(0x50005, True), (0x50000, False), (0x0, False)])
def test_raspberry_pi_marks_of_the_past_are_not_throttling_now(bits, doubted):
    marks = {"get_throttled": bits}
    assert bool(doubts(evidence(throttling=[marks, marks]))) == doubted


@pytest.mark.parametrize(
    ("before", "after", "doubted"),
    [(0x0, 0x40000, True), (0x40000, 0x50000, True), (0x40000, 0x40000, False), (0x40000, 0x0, False)],
)
def test_a_raspberry_pi_that_throttled_between_the_two_looks_is_told(before, after, doubted):
    """Bits 16 to 19 stay set until the next start: a new one was set in the meantime, though none holds now."""
    codes = [doubt.code for doubt in doubts(evidence(throttling=[{"get_throttled": bits} for bits in (before, after)]))]
    assert codes == ["throttled"] * doubted


@pytest.mark.parametrize(
    ("pinned", "clocks", "doubted"),
    [
        (True, [918.0, 918.0, 612.0], True),
        (True, [918.0, 900.0], False),
        (False, [918.0, 306.0], False),
        (True, [], False),
    ],
)
def test_a_fixed_clock_of_the_gpu_that_changed_from_round_to_round_is_told(pinned, clocks, doubted):
    facts = {"clocks_pinned": {"before": None, "after": {"gpu": pinned, "cpu": True}}}
    found = doubts(evidence(facts=facts, gpu_clocks_mhz=clocks))
    assert [doubt.code for doubt in found] == ["clock_change"] * doubted
    assert not doubted or "612 to 918 MHz" in found[0].message


def test_one_round_of_one_sample_can_be_judged():
    assert [doubt.code for doubt in doubts(evidence(rounds=[[5]]))] == ["too_few_samples"]


@pytest.mark.parametrize(
    ("workload", "how"),
    [(GRAPH, {"cuda_graph": "used"}), (Workload(min_samples=100, rounds=5), {"cuda_graph": "no"}), (GRAPH, {})],
)
def test_a_graph_that_is_used_or_not_asked_for_is_no_doubt(workload, how):
    """Without an engine on a GPU, the option is nobody's."""
    assert doubts(evidence(workload=workload, engine=how)) == []


def test_why_there_is_no_graph_is_told():
    (found,) = doubts(evidence(**SUSPECT["cuda_graph"]))
    assert found.message.endswith("it cannot be captured: no")


@pytest.mark.parametrize(
    ("enqueue_ms", "used", "advice"), [(0.8, "no", None), (0.81, "no", "cuda_graph=1"), (0.81, "used", "larger batch")]
)
def test_handing_over_is_doubted_above_four_fifths_of_the_gpu_s_time(enqueue_ms, used, advice):
    engine = {"enqueue_ms": {"median": enqueue_ms}, "cuda_graph": used}
    found = doubts(evidence(engine=engine, gpu_rounds=[[1_000_000, 1_000_000]]))
    assert [doubt.code for doubt in found] == (["enqueue-bound"] if advice else [])
    assert advice is None or advice in found[0].message


@pytest.mark.parametrize("available", [3072, None])
def test_enough_or_unknown_memory_is_no_doubt(available):
    assert doubts(evidence(engine={"build": {"available_mb": available}})) == []


def test_what_the_builders_complained_of_is_a_doubt_of_the_measurement_and_told_once():
    told = {"code": "low-memory", "message": "Skipping tactic 0x3 due to insufficient memory"}
    (found,) = doubts(evidence(complaints=[told, dict(told)]))
    assert found.code == "low-memory"
    assert found.message == "when the engine was built: Skipping tactic 0x3 due to insufficient memory"


def test_a_slow_first_round_of_any_pass_is_told_and_a_slow_pass_is_not_taken_for_one():
    two = Workload(passes=2, rounds=5)
    late = evidence(rounds=[*STEADY, *scaled([1.3, 1, 1, 1, 1])], workload=two)
    assert [doubt.code for doubt in doubts(late)] == ["outliers", "slow_first_run"]
    slower = [*STEADY, *scaled([1.2] * 5)]
    codes = [doubt.code for doubt in doubts(evidence(rounds=slower, workload=two))]
    assert "passes_differ" in codes
    assert not {"slow_first_run", "drift"} & set(codes)


def test_ten_minutes_are_not_short_and_what_ended_them_is_told():
    enough = evidence(workload=TEN_MINUTES, timed_s=600.0)
    assert doubts(enough) == []
    (shortened,) = doubts(enough._replace(timed_s=60.0))
    assert shortened.message.endswith("the rounds were shortened")
    few = TEN_MINUTES.changed(max_samples=200)
    (full,) = doubts(enough._replace(timed_s=60.0, workload=few))
    assert full.message.endswith("the 200 samples that are kept were full")


def test_other_protocols_have_no_time_to_keep():
    assert doubts(evidence(timed_s=0.1)) == []


def test_a_gpu_that_chooses_its_clock_is_told_with_its_range_and_only_on_a_jetson():
    loose = with_fact("clocks_pinned", LOOSE)
    (found,) = doubts(evidence(facts=loose))
    assert "may range from 306 to 1020 MHz" in found.message
    assert doubts(evidence(facts={**loose, "l4t": None})) == []
    (without,) = doubts(evidence(facts={**loose, "gpu_clock_mhz": None}))
    assert "the GPU's clock may range:" in without.message


def test_swap_that_was_full_before_is_no_doubt():
    assert doubts(evidence(facts=with_fact("swap_used_bytes", {"before": 1 << 30, "after": (1 << 30) + 4096}))) == []


def test_a_board_that_is_as_it_was_is_no_doubt():
    assert doubts(evidence(settings={"power_mode": {"asked": "15W"}, "problems": []})) == []


def test_over_current_of_before_is_no_doubt_and_of_meanwhile_is():
    once, twice = {"over_current_events": 1}, {"over_current_events": 2}
    assert doubts(evidence(throttling=[once, once])) == []
    (found,) = doubts(evidence(throttling=[once, twice]))
    assert found.code == "throttled"


def test_what_the_firmware_says_is_told_once():
    marks = {"get_throttled": 0x5}
    told = {"throttled": {"before": {"now": "under-voltage"}, "after": {"now": "under-voltage"}}}
    assert [doubt.code for doubt in doubts(evidence(throttling=[marks, marks], facts=told))] == ["throttled"]


def test_other_programs_are_named_where_they_are_known():
    named = with_fact("busy_programs", {"before": [], "after": ["make", "cc1"]})
    (found,) = doubts(evidence(other_cores=[1.0], facts=named))
    assert found.message.startswith("other work (make, cc1 at the end) kept 1.0 of 4 cores busy")
