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


GRAPH = Workload(min_samples=100, options={"cuda_graph": "1"})
SUSPECT = {
    "too_few_samples": {"rounds": [row[:3] for row in STEADY]},
    "outliers": {"rounds": [[*row[:-4], *[5_000_000] * 4] for row in STEADY]},
    "slow_first_run": {"rounds": scaled([1.3, 1, 1, 1, 1])},
    "drift": {"rounds": scaled([1, 1.05, 1.1, 1.15, 1.2])},
    "clock_change": {"clocks_mhz": [1500.0, 1200.0]},
    "throttled": {"throttling": [{"core_throttle_count": 3}, {"core_throttle_count": 4}]},
    "other_load": {"other_cores": [0.9, 0.7]},
    "non_finite": {"non_finite": 2},
    "cuda_graph": {"workload": GRAPH, "engine": {"cuda_graph": "it cannot be captured: no"}},
    "enqueue-bound": {"engine": {"enqueue_ms": {"median": 0.9}}, "gpu_rounds": [[1_000_000] * 3]},
    "little_memory": {"engine": {"build": {"available_mb": 3071}}},
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


@pytest.mark.parametrize(
    ("workload", "how"),
    [(GRAPH, {"cuda_graph": "used"}), (Workload(min_samples=100), {"cuda_graph": "no"}), (GRAPH, {})],
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


def test_what_the_builder_complained_of_is_a_doubt_of_the_measurement():
    told = [{"code": "low-memory", "message": "Skipping tactic 0x3 due to insufficient memory"}]
    (found,) = doubts(evidence(engine={"build": {"warnings": told}}))
    assert found.code == "low-memory"
    assert found.message == "when the engine was built: Skipping tactic 0x3 due to insufficient memory"
