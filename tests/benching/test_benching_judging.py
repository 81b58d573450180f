"""What a benchmark shows: which runtime is fastest, and what a reader of the committed tables sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from timed import DENSE, PASSES, document, entrant

from edgeprune.benching.judging import sameness, standings
from edgeprune.benching.markdown import as_markdown, roofline
from edgeprune.benching.rows import rows
from edgeprune.benching.text import as_text
from runtimes.errors import UserError


@pytest.mark.parametrize(
    ("interval", "floor", "expected"),
    [
        ([0.97, 1.03], 0.05, "same"),
        ([0.995, 1.005], 0.0, "same"),  # one percent is the least that is claimed
        ([0.98, 1.02], 0.0, "not shown"),
        ([0.94, 1.01], 0.05, "not shown"),
        ([0.90, 0.96], 0.05, "not shown"),
        ([0.90, 0.95], 0.05, "different"),
        ([1.06, 1.30], 0.05, "different"),
        ([0.80, 1.30], 0.05, "not shown"),
        (None, 0.05, "not known"),
        ([0.99, 1.01], None, "not known"),
    ],
)
def test_the_same_is_an_interval_inside_the_noise_and_different_one_outside(
    interval: list[float] | None, floor: float | None, expected: str
) -> None:
    assert sameness(interval, floor) == expected


def timed(**ms: float) -> list[dict[str, Any]]:
    """Rows at no zeros; the reference answers, and every other runtime agrees."""
    found = rows([entrant(name, DENSE, [[time] * 6] * PASSES) for name, time in ms.items()], threads=1)
    for row in found:
        row["agreement"]["agrees"] = None if row["runtime"] in ("ort", "null") else True
    return found


def test_the_fastest_is_faster_than_every_other_beyond_the_noise() -> None:
    (told,) = standings(timed(ort=4.0, sparse_cpu=3.0, openvino=3.5), 0.02)
    assert (told["quickest"], told["fastest"]) == ("sparse_cpu", "sparse_cpu")
    assert [(one["runtime"], one["verdict"]) for one in told["others"]] == [("openvino", "slower"), ("ort", "slower")]
    assert told["others"][1]["ratio"] == pytest.approx(4 / 3)


def test_the_least_median_within_the_noise_is_not_called_the_fastest() -> None:
    (told,) = standings(timed(ort=4.0, sparse_cpu=3.0, openvino=3.03), 0.02)
    assert (told["quickest"], told["fastest"]) == ("sparse_cpu", None)
    assert told["others"][0]["verdict"] == "within noise"
    (unknown,) = standings(timed(ort=4.0, sparse_cpu=3.0), None)
    assert unknown["fastest"] is None
    assert unknown["others"][0]["reason"] == "the noise floor is not known"


def test_a_runtime_that_answers_nothing_is_no_choice() -> None:
    (told,) = standings(timed(ort=4.0, sparse_cpu=3.0, null=0.001), 0.02)
    assert told["fastest"] == "sparse_cpu"
    assert [one["runtime"] for one in told["others"]] == ["ort"]


def test_the_text_says_that_nothing_is_shown(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    found["noise_floor"] = {"value": 0.3, "reason": None}
    assert "At 0 % zeros ONNX Runtime took least (4.00\N{NO-BREAK SPACE}ms), not shown to be fastest" in as_text(found)
    assert "sparse_cpu is within noise, 1.250 times the time" in as_text(found)


# The tables of committed benchmarks ----------------------------------------------------------------------------------


def committed(tmp_path: Path, last: float = 4.0, **changed: Any) -> dict[str, Any]:
    """As it is read from a file, with other settings."""
    found: dict[str, Any] = json.loads(json.dumps(document(tmp_path, last), allow_nan=False))
    found["settings"].update(changed)
    return found


def test_a_committed_benchmark_becomes_a_table(tmp_path: Path) -> None:
    made = as_markdown([committed(tmp_path)])
    assert made.startswith(
        "**1 thread, batch 1, protocol quick; zeros in all layers but the stem, the classifier and depthwise"
    )
    assert (
        "| network | zeros | sparse_cpu, ms | speed-up over dense ONNX Runtime | ONNX Runtime, ms "
        "| memory of sparse_cpu, MiB | memory of ONNX Runtime, MiB |"
    ) in made
    assert "| net | 0 % | 5.00 | 0.80 (0.80 to 0.80) | **4.00** | 61 | 61 |" in made
    assert "| net | 90 % (85 %) | **0.500** | 8.00 (8.00 to 8.00) | 4.00 | 61 | 61 |" in made
    assert "medians of 36 inferences from 12 rounds in 2 passes" in made
    place = "Measured on 2026-11-21 on a CPU, 2 cores, governor not told, an OS; ONNX Runtime 1.0."
    assert f"{place} Noise floors: net 2.0 %." in made
    assert as_markdown([]) == "not run\n"


def test_how_far_deepsparse_is_behind_stands_in_a_column(tmp_path: Path) -> None:
    found = committed(tmp_path)
    found["rows"] = json.loads(json.dumps(timed(ort=4.0, sparse_cpu=2.0, deepsparse=3.0)))
    made = as_markdown([found])
    assert "| ONNX Runtime, ms | DeepSparse, ms | speed-up over DeepSparse | memory" in made
    assert "| net | 0 % | **2.00** | 2.00 (2.00 to 2.00) | 4.00 | 3.00 | 1.50 (1.50 to 1.50) | 61 | 61 |" in made


def test_wrong_answers_have_a_time_and_no_speedup(tmp_path: Path) -> None:
    made = as_markdown([committed(tmp_path, 4.1)])
    assert "| net | 90 % (85 %) | 0.500, wrong answers | \N{EM DASH} | 4.00 |" in made


def test_kernels_are_those_of_the_rows_else_of_the_layers_else_left_out(tmp_path: Path) -> None:
    found = committed(tmp_path)
    found["machine"]["runtimes"] = {"sparse_cpu": "build 1"}
    assert "sparse_cpu build 1 (avx2)." in as_markdown([found]), "of the layers"
    for row in found["rows"]:
        row["kernels"] = "scalar" if row["runtime"] == "sparse_cpu" else None
    assert "sparse_cpu build 1 (scalar)." in as_markdown([found])
    for row in found["rows"]:
        del row["kernels"]
    assert "sparse_cpu build 1." in as_markdown([{**found, "layers": []}])


@pytest.mark.parametrize(
    ("changed", "title"),
    [
        ({"workload": {"threads": 2, "batch": 1, "protocol": "quick", "options": {}}}, "**2 threads, batch 1,"),
        ({"workload": {"threads": 1, "batch": 8, "protocol": "quick", "options": {}}}, "**1 thread, batch 8,"),
        (
            {"workload": {"threads": 1, "batch": 1, "protocol": "standard", "options": {}}},
            "batch 1, protocol standard;",
        ),
        ({"pattern": "pointwise"}, "zeros in 1 x 1 convolutions only**"),
        ({"network": "net.onnx"}, "networks from files, with their own zeros**"),
        ({"kernels": "scalar"}, "kernels of sparse_cpu: scalar**"),
    ],
)
def test_each_setting_has_a_table_of_its_own(tmp_path: Path, changed: dict[str, Any], title: str) -> None:
    made = as_markdown([committed(tmp_path), committed(tmp_path, **changed)])
    assert made.count("| network |") == 2
    assert title in made
    assert made.count("| net |") == made.count("| net ") == 4


def test_what_makes_it_another_network_stands_in_its_line(tmp_path: Path) -> None:
    found = [committed(tmp_path), committed(tmp_path, seed=3), committed(tmp_path, image_size=96)]
    made = as_markdown(found)
    assert made.count("| network |") == 1
    assert "| net, seed 3 | 0 % |" in made
    assert "| net, 96 px | 0 % |" in made


def test_lines_of_two_sessions_do_not_mix(tmp_path: Path) -> None:
    other = committed(tmp_path)
    other["rows"] = [row for row in other["rows"] if row["sparsity"] == 0]
    with pytest.raises(UserError, match="net at 0 % zeros was measured twice with the same settings"):
        as_markdown([committed(tmp_path), other])


def test_the_roofline_shows_sparse_layers_only(tmp_path: Path) -> None:
    found = document(tmp_path, 4.0)
    assert "| `conv2` | 9.0 (25 %) |" in roofline(found)
    assert "conv1" not in roofline(found)
    assert "40.0 GMAC/s" in roofline(found)
    assert roofline({**found, "layers": []}) == "not run\n"
