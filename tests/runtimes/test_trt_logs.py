"""What TensorRT prints, read back: every captured print by hand, and lines rendered from random names."""

import json

import pytest
from captured_prints import CAPTURED, captured
from hypothesis import example, given
from hypothesis import strategies as st

from runtimes import trt_logs
from runtimes.trt_inspector import exported_profile, exported_times, inspected_layers, layers_of_text
from runtimes.trt_logs import Build, Device, Performance, Sparsity, Spread

FOUND = "(Sparsity) Found {} layer(s) eligible to use sparse tactics"
CHOSE = "(Sparsity) Chose {} layer(s) using sparse tactics"
ELIGIBLE = "[09/16/2022-09:55:37] [I] [TRT] (Sparsity) Layers eligible for sparse math:"
PICKED = "[09/16/2022-09:55:37] [I] [TRT] (Sparsity) TRT inference plan picked sparse implementation for layers:"
NOTHING = Sparsity(None, None, None, None)


# Sparsity ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sparsity-trt8.0-docs.log", Sparsity(3, 2, ["conv1", "conv2", "conv3"], ["conv2", "conv3"])),
        ("sparsity-trt8-empty-lists.log", Sparsity(0, 0, [], [])),
        (
            "sparsity-trt8-matmul-list-abridged.log",
            Sparsity(2, None, ["MatMul_401", "Conv_619 + Relu_620"], None),
        ),
        ("sparsity-trt10-orin-nano-none-chosen.log", Sparsity(39, 0, None, [])),
        ("sparsity-trt10-template.log", NOTHING),
    ],
)
def test_captured_sparsity_lines_give_their_counts_and_names(name, expected):
    assert trt_logs.sparsity(captured(name)) == expected


def test_a_log_without_sparsity_lines_is_silent_and_not_zero():
    silent = [path for path in CAPTURED.glob("*.log") if not path.name.startswith("sparsity-")]
    assert len(silent) >= 9
    assert {trt_logs.sparsity(path.read_text()) for path in silent} == {NOTHING}


def test_the_last_pair_counts():
    log = "\n".join([FOUND.format(39), CHOSE.format(5), "between", FOUND.format(12), CHOSE.format(2)])
    assert trt_logs.sparsity(log) == Sparsity(12, 2, None, None)
    assert trt_logs.sparsity(captured("sparsity-trt8.0-docs.log") + log).eligible == 12


def test_that_the_last_graph_has_none_says_nothing_where_an_earlier_one_has_some():
    log = "\n".join([FOUND.format(39), CHOSE.format(5), FOUND.format(12), CHOSE.format(0)])
    assert trt_logs.sparsity(log) == Sparsity(12, None, None, None)
    log = "\n".join([FOUND.format(39), CHOSE.format(0), FOUND.format(12), CHOSE.format(0)])
    assert trt_logs.sparsity(log) == Sparsity(12, 0, None, [])


def test_an_earlier_choice_is_not_taken_for_that_of_the_last_graph():
    log = "\n".join([FOUND.format(39), CHOSE.format(5), FOUND.format(12)])
    assert trt_logs.sparsity(log) == Sparsity(12, None, None, None)


def test_a_choice_alone_leaves_the_eligible_layers_unknown():
    assert trt_logs.sparsity(CHOSE.format(5)) == Sparsity(None, 5, None, None)


def test_a_list_that_is_shorter_or_longer_than_its_count_is_not_the_list():
    log = FOUND.format(3) + ": a, b\n" + CHOSE.format(1) + ": ..."
    assert trt_logs.sparsity(log) == Sparsity(3, 1, None, None)


names = st.lists(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters=",\n\r", exclude_categories=("Z", "C")), min_size=1),
        min_size=1,
        max_size=3,
    ).map(" + ".join),
    max_size=6,
).filter(lambda found: found != ["..."])
prefixes = st.sampled_from(["", "[I] [TRT] ", "[03/23/2021-00:14:05] [V] [TRT] ", "[TRT] "])


@given(names, names, prefixes, st.booleans(), st.booleans())
@example(["a", "b + c"], ["b + c"], "", False, True)
def test_rendered_lines_of_both_generations_are_read_back(eligible, chosen, prefix, old, named):
    lines = [(ELIGIBLE if old else FOUND, eligible), (PICKED if old else CHOSE, chosen)]
    log = "\n".join(
        (line[line.index("(") :] if old else prefix + line.format(len(layers)))
        + ((" " if old else ": ") + ", ".join(layers) if (old or named) and layers else "")
        for line, layers in lines
    )
    told = old or named
    expected = [layers if told or not layers else None for _, layers in lines]
    assert trt_logs.sparsity(log) == Sparsity(len(eligible), len(chosen), *expected)


# Versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (captured("header-orin-trt8.4-abridged.log"), (8, 4, 12)),
        (captured("header-trt10.16-jp7.2.1.log"), (10, 16, 2)),
        (captured("perf-trt10.7-cudagraph.log"), (10, 7, 0)),
        ("v8502", (8, 5, 2)),
        ("100300", (10, 3, 0)),
        ("v100000", (10, 0, 0)),
        ("[TensorRT v110100]", (11, 1, 0)),
        ("10.3.0.30", (10, 3, 0)),
        ("8.6.1", (8, 6, 1)),
        ("", None),
        ("v12", None),
        ("at 127.0.0.1 [I] 1.2.3\n4.5.6", None),
    ],
)
def test_versions_are_read_from_banners_lines_and_stamps(text, expected):
    assert trt_logs.version(text) == expected


def test_the_banner_and_the_line_of_one_log_agree():
    log = captured("header-orin-trt8.4-abridged.log")
    banner, *_, last = log.strip().split("\n")
    assert trt_logs.version(banner) == trt_logs.version(last) == (8, 4, 12)


@given(st.integers(8, 12), st.integers(0, 9), st.integers(0, 99))
def test_stamps_of_both_kinds_are_decoded(major, minor, patch):
    stamp = major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    assert trt_logs.version(f"&&&& RUNNING TensorRT.trtexec [TensorRT v{stamp}] # x") == (major, minor, patch)


# Performance ---------------------------------------------------------------------------------------------------------


def test_a_whole_summary_of_10_7():
    assert trt_logs.performance(captured("perf-trt10.7-cudagraph.log")) == Performance(
        throughput_qps=32.7494,
        latency=Spread(30.7003, 31.6415, 30.8066, 30.7695, {90: 30.8008, 95: 31.1944, 99: 31.5444}),
        enqueue=Spread(0.00305176, 0.0141602, 0.00393677, 0.00360107, {90: 0.00494385, 95: 0.00585938, 99: 0.00842285}),
        h2d=Spread(0.5896, 0.614014, 0.590921, 0.590332, {90: 0.591431, 95: 0.592529, 99: 0.602051}),
        gpu=Spread(30.1056, 31.0457, 30.2108, 30.1722, {90: 30.2061, 95: 30.6002, 99: 30.9484}),
        d2h=Spread(0.00390625, 0.00634766, 0.00490275, 0.00463867, {90: 0.00585938, 95: 0.00598145, 99: 0.00628662}),
        walltime_s=3.08403,
        gpu_total_s=3.05129,
        queries=101,
    )


def test_a_summary_of_10_4_without_transfers():
    gpu = Spread(0.491211, 0.506836, 0.498791, 0.499023, {90: 0.501465, 95: 0.501953, 99: 0.503418})
    zero = Spread(0.0, 0.0, 0.0, 0.0, {90: 0.0, 95: 0.0, 99: 0.0})
    assert trt_logs.performance(captured("perf-trt10.4-nodatatransfers.log")) == Performance(
        throughput_qps=1995.29,
        latency=gpu,
        enqueue=Spread(
            0.000976562, 0.0112305, 0.00168485, 0.00146484, {90: 0.00195312, 95: 0.00244141, 99: 0.00390625}
        ),
        h2d=zero,
        gpu=gpu,
        d2h=zero,
        walltime_s=3.00106,
        gpu_total_s=2.98676,
        queries=None,
    )


def test_a_summary_of_8_0_has_one_percentile_and_no_other_rows():
    latency = Spread(1.81982, 3.1843, 2.05464, 2.02905, {99: 2.29761})
    found = trt_logs.performance(captured("perf-trt8.0-only-p99.log"))
    assert found == Performance(501.618, latency, None, None, None, None, None, None, None)


