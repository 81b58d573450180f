"""Gates: what passes, what fails, what a missing number does, the exit code, and the JUnit file."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
import run_folder as made
from hypothesis import given
from hypothesis import strategies as st

from edgeprune import gates as gating
from edgeprune.comparing import compare_runs
from edgeprune.gates import CODES, Gates, Verdict, check, exit_code
from edgeprune.junit import junit, write_junit
from edgeprune.report.collect import collect
from runtimes.errors import UserError

ALL = Gates(95.0, 1.0, 500.0, 6.0, 2.0, True, 1.2)


def on(verdicts, device):
    return {verdict.gate: verdict for verdict in verdicts if verdict.device == device}


def test_every_gate_is_judged_on_every_device_and_setting(boards):
    verdicts = check(collect(boards), ALL)
    assert len(verdicts) == 4 * len(CODES)
    orin = on(verdicts, "orin-nano")
    passed = {gate: verdict.passed for gate, verdict in orin.items()}
    assert passed == {
        "--min-top1": True,
        "--max-p99-ms": False,  # the made-up distribution has a slow tail
        "--max-memory-mb": True,
        "--max-power-w": True,
        "--max-size-mb": True,
        "--require-sparse": True,
        "--min-speedup": True,
    }
    assert {gate: verdict.code for gate, verdict in orin.items()} == dict(zip(passed, range(10, 17), strict=True))
    assert "trt" not in orin["--min-top1"].setting
    assert orin["--max-power-w"].found == "5.1 W (module)"
    assert orin["--max-size-mb"].found == "1.09 MB"


@pytest.mark.parametrize(
    ("gates", "row", "keeps", "breaks"),
    [
        ("min_top1", {"top1": 90.0}, 90.0, 90.01),
        ("max_p99_ms", {}, None, None),
        ("max_memory_mb", {}, 412.0, 411.9),
        ("max_power_w", {}, 5.1, 5.09),
        ("max_size_mb", {}, 1.090112, 1.090111),
    ],
)
def test_a_value_at_its_limit_keeps_it(boards, gates, row, keeps, breaks):
    made.put(boards, made.on_board("sparse", 0.52, **row))
    report = collect(boards)
    if keeps is None:
        measured = next(r for r in report.rows if r.device == "orin-nano" and r.role == "sparse")
        keeps, breaks = measured.latency_ms["p99"], measured.latency_ms["p99"] * 0.999
    for limit, passed in ((keeps, True), (breaks, False)):
        (verdict,) = [v for v in check(report, Gates(**{gates: limit})) if v.device == "orin-nano"]
        assert verdict.passed == passed, verdict


@pytest.mark.parametrize(
    ("runtime", "memory", "passed", "told"),
    [
        ("ort", {"peak_rss": 100.0, "available_delta": 900.0}, True, "100 MiB (peak rss)"),
        ("ort", {"peak_rss": 100.0, "available_delta": None}, True, "100 MiB (peak rss)"),
        ("trt", {"peak_rss": 100.0, "available_delta": 900.0}, False, "900 MiB (available delta)"),
        ("trt", {"peak_rss": 600.0, "available_delta": 50.0}, False, "600 MiB (peak rss)"),
        ("trt", {"peak_rss": 100.0, "available_delta": None}, False, "not measured: /proc/meminfo is empty"),
        ("ort", {"peak_rss": None, "available_delta": 10.0}, False, "not measured: no VmHWM"),
    ],
)
def test_memory_is_the_process_and_on_a_gpu_the_whole_machine_where_that_is_more(run, runtime, memory, passed, told):
    reasons = {"peak_rss": "no VmHWM", "available_delta": "/proc/meminfo is empty"}
    memory = {**memory, "engine": None, "context": None, "reasons": reasons}
    made.put(run, made.on_board("sparse", 1.0, "board", runtime=runtime, memory_mb=memory))
    (verdict,) = [v for v in check(collect(run), Gates(max_memory_mb=500)) if v.device == "board"]
    assert (verdict.passed, verdict.found) == (passed, told)


def test_a_missing_number_fails_its_gate_with_the_reason(boards):
    pi = on(check(collect(boards), ALL), "pi@10.0.0.7")
    assert pi["--max-power-w"].found == "not measured: the board has no rail that can be read"
    assert not pi["--max-power-w"].passed
    assert pi["--require-sparse"].found == "ONNX Runtime runs no layer sparse"


def test_a_stand_ins_numbers_are_missing(boards):
    found = on(check(collect(boards), Gates(50, 1e6, 1e6, 1e6, 1e6, True, 0.01)), "emulated")
    passed = {gate for gate, verdict in found.items() if verdict.passed}
    assert passed == {"--min-top1", "--max-size-mb"}, "its answers are a board's, and the file is the file"
    for gate in set(found) - passed:
        assert found[gate].found.startswith("not measured: ")
        assert "emulated by qemu-aarch64 stood in" in found[gate].found


def test_nothing_measured_fails_everything(tmp_path, run):
    (run / "5-measure").rename(tmp_path / "elsewhere")
    verdicts = check(collect(run), ALL)
    assert [verdict.code for verdict in verdicts] == list(range(10, 17))
    assert not any(verdict.passed for verdict in verdicts)
    assert exit_code(verdicts) == 10


def test_no_gate_asks_for_nothing(run):
    assert check(collect(run), Gates()) == []
    assert exit_code([]) == 0


@pytest.mark.parametrize("name", [name for name in CODES if name not in ("require_sparse", "min_speedup")])
def test_a_limit_of_nothing_is_a_limit(boards, name):
    """0 asks for something: at least 0 % is kept by all that was measured, at most 0 of anything by nothing."""
    asked = Gates(**{name: 0.0})
    assert asked.asked() == [name]
    verdicts = check(collect(boards), asked)
    assert len(verdicts) == 4
    assert {verdict.passed for verdict in verdicts} == {name == "min_top1"}
    assert exit_code(verdicts) == (0 if name == "min_top1" else CODES[name])


def test_what_is_not_asked_for_is_not_asked():
    assert Gates(require_sparse=False).asked() == []
    assert Gates(require_sparse=True, max_power_w=0).asked() == ["max_power_w", "require_sparse"]


@pytest.mark.parametrize(("samples", "passed"), [(999, False), (1000, True)])
def test_a_99th_percentile_takes_a_thousand_inferences(boards, samples, passed):
    timed = made.latencies(0.52, 3, rounds=18, samples=56)
    timed[-1] = timed[-1][: samples - 17 * 56]
    made.put(boards, made.on_board("sparse", 0.52, latency_ns=timed))
    verdict = on(check(collect(boards), Gates(max_p99_ms=100)), "orin-nano")["--max-p99-ms"]
    assert verdict.passed == passed
    assert f"of {samples:,} inferences" in verdict.found
    assert verdict.found.startswith("not measured well enough: ") != passed


# --- several runs


def test_verdicts_of_several_runs_say_of_which(tmp_path):
    """Two runs of one recipe: the same name, device and setting, and another folder."""
    runs = [collect(made.build(tmp_path / name)) for name in ("first.1", "second")]
    verdicts = [verdict for report in runs for verdict in check(report, Gates(min_top1=99))]
    assert [verdict.run for verdict in verdicts] == ["first.1", "second"]
    assert ["--min-top1: first.1, local" in line for line in gating.lines(verdicts)] == [True, False]
    assert "first.1" not in " ".join(gating.lines(verdicts[:1])), "one run needs no name"
    assert [verdict.run for verdict in check(runs[0], Gates(min_top1=99), "runs/first.1")] == ["runs/first.1"]
    classes = [case.get("classname") for case in ElementTree.fromstring(junit(verdicts)).iter("testcase")]  # noqa: S314
    assert classes == ["edgeprune.gates.first_1.local", "edgeprune.gates.second.local"]


def test_a_devices_dots_are_no_packages(boards):
    content = junit(check(collect(boards), Gates(min_top1=90)))
    classes = [case.get("classname") for case in ElementTree.fromstring(content).iter("testcase")]  # noqa: S314
    assert "edgeprune.gates.quickstart.pi@10_0_0_7" in classes


def test_a_comparisons_verdicts_are_called_by_what_b_was_named(boards):
    (verdict, *_) = check(compare_runs(f"{boards}:dense", f"{boards}:sparse"), Gates(min_top1=1))
    assert verdict.run == f"{boards}:sparse"


# --- sparse and faster


@pytest.mark.parametrize(
    ("receipt", "passed", "told"),
    [
        ({"verdict": "yes", "reason": ""}, True, "runs layers sparse"),
        ({"verdict": "no", "reason": ""}, False, "runs no layer sparse"),
        ({"verdict": "unknown", "reason": ""}, False, "not measured: TensorRT does not say"),
        (None, False, "not measured: TensorRT does not say"),
    ],
)
def test_sparse_takes_the_runtimes_own_receipt(boards, receipt, passed, told):
    made.put(boards, made.on_board("sparse", 0.52, receipt=receipt))
    verdict = on(check(collect(boards), Gates(require_sparse=True)), "orin-nano")["--require-sparse"]
    assert verdict.passed == passed
    assert told in verdict.found


def test_the_speed_up_is_held_to_the_lower_end_of_its_interval(boards):
    report = collect(boards)
    (found,) = [c for c in report.comparisons if c.device == "orin-nano"]
    least = 1 / found.latency_ratio_interval[1]
    for wanted, passed in ((least * 0.999, True), (1 / found.latency_ratio, False)):
        verdict = on(check(report, Gates(min_speedup=wanted)), "orin-nano")["--min-speedup"]
        assert verdict.passed == passed, verdict


def test_a_speed_up_within_noise_is_none_however_tight_its_interval(boards):
    noisy = made.latencies(0.84, 1, rounds=18)
    twin = [[int(value * 2) for value in timed] for timed in noisy]
    made.put(boards, made.on_board("dense", 0.84, latency_ns=noisy, twin_ns=twin))
    report = collect(boards)
    verdict = on(check(report, Gates(min_speedup=1.3)), "orin-nano")["--min-speedup"]
    assert not verdict.passed
    assert "within noise" in verdict.found
    assert on(check(report, Gates(min_speedup=0.9)), "orin-nano")["--min-speedup"].passed, "not slower, it only asks"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"started_at": "2025-11-22T10:00:00Z"}, "measured in another call than the dense network"),
        ({"workload": {"protocol": "standard", "rounds": 99}}, "measured without the dense network"),
        ({"latency_ns": made.latencies(0.5, 1, rounds=3), "passes": []}, "no latencies of both"),
    ],
)
def test_a_speed_up_that_was_not_compared_says_why(boards, change, told):
    made.put(boards, made.on_board("sparse", 0.52, **change))
    verdict = on(check(collect(boards), Gates(min_speedup=0.1)), "orin-nano")["--min-speedup"]
    assert not verdict.passed
    assert verdict.found.startswith("not measured: ")
    assert told in verdict.found


def test_a_comparison_is_judged_by_b_against_a(boards):
    compared = compare_runs(f"{boards}:sparse", f"{boards}:dense")
    verdicts = on(check(compared, Gates(min_top1=98.0, min_speedup=1.0)), "orin-nano")
    assert verdicts["--min-top1"].passed, "dense has 98.3 %"
    assert not verdicts["--min-speedup"].passed, "and it is slower than sparse"


# --- what is asked


@pytest.mark.parametrize(
    "asked",
    [
        {"min_top1": 100.5},
        {"min_top1": -1},
        {"max_p99_ms": -0.1},
        {"max_memory_mb": float("nan")},
        {"max_power_w": float("inf")},
        {"max_size_mb": -3},
        {"min_speedup": 0},
        {"min_speedup": -2},
    ],
)
def test_limits_that_cannot_be_are_the_users_errors(asked):
    (name,) = asked
    with pytest.raises(UserError, match=f"{gating.option_of(name)} is "):
        Gates(**asked)


@given(st.sets(st.sampled_from(sorted(CODES))))
def test_the_exit_code_is_the_lowest_of_the_failed_gates(failed):
    verdicts = [
        Verdict("run", gating.option_of(n), code, "d", "s", "", "", n not in failed) for n, code in CODES.items()
    ]
    assert exit_code(verdicts) == (min(CODES[name] for name in failed) if failed else 0)
    assert exit_code(verdicts[::-1]) == exit_code(verdicts)


def test_lines_name_gate_device_limit_and_value_failures_first(boards):
    lines = gating.lines(check(collect(boards), ALL))
    states = [line.split()[0] for line in lines]
    assert states == sorted(states)
    assert "FAILED  --max-power-w: pi@10.0.0.7, sparse, ONNX Runtime 1.31.1, fp32, batch 1, 1 thread, standard" in [
        line.partition(": not measured")[0] for line in lines
    ]


# --- JUnit


def assert_junit(content, verdicts):
    """The structure that build servers read: suites with counts that add up, unique cases, failures with messages."""
    root = ElementTree.fromstring(content)  # noqa: S314
    assert root.tag == "testsuites"
    (suite,) = root
    cases = list(suite)
    for counted in (root, suite):
        assert int(counted.get("tests")) == len(cases) == len(verdicts)
        assert int(counted.get("failures")) == len(suite.findall("testcase/failure"))
        assert {counted.get("errors"), counted.get("skipped")} == {"0"}
    for case, verdict in zip(cases, verdicts, strict=True):
        assert case.tag == "testcase"
        assert case.get("classname")
        assert case.get("name")
        assert float(case.get("time")) >= 0
        (child,) = case
        assert child.tag == ("system-out" if verdict.passed else "failure")
        if not verdict.passed:
            assert child.get("type") == f"exit-code-{verdict.code}"
            assert child.get("message")
    return root


def test_junit_has_a_case_for_each_gate_and_device(boards, tmp_path):
    verdicts = check(collect(boards), ALL)
    write_junit(tmp_path / "deep/gates.xml", verdicts, "quickstart")
    content = (tmp_path / "deep/gates.xml").read_bytes()
    assert content.startswith(b"<?xml")
    root = assert_junit(content, verdicts)
    names = [(case.get("classname"), case.get("name")) for case in root.iter("testcase")]
    assert len(set(names)) == len(names)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["gates.xml"]


@given(st.text(), st.text(), st.booleans())
def test_junit_is_well_formed_with_odd_names(device, found, passed):
    verdict = Verdict("run", "--min-top1", 10, device, "<&\"'>]]>\x00\ud800", "at least 1 %", found, passed)
    assert_junit(junit([verdict], f"{device}\x0b"), [verdict])


def test_names_that_xml_can_hold_arrive_as_they_are():
    verdict = Verdict("run", "--min-top1", 10, "ärger <&>\"'", "日本 🎉", "x", "y", False)
    (case,) = ElementTree.fromstring(junit([verdict])).iter("testcase")  # noqa: S314
    assert case.get("name") == "--min-top1: ärger <&>\"', 日本 🎉"


def test_an_empty_list_is_a_file_too():
    assert_junit(junit([]), [])


def test_every_gate_has_a_rule_a_code_and_words():
    for name in CODES:
        asked = Gates(**{name: True if name == "require_sparse" else 1.0})
        assert asked.asked() == [name]
        assert replace(asked) == asked
