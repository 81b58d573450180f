"""The numbers of the table, from rounds whose results are known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timed import DENSE, SPARSE, entrant, with_answers

from edgeprune.benching import disagreements
from edgeprune.benching.entrants import Entrant
from edgeprune.benching.markdown import as_markdown, roofline
from edgeprune.benching.rows import alone, difference, fastest, floor_of, rows
from edgeprune.benching.text import as_text
from edgeprune.report.bootstrap import Floor

PASSES = 2
STEADY = [[4.0] * 6] * PASSES


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


@pytest.mark.parametrize(("by_itself", "same"), [(4.02, True), (3.9, True), (3.0, False), (5.0, False)])
def test_the_reference_alone_is_the_same_within_the_noise_or_it_is_not(by_itself: float, same: bool) -> None:
    own = entrant("ort", DENSE, [[by_itself] * 6] * PASSES)
    found = alone([entrant("ort", DENSE, STEADY)], own, Floor(0.05, None))
    assert found["ratio"] == pytest.approx(4.0 / by_itself)
    assert found["same"] is same


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


def document(tmp_path: Path, last: float) -> dict[str, Any]:
    """As `bench` returns it; the last answer of ours is `last`, where the reference says 4."""
    dense = with_answers(entrant("ort", DENSE, STEADY), tmp_path, [[1.0, 4.0]])
    like = with_answers(entrant("ort", SPARSE, STEADY), tmp_path, [[1.0, 4.0]])
    ours = with_answers(entrant("sparse_cpu", SPARSE, [[0.5] * 6] * PASSES), tmp_path, [[1.0, last]])
    slow = with_answers(entrant("sparse_cpu", DENSE, [[5.0] * 6] * PASSES), tmp_path, [[1.0, 4.0]])
    found = rows([slow, dense, ours, like], threads=1)
    machine = {"cpu_model": "a CPU", "cores": 2, "governor": None, "os": "an OS", "runtimes": {"ort": "1.0"}}
    steps = [
        {"name": "conv1", "kernel": "conv_dense", "ns": 1000, "macs": 5000, "gmacs": 5.0, "of_limit": None},
        {"name": "conv2", "kernel": "conv_sparse", "ns": 1000, "macs": 9000, "gmacs": 9.0, "of_limit": 0.25},
    ]
    return {
        "started_at": "2026-11-21T20:00:00+00:00",
        "settings": {"network": "net", "workload": {"threads": 1, "batch": 1}},
        "machine": machine,
        "rows": found,
        "fastest": fastest(found, "sparse_cpu"),
        "noise_floor": {"value": 0.02, "reason": None},
        "alone": None,
        "denormals": {"ort": "kept", "null": None},
        "absent": {"openvino": "not there"},
        "layers": [{"sparsity": 0.9, "kernels": "avx2", "limit_gmacs": 40.0, "steps": steps}],
    }


def test_the_report_says_which_runtime_to_use(tmp_path: Path) -> None:
    told = {one["sparsity"]: one for one in document(tmp_path, 4.0)["fastest"]}
    assert told[0.0]["runtime"] == "ort"
    assert told[0.0]["ahead_of_ours"] == pytest.approx(1.25)
    assert told[0.9]["runtime"] == "sparse_cpu"
    assert told[0.9]["ahead_of_ours"] == 1.0


def test_wrong_answers_are_told_and_win_nothing(tmp_path: Path) -> None:
    wrong = document(tmp_path, 4.1)
    assert disagreements(wrong) == ["sparse_cpu at 90 % zeros does not answer what ort does: off by 0.025"]
    assert {one["sparsity"]: one["runtime"] for one in wrong["fastest"]}[0.9] == "ort"
    assert "WRONG: 2.5e-02" in as_text(wrong)
    assert "0.500, wrong answers" in as_markdown([wrong])
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
        "At 0 % zeros ort is the fastest, 1.25 times as fast as ours.",
        "Noise floor: 2.0",
        "Denormal numbers in ort: kept.",
        "Not measured: openvino. not there",
        "Layers at 90 % zeros, kernels avx2:",
    ):
        assert told in text
    assert "null" not in text


def test_a_committed_benchmark_becomes_a_table(tmp_path: Path) -> None:
    as_committed = json.loads(json.dumps(document(tmp_path, 4.0), allow_nan=False))
    made = as_markdown([as_committed])
    assert "| network | zeros | threads | sparse_cpu, ms (speed-up) | ort, ms (speed-up) |" in made
    assert "| net | 0 % | 1 | 5 (0.80; 0.80 to 0.80) | 4 |" in made
    assert "| net | 90 % | 1 | 0.500 (8.00; 8.00 to 8.00) | 4 (1.00; 1.00 to 1.00) |" in made
    assert (
        "Measured on 2026-11-21 on a CPU, 2 cores, governor not told, an OS; ort 1.0. Noise floors: net 2.0 %." in made
    )
    assert as_markdown([]) == "not run\n"


def test_the_roofline_shows_sparse_layers_only(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    assert "| `conv2` | 9.0 (25 %) |" in roofline(found)
    assert "conv1" not in roofline(found)
    assert "40.0 GMAC/s" in roofline(found)
    assert roofline({**found, "layers": []}) == "not run\n"