def test_any_list_of_percentiles_is_read_and_other_latencies_are_not_mixed_up():
    line = (
        "{}: min = 1 ms, max = 4 ms, mean = 2.5 ms, median = 2e0 ms, percentile(50%) = 2 ms, percentile(99.9%) = 4 ms"
    )
    log = "\n".join(line.format(row) for row in ("End-to-End Host Latency", "Host Latency", "GPU Compute Time"))
    found = trt_logs.performance(log)
    assert found.latency is None
    assert found.gpu == Spread(1.0, 4.0, 2.5, 2.0, {50: 2.0, 99.9: 4.0})


def test_a_row_with_an_infinite_time_is_no_row():
    line = "[I] Latency: min = {0} ms, max = {0} ms, mean = {0} ms, median = {0} ms, percentile(99%) = {0} ms"
    assert trt_logs.performance(line.format("inf")).latency is None
    assert trt_logs.performance(line.format("1e999")).latency is None
    assert trt_logs.performance("Throughput: 1e999 qps").throughput_qps is None
    assert trt_logs.performance(line.format("1e-3")).latency == Spread(0.001, 0.001, 0.001, 0.001, {99: 0.001})


# Device, options, build ----------------------------------------------------------------------------------------------


def test_both_wordings_of_the_device_block():
    assert trt_logs.device(captured("header-orin-trt8.4-abridged.log")) == Device(
        "Orin", "8.7", 16, 1.275, 1.275, 28826
    )
    assert trt_logs.device(captured("header-trt10.4-desktop-abridged.log")) == Device(
        "NVIDIA GeForce RTX 3060 Laptop GPU", "8.6", 30, 1.425, 7.001, 5937
    )
    assert trt_logs.device(captured("perf-trt10.7-cudagraph.log")) == Device(None, None, None, None, None, None)


def test_build_options_and_the_builders_last_words():
    tail = captured("build-tail-trt10.4.log")
    assert trt_logs.build(tail) == Build(None, None, 8.69986, 117.087)
    assert trt_logs.build(captured("header-orin-trt8.4-abridged.log")) == Build("FP32+INT8", "Disabled", None, None)
    header = captured("header-trt10.4-desktop-abridged.log")
    assert trt_logs.build(header + tail) == Build("FP32+FP16", None, 8.69986, 117.087)


def test_inference_and_reporting_options_are_read_as_printed():
    old = trt_logs.sections(captured("header-orin-trt8.4-abridged.log"))
    assert old["Inference Options"] == {
        "Batch": "Explicit",
        "Input inference shapes": "model",
        "Iterations": "10",
        "Duration": "3s (+ 200ms warm up)",
        "Data transfers": "Enabled",
        "Spin-wait": "Disabled",
        "CUDA Graph": "Disabled",
    }
    assert old["Reporting Options"]["Percentile"] == "99"
    new = trt_logs.sections(captured("header-trt10.4-desktop-abridged.log"))
    assert new["Model Options"] == {"Format": "ONNX", "Model": "models/alexnet/alexnet_fp16.onnx", "Output": ""}
    assert new["Reporting Options"]["Percentiles"] == "90,95,99"


def test_a_block_ends_at_an_empty_line():
    block = trt_logs.sections(captured("header-orin-trt8.4-abridged.log"))["Device Information"]
    assert "TensorRT version" not in block
    assert block["Memory Bus Width"] == "128 bits (ECC disabled)"


def test_what_has_no_value_is_none_and_a_line_without_a_colon_is_no_option():
    log = "=== Build Options ===\nPrecision: \nnothing\nSparsity:\n=== Device Information ===\nSelected Device: \n"
    assert trt_logs.build(log) == Build(None, None, None, None)
    assert trt_logs.device(log).name is None
    assert trt_logs.sections(log)["Build Options"] == {"Precision": "", "Sparsity": ""}


