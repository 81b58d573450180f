"""Several runtimes in one session: what headline and tile compare, and which runtime gates and their JUnit judge."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from run_folder import NETWORKS, build, latencies, measurement, on_board, put, sha, twin_of, two_passes, with_compacted

from edgeprune.comparing import compare_runs
from edgeprune.gates import Gates, check
from edgeprune.junit import junit
from edgeprune.report import wording
from edgeprune.report.collect import collect
from edgeprune.report.sentences import BLIND_TO_ZEROS
from edgeprune.report.to_html import tiles
from runtimes import RUNTIMES

SKIPS = {"verdict": "yes", "reason": "3 of 7 layers skip their zeros."}
FAST = Gates(max_p99_ms=2.0, require_sparse=True, min_speedup=1.5)


def with_sparse_cpu(run, sparse_ms, dense_ms, luck=1.0, **changes):
    """Dense and sparse on sparse_cpu too, in the session in which ONNX Runtime took 1.31 ms for each."""
    for name, median in (("dense", dense_ms), ("sparse", sparse_ms)):
        timed = latencies(median, seed=NETWORKS.index(name) + 70)
        fields = {
            "runtime": "sparse_cpu",
            "runtime_version": "build 1",
            "latency_ns": timed,
            "twin_ns": twin_of(timed, luck) if name == "dense" else None,
            "receipt": SKIPS if name == "sparse" else None,
        }
        put(run, measurement(name, **{**fields, **changes}))
    return run


def say(text):
    return text.replace(wording.SPACE, " ")


def speed(report):
    """What the headline tells after zeros and accuracy."""
    return say(report.headline).partition("; ")[2]


def judged(report, gates=FAST):
    return {verdict.gate: verdict for verdict in check(report, gates)}


# --- the headline and the tile


def test_the_headline_holds_sparse_on_its_quickest_runtime_to_dense_on_its_own(run):
    """sparse_cpu needs 4 ms for the dense network: eight times as fast there, and 2.6 times as fast as what was."""
    report = collect(with_sparse_cpu(run, 0.5, 4.0))
    told = speed(report)
    assert told.startswith("it runs 2.6")
    assert told.endswith(
        "times as fast on local with sparse_cpu as the dense network with ONNX Runtime, each with its quickest runtime."
    )
    tile = tiles(report)[2]
    assert say(tile["value"]).startswith("2.6")
    assert tile["note"] == "faster: local with sparse_cpu, dense with ONNX Runtime"
    within = {found.runtime: 1 / found.latency_ratio for found in report.comparisons}
    assert within == pytest.approx({"ort": 1.0, "sparse_cpu": 8.0}, rel=0.03), "these stay as they are"


def test_the_dense_network_may_be_quickest_on_the_same_runtime(run):
    told = speed(collect(with_sparse_cpu(run, 0.5, 1.0)))
    assert told.startswith(("it runs 2.0", "it runs 1.9"))
    assert "as the dense network with sparse_cpu, each with its quickest runtime" in told


def test_a_gain_on_a_runtime_that_is_slower_than_anothers_dense_network_is_none(run):
    """Twice as fast as dense on sparse_cpu, and yet nobody would use either there."""
    told = speed(collect(with_sparse_cpu(run, 2.0, 4.0)))
    assert "times as fast" not in told
    quickest = "each network with the quickest runtime timed there"
    assert told == f"it is no faster here, {quickest}: ONNX Runtime does not use zeros."


def test_slower_on_the_best_runtime_names_both(run):
    put(run, measurement("sparse", latency_ns=latencies(3.0, seed=3)))
    told = speed(collect(with_sparse_cpu(run, 2.62, 4.0)))
    assert re.fullmatch(
        r"it is not faster: on local with sparse_cpu it takes (1\.9|2\.0)\d times as long "
        r"as the dense network with ONNX Runtime, each with its quickest runtime\.",
        told,
    )


def test_within_noise_on_a_runtime_that_skips_zeros_names_both(run):
    put(run, measurement("sparse", latency_ns=latencies(3.0, seed=3)))
    told = speed(collect(with_sparse_cpu(run, 1.31, 4.0)))
    assert told.startswith(
        "no difference in speed could be measured on local with sparse_cpu against the dense network"
    )
    assert "with ONNX Runtime" in told


def test_the_noisier_runtimes_floor_counts_in_the_headline_too(run):
    """A quarter faster, on a runtime whose second process took half as long again."""
    assert "times as fast" in speed(collect(with_sparse_cpu(run, 1.0, 4.0)))
    assert "times as fast" not in speed(collect(with_sparse_cpu(run, 1.0, 4.0, luck=1.5)))


def test_where_the_best_dense_network_is_not_known_the_same_runtime_is_named(run):
    """No second process of the dense network on ONNX Runtime: its floor is not known, that of sparse_cpu is."""
    put(run, measurement("dense", twin_ns=None))
    report = collect(with_sparse_cpu(run, 0.5, 4.0))
    assert next(each for each in report.across if each.name == "sparse").against_dense.verdict == "not known"
    told = speed(report)
    assert told.startswith(("it runs 8.0", "it runs 7.9"))
    assert "times as fast on local with sparse_cpu as the dense network with the same runtime" in told
    assert tiles(report)[2]["note"].startswith("faster: local with sparse_cpu, dense with sparse_cpu")


def test_the_compacted_network_is_held_to_the_same_dense_one(run):
    with_sparse_cpu(with_compacted(run, 0.25), 0.5, 4.0)
    faster = measurement("sparse", runtime="sparse_cpu", runtime_version="build 1", latency_ns=latencies(0.2, seed=4))
    put(run, replace(faster, name="sparse-compact", network_sha256=sha("sparse-compact"), receipt=SKIPS))
    told = speed(collect(run))
    assert re.fullmatch(
        r"it runs 6\.[456]\d times as fast on local with sparse_cpu, compacted, "
        r"as the dense network with ONNX Runtime, each with its quickest runtime\.",
        told,
    )


def test_of_several_settings_each_counts_once(run):
    with_sparse_cpu(run, 0.5, 4.0)
    for name in ("dense", "sparse"):
        put(run, on_board(name, {"dense": 1.0, "sparse": 0.8}[name], "a"))
    told = speed(collect(run))
    assert "times as fast on all 2 settings, each network with the quickest runtime timed there" in told
    assert told.startswith("it runs 1.2")


def test_one_runtime_is_told_as_ever(run):
    report = collect(run)
    assert speed(report) == "it is no faster here, because ONNX Runtime does not use zeros."
    assert tiles(report)[2]["note"] == "within noise: local with ONNX Runtime"


# --- gates


def test_gates_of_speed_and_zeros_judge_the_quickest_runtime_and_say_which(run):
    report = collect(with_sparse_cpu(run, 0.5, 4.0))
    verdicts = check(report, FAST)
    assert [verdict.passed for verdict in verdicts] == [True] * 3, "one verdict each, and ONNX Runtime is not asked"
    for verdict in verdicts:
        assert "sparse_cpu build 1" in verdict.setting
        assert verdict.found.endswith("; judged with sparse_cpu, which took least time of sparse_cpu, ONNX Runtime")
    cases = list(ElementTree.fromstring(junit(verdicts)).iter("testcase"))  # noqa: S314
    assert len(cases) == 3
    assert all("judged with sparse_cpu" in case.find("system-out").text for case in cases)


def test_where_the_blind_runtime_is_quickest_it_is_judged_and_fails(run):
    found = judged(collect(with_sparse_cpu(run, 2.0, 4.0)))
    assert found["--require-sparse"].found == (
        "ONNX Runtime runs no layer sparse; judged with ONNX Runtime, which took least time of ONNX Runtime, sparse_cpu"
    )
    assert not found["--require-sparse"].passed
    assert not found["--min-speedup"].passed, "twice as fast as dense on sparse_cpu helps nobody"
    failure = ElementTree.fromstring(junit(list(found.values()))).find(".//failure")  # noqa: S314
    assert "judged with ONNX Runtime" in failure.get("message")


def test_the_speed_up_of_a_gate_is_over_the_dense_networks_best_runtime(run):
    report = collect(with_sparse_cpu(run, 0.5, 4.0))
    verdict = judged(report, Gates(min_speedup=2.5))["--min-speedup"]
    assert verdict.passed
    assert "times as fast as the dense network with ONNX Runtime, faster" in verdict.found
    ends = next(each for each in report.across if each.name == "sparse").against_dense.ratio_interval
    for wanted, passed in ((ends[0] * 0.999, True), (ends[0] * 1.001, False), (7.0, False)):
        assert judged(report, Gates(min_speedup=wanted))["--min-speedup"].passed == passed


def test_a_gate_fails_where_the_best_dense_network_cannot_be_compared(run):
    put(run, measurement("dense", twin_ns=None))
    verdict = judged(collect(with_sparse_cpu(run, 0.5, 4.0)))["--min-speedup"]
    assert not verdict.passed
    assert "noise floor" in verdict.found


def test_without_the_dense_network_in_the_session_the_quickest_runtime_has_no_speed_up(run):
    with_sparse_cpu(run, 0.5, 4.0)
    for runtime in ("ort", "sparse_cpu"):
        put(run, measurement("dense", runtime=runtime, started_at="2025-11-22T10:00:00Z"))
    report = collect(run)
    found = judged(report)["--min-speedup"]
    assert not found.passed
    assert found.found.startswith(
        "not measured: measured in another call than the dense network; judged with sparse_cpu"
    )
    assert judged(report)["--require-sparse"].passed
    assert speed(report) == "its speed has not been compared with the dense network."


def test_other_gates_judge_every_runtime(run):
    """Who has less accuracy, or takes more memory, on a runtime that is measured, is told so."""
    with_sparse_cpu(run, 0.5, 4.0, top1=60.0)
    verdicts = check(collect(run), Gates(min_top1=90, max_size_mb=2))
    assert [(v.gate, v.passed) for v in verdicts if "sparse_cpu" in v.setting] == [
        ("--min-top1", False),
        ("--max-size-mb", True),
    ]
    assert len(verdicts) == 4
    assert not any("judged with" in verdict.found for verdict in verdicts)


def test_two_sessions_are_judged_each(run):
    with_sparse_cpu(run, 0.5, 4.0, started_at="2025-11-22T10:00:00Z")
    verdicts = check(collect(run), Gates(require_sparse=True))
    assert sorted(verdict.found for verdict in verdicts) == [
        "ONNX Runtime runs no layer sparse",
        "sparse_cpu runs layers sparse",
    ]


def test_each_networks_file_has_a_quickest_runtime_of_its_own(run):
    """The compacted network was timed on ONNX Runtime alone, so that this is judged for it."""
    with_sparse_cpu(with_compacted(run, 1.0), 0.5, 4.0)
    found = {verdict.setting.partition(",")[0]: verdict for verdict in check(collect(run), Gates(require_sparse=True))}
    assert {name: verdict.passed for name, verdict in found.items()} == {"sparse": True, "sparse-compact": False}
    assert found["sparse-compact"].found == "ONNX Runtime runs no layer sparse"


# --- gates of a comparison


def test_a_comparison_is_judged_on_the_quickest_runtime_of_either(run):
    with_sparse_cpu(run, 0.5, 4.0)
    both = compare_runs(f"{run}:dense", f"{run}:sparse")
    verdicts = check(both, FAST)
    assert [verdict.passed for verdict in verdicts] == [True] * 3
    speed_up = verdicts[-1].found
    assert speed_up.startswith("2.")
    assert "times as fast as dense with ONNX Runtime, faster; judged with sparse_cpu" in speed_up
    assert not check(both, Gates(min_speedup=4))[0].passed, "eight times holds on sparse_cpu alone"


@pytest.mark.parametrize("noisy", ["ort", "sparse_cpu"])
def test_the_noisier_runtimes_floor_counts_in_a_comparison_too(run, noisy):
    with_sparse_cpu(run, 1.0, 4.0, luck=1.5 if noisy == "sparse_cpu" else 1.0)
    timed = latencies(1.31, seed=NETWORKS.index("dense"))
    put(run, measurement("dense", latency_ns=timed, twin_ns=twin_of(timed, 1.5 if noisy == "ort" else 1.0)))
    (verdict,) = check(compare_runs(f"{run}:dense", f"{run}:sparse"), Gates(min_speedup=1.1))
    assert not verdict.passed
    assert "1.3" in verdict.found
    assert "as dense with ONNX Runtime, within noise; judged with sparse_cpu" in verdict.found


def test_a_comparison_with_one_best_runtime_is_the_pairs_own(run):
    with_sparse_cpu(run, 0.5, 1.0)
    (verdict,) = check(compare_runs(f"{run}:dense", f"{run}:sparse"), Gates(min_speedup=1.9))
    assert verdict.passed
    assert "times as fast as dense with sparse_cpu, faster" in verdict.found


def test_a_comparison_without_a_floor_of_either_runtime_fails(run):
    put(run, measurement("dense", twin_ns=None))
    with_sparse_cpu(run, 0.5, 4.0)
    (verdict,) = check(compare_runs(f"{run}:dense", f"{run}:sparse"), Gates(min_speedup=1.0))
    assert not verdict.passed
    assert "noise floor" in verdict.found


def test_two_runtimes_of_two_sessions_are_not_compared(run, tmp_path):
    with_sparse_cpu(run, 0.5, 4.0)
    before = with_sparse_cpu(build(tmp_path / "before"), 0.5, 4.0)
    for path in (before / "5-measure/local").glob("*.json"):
        path.write_text(path.read_text().replace("2025-11-21T10:00:00Z", "2025-11-20T10:00:00Z"))
    (verdict,) = check(compare_runs(f"{before}:dense", f"{run}:sparse"), Gates(min_speedup=1.0))
    assert not verdict.passed
    assert "dense is quickest with ONNX Runtime, sparse with another runtime, and they were measured" in verdict.found


def test_in_one_pass_nothing_is_known_across_runtimes_either(run):
    one = [{**two_passes(10)[0], "rounds": 10}]
    with_sparse_cpu(run, 0.5, 4.0, passes=one)
    for name in ("dense", "sparse"):
        put(run, measurement(name, passes=one))
    assert "whether it is faster is not known" in speed(collect(run))
    for report in (collect(run), compare_runs(f"{run}:dense", f"{run}:sparse")):
        assert not judged(report, Gates(min_speedup=1.0))["--min-speedup"].passed


# --- names


def test_every_runtime_has_a_name_and_peers_that_use_no_zeros_are_known():
    assert set(wording.RUNTIMES) == set(RUNTIMES)
    assert [wording.runtime(name) for name in BLIND_TO_ZEROS] == ["ONNX Runtime", "OpenVINO"]


def test_openvino_is_never_faster_by_zeros(run):
    for name, median in (("dense", 1.0), ("sparse", 0.5)):
        timed = latencies(median, seed=NETWORKS.index(name) + 5)
        twin = twin_of(timed) if name == "dense" else None
        fields = {"runtime": "openvino", "runtime_version": "2026.4", "latency_ns": timed, "twin_ns": twin}
        put(run, measurement(name, **fields))
    report = collect(run)
    (found,) = [found for found in report.comparisons if found.runtime == "openvino"]
    assert (found.verdict, found.uses_zeros) == ("faster", "no")
    assert speed(report).endswith(", but not by its zeros: OpenVINO does not use them.")
    assert not judged(report, Gates(require_sparse=True))["--require-sparse"].passed
