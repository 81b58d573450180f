"""The numbers of the table, from rounds whose results are known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timed import DENSE, PASSES, SPARSE, STEADY, document, entrant, with_answers

from edgeprune.benching import disagreements
from edgeprune.benching.entrants import Entrant
from edgeprune.benching.rows import alone, difference, floor_of, rows
from edgeprune.benching.text import as_text
from edgeprune.report.bootstrap import Floor


def table(*more: Entrant) -> dict[tuple[str, float], dict[str, Any]]:
    twin = entrant("ort", DENSE, STEADY, is_twin=True)
    found = rows([entrant("ort", DENSE, STEADY), entrant("ort", SPARSE, STEADY), *more, twin], threads=1)
    return {(row["runtime"], row["sparsity"]): row for row in found}


def test_a_speedup_is_the_reference_s_dense_latency_over_the_row_s() -> None:
    found = table(entrant("sparse_cpu", SPARSE, [[1.0] * 6] * PASSES))
    ours = found["sparse_cpu", 0.9]
    assert ours["speedup"] == pytest.approx(4.0)
    assert ours["speedup_interval"] == pytest.approx([4.0, 4.0])
    assert ours["against"] == {
        "ort": {"ratio": pytest.approx(4.0), "interval": [pytest.approx(4.0)] * 2, "reason": None}
    }
    assert found["ort", 0.0]["speedup"] == 1.0
    assert found["ort", 0.0]["speedup_interval"] is None


def test_a_drift_that_both_see_cancels_in_each_round() -> None:
    """The clock slows down fourfold over the rounds; the medians of all samples would not tell 2."""
    drifting = [[1.0, 1.5, 2.0, 3.0, 3.5, 4.0]] * PASSES
    ours = entrant("sparse_cpu", SPARSE, [[ms / 2 for ms in rounds] for rounds in drifting])
    twin = entrant("ort", DENSE, drifting, is_twin=True)
    found = rows([entrant("ort", DENSE, drifting), entrant("ort", SPARSE, drifting), ours, twin], threads=1)
    assert found[2]["speedup"] == pytest.approx(2.0, rel=1e-4)
    assert found[2]["speedup_interval"] == pytest.approx([2.0, 2.0], rel=1e-4)


def test_passes_that_differ_meet_in_their_geometric_mean_and_widen_the_interval() -> None:
    ours = table(entrant("sparse_cpu", SPARSE, [[1.0] * 6, [4.0] * 6]))["sparse_cpu", 0.9]
    assert ours["speedup"] == pytest.approx(2.0)  # sqrt(4 * 1)
    low, high = ours["speedup_interval"]
    assert low < 1.0
    assert high > 4.0


def test_few_rounds_give_a_ratio_without_an_interval_and_the_reason() -> None:
    two = [[2.0]] * PASSES
    twin = entrant("ort", DENSE, two, is_twin=True)
    found = rows([entrant("ort", DENSE, two), entrant("null", DENSE, [[1.0]] * PASSES), twin], threads=3)
    assert found[1]["speedup"] == pytest.approx(2.0)
    assert found[1]["speedup_interval"] is None
    assert "2 rounds" in found[1]["speedup_reason"]
    assert found[1]["threads"] == 3


def test_the_latency_is_that_of_all_samples() -> None:
    made = entrant("ort", DENSE, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    made.rounds[0][0] = [1_000_000] * 3
    told = rows([made], threads=1)[0]["latency_ms"]
    assert told["n"] == 18
    assert told["rounds"] == 6
    assert told["median"] == pytest.approx(3.5, abs=1e-4)
    assert (told["min"], told["least_round"], told["largest_round"]) == (1.0, 1.0, 6.0)
    assert told["p25"] == pytest.approx(2.0, abs=1e-4)
    assert told["p75"] == pytest.approx(5.0, abs=1e-4)


def test_a_machine_that_others_use_too_is_told(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    assert found["rows"][0]["other_cores"] == 0.1
    assert "Doubtful" not in as_text(found)
    found["rows"][0]["other_cores"] = 1.5
    assert "Doubtful: other processes kept up to 1.5 processors busy in the rounds." in as_text(found)


def test_the_memory_is_that_of_the_process_that_took_most() -> None:
    assert table()["ort", 0.0]["peak_memory_mb"] == 61.0


def test_the_floor_is_how_far_the_twin_lies_from_its_engine() -> None:
    twin = entrant("ort", DENSE, [[4.4] * 6] * PASSES, is_twin=True)
    floor = floor_of([entrant("ort", DENSE, STEADY), twin])
    assert floor.value == pytest.approx(0.1, rel=1e-6)


@pytest.mark.parametrize(
    ("by_itself", "verdict"), [(4.02, "same"), (3.9, "same"), (3.0, "different"), (5.0, "different")]
)
def test_the_reference_alone_is_the_same_within_the_noise_or_it_is_not(by_itself: float, verdict: str) -> None:
    own = entrant("ort", DENSE, [[by_itself] * 6] * PASSES)
    found = alone([entrant("ort", DENSE, STEADY)], own, Floor(0.05, None))
    assert found["ratio"] == pytest.approx(4.0 / by_itself)
    assert found["verdict"] == verdict


def test_a_reference_alone_that_wavers_shows_neither() -> None:
    own = entrant("ort", DENSE, [[3.6] * 6, [4.4] * 6])
    found = alone([entrant("ort", DENSE, STEADY)], own, Floor(0.05, None))
    assert found["interval"][0] < 0.9
    assert found["interval"][1] > 1.1
    assert found["verdict"] == "not shown"


def test_a_row_says_which_kernels_ran_where_the_runtime_does() -> None:
    ours = entrant("sparse_cpu", SPARSE, STEADY)
    ours.loaded = [{"load_ms": 5.0, "classes": 2, "receipt": {"kernels": "avx2"}}]
    found = table(ours)
    assert found["sparse_cpu", 0.9]["kernels"] == "avx2"
    assert found["ort", 0.9]["kernels"] is None


def test_answers_are_compared_with_those_of_the_reference_for_the_same_file(tmp_path: Path) -> None:
    dense = with_answers(entrant("ort", DENSE, STEADY), tmp_path, [[1.0, -8.0], [0.0, 2.0]])
    like = with_answers(entrant("ort", SPARSE, STEADY), tmp_path, [[1.0, 4.0], [0.0, 2.0]])
    ours = with_answers(entrant("sparse_cpu", SPARSE, STEADY), tmp_path, [[1.0, 4.0], [0.002, 2.0]])
    found = rows([dense, like, ours], threads=1)[2]["agreement"]
    assert found["difference"] == pytest.approx(0.002 / 4.0)
    assert found["agrees"] is False
    assert found["images"] == 2
    close = with_answers(entrant("sparse_cpu", SPARSE, STEADY), tmp_path, [[1.0, 4.0], [0.0003, 2.0]])
    assert rows([dense, like, close], threads=1)[2]["agreement"]["agrees"] is True
    silent = rows([dense, like, entrant("null", SPARSE, STEADY)], threads=1)[2]["agreement"]
    assert silent["agrees"] is None
    assert silent["reason"] == "it answers nothing"


@pytest.mark.parametrize(
    ("found", "expected", "away"),
    [
        ([[1.0, 2.0]], [[1.0, 2.0]], 0.0),
        ([[1.0, 3.0]], [[1.0, -4.0]], 7 / 4),
        ([[0.0]], [[0.0]], 0.0),
        ([[1.0]], [[0.0]], np.inf),
        ([[np.nan]], [[1.0]], np.inf),
        ([[1.0, 2.0]], [[1.0], [2.0]], np.inf),
    ],
)
def test_a_difference_by_hand(found: list[list[float]], expected: list[list[float]], away: float) -> None:
    assert difference(np.float32(found), np.float32(expected)) == pytest.approx(away)


def test_wrong_answers_are_told_and_win_nothing(tmp_path: Path) -> None:
    wrong = document(tmp_path, 4.1)
    assert disagreements(wrong) == ["sparse_cpu at 90 % zeros does not answer what ort does: off by 0.025"]
    assert [one["sparsity"] for one in wrong["fastest"]] == [0.0], "at 90 % nothing is left to compare"
    assert "WRONG: 2.5e-02" in as_text(wrong)
    assert disagreements(document(tmp_path, float("nan"))) == [
        "sparse_cpu at 90 % zeros does not answer what ort does: not finite"
    ]


def test_the_text_tells_what_is_needed_to_read_it(tmp_path: Path) -> None:
    text = as_text(document(tmp_path, 4.0))
    line = next(one for one in text.splitlines() if one.startswith("90.0") and "sparse_cpu" in one)
    assert "8.00" in line
    assert "8.00 to 8.00" in line
    for told in (
        "net, 1 thread, batch 1, float32, on a CPU",
        "At 0 % zeros ONNX Runtime is fastest (4.00\N{NO-BREAK SPACE}ms): sparse_cpu takes 1.250 times the time",
        "At 90 % zeros sparse_cpu is fastest (500",
        "ONNX Runtime takes 8.000 times the time",
        "12 rounds in 2 passes",
        "Noise floor: 2.0",
        "Denormal numbers in ort: kept.",
        "Not measured: openvino. not there",
        "Layers at 90 % zeros, kernels avx2:",
    ):
        assert told in text
    assert "null" not in text


def test_an_engine_that_does_not_rest_is_told(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    found["rows"][0]["idle_cpu"] = 0.98
    assert "Doubtful: sparse_cpu keeps 0.98 processors busy while it waits, which slows the others." in as_text(found)


def test_the_text_shows_the_interval_of_the_reference_alone(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    found["alone"] = {"ratio": 0.989, "interval": [0.955, 1.024], "reason": None, "same": True}  # as a version 1 had it
    told = "ort in the benchmark over ort alone: 0.989 (0.955 to 1.024), not shown to be the same, nor to be different."
    assert told in as_text(found)
    found["alone"]["interval"] = [0.985, 1.015]
    assert "0.989 (0.985 to 1.015), the same." in as_text(found)
    found["alone"] = {"ratio": 0.9, "interval": None, "reason": "too few", "verdict": "not known"}
    assert "ort alone: 0.900, not known (too few)." in as_text(found)