# Warnings and errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("[W] * GPU compute time is unstable, with coefficient of variance = 5.9%.", "gpu-time-unstable"),
        ("[W] * Throughput may be bound by Enqueue Time rather than GPU Compute and so on", "enqueue-bound"),
        ("[W] * Throughput may be bound by host-to-device transfers for the inputs", "transfer-bound"),
        ("[W] * Throughput may be bound by device-to-host transfers for the outputs", "transfer-bound"),
        ("[W] [TRT] Skipping tactic 0x0000000000000003 due to insufficient memory on requested size", "low-memory"),
        ("[V] [TRT] Skipping tactic 3 due to insuficient memory on requested size of 9 detected", "low-memory"),
        ("[V] [TRT] Skipping tactic 0x3 due to exception: out of memory", "low-memory"),
        ("[V] [TRT] Skipping tactic 0x3 due to exception: no such kernel", "tactic-failed"),
        ("[V] [TRT] Skipping tactic 0x3 due to kernel not supporting this shape", "tactic-failed"),
        ("[E] [TRT] 2: [virtualMemoryBuffer.cpp::resizePhysical::127] Error Code 2: OutOfMemory ()", "low-memory"),
        ("[W] [TRT] Requested amount of GPU memory (1073 bytes) could not be allocated.", "low-memory"),
        ("[W] [TRT] Tactic Device request: 4127MB Available: 1536MB. Device memory is insufficient", "low-memory"),
        ("[W] --sparsity=force has been deprecated. ", "sparsity-forced"),
    ],
)
def test_each_warning_has_its_code_and_its_first_line(line, code):
    (found,) = trt_logs.warnings("[I] before\n[11/01/2024-10:33:09] " + line + "\n[I] after")
    assert found.code == code
    assert found.message in line
    assert not found.message.startswith(("[", "*", " "))
    bare = line.partition("] ")[2]  # from a logger that prints no severity: allocations that went well look alike
    assert [doubt.code for doubt in trt_logs.warnings(bare)] == ([] if "allocated" in line else [code])


def test_warnings_of_one_kind_are_one_entry_with_their_number():
    log = "\n".join(f"[W] [TRT] Skipping tactic {tactic} due to insufficient memory" for tactic in range(3))
    (found,) = trt_logs.warnings(log)
    assert found.message == "Skipping tactic 0 due to insufficient memory (and 2 more such lines)"
    (found,) = trt_logs.warnings(log[: log.rindex("\n")])
    assert found.message.endswith(" (and 1 more such lines)")


def test_an_allocation_that_went_well_is_no_warning():
    log = captured("perf-trt10.7-cudagraph.log")
    assert "allocation" in log
    assert trt_logs.warnings(log) == []


def test_no_captured_print_holds_a_warning():
    assert [path.name for path in CAPTURED.glob("*.log") if trt_logs.warnings(path.read_text())] == []


def test_an_engine_from_elsewhere_is_told_with_both_capabilities():
    log = captured("engine-incompatible-error.log")
    assert trt_logs.incompatible(log) == ("6.1", "8.6")
    assert [line.partition(":")[0] for line in trt_logs.errors(log)] == ["6", "4"]
    assert trt_logs.errors(log)[1].endswith("(Engine deserialization failed.)")
    assert trt_logs.incompatible("all is well") is None


def test_errors_are_lines_of_that_severity_without_their_prefix():
    lines = ["[I] fine", "[11/01/2024-10:32:46] [E] [TRT] it broke", "[W] careful", "[E] Engine set up failed"]
    log = "\n".join(lines)
    assert trt_logs.errors(log) == ["it broke", "Engine set up failed"]


def test_passed_and_failed_are_told_apart_and_neither_is_none():
    banner = "&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=a\n"
    assert trt_logs.passed(banner) is None
    assert trt_logs.passed(banner + "&&&& PASSED TensorRT.trtexec [TensorRT v8502] # trtexec") is True
    assert trt_logs.passed(banner + "&&&& FAILED TensorRT.trtexec [TensorRT v8502] # trtexec") is False


# Junk ----------------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [line for path in CAPTURED.glob("*.*") for line in path.read_text().split("\n")]
    + [
        "=== ",
        " ===",
        "(Sparsity) Found ",
        "Name: ",
        ", LayerType: ",
        "&&&& ",
        "percentile(",
        "\x1e",
        "\r",
        "[E] [TRT] ",
    ]
)


@given(st.lists(st.one_of(PIECES, st.text(max_size=30)), max_size=12).map("\n".join) | st.lists(PIECES).map("".join))
def test_no_text_raises_and_every_number_can_be_written_as_json(text):
    told = [
        trt_logs.sparsity(text),
        trt_logs.version(text),
        trt_logs.performance(text),
        trt_logs.device(text),
        trt_logs.build(text),
        trt_logs.sections(text),
        trt_logs.errors(text),
        trt_logs.incompatible(text),
        trt_logs.passed(text),
        [doubt.code for doubt in trt_logs.warnings(text)],
        inspected_layers(text),
        layers_of_text(text),
        exported_times(text),
        exported_profile(text),
    ]
    assert json.dumps(told, allow_nan=False)
