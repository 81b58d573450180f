"""The argument list for every release of trtexec, against the flags it has, and the report made of what it leaves."""

import csv
import json
from pathlib import Path

import pytest
from captured_prints import CAPTURED
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, save
from trtexec_stand_in import WHOLE, exported

from runtimes.errors import UserError
from runtimes.trt_wishes import Wishes
from runtimes.trtexec_command import Job, command, shapes
from runtimes.trtexec_report import document, summary_ms

# The argument list ---------------------------------------------------------------------------------------------------


def known_flags():
    """Release -> flag -> yes, no or deprecated, as read from trtexec's source."""
    with (CAPTURED / "flags.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {release: {row["flag"]: row[release] for row in rows} for release in list(rows[0])[1:]}


KNOWN = known_flags()
SHAPES = dict.fromkeys(("minShapes", "optShapes", "maxShapes", "shapes"), "input:1x3x8x8")


def flags_of(release, precision="fp32", cuda_graph=True):
    version = (*map(int, release.split(".")), 0)
    job = Job(Path("a.onnx"), SHAPES, Path("out"), 10.0, Wishes(precision=precision), cuda_graph)
    argv = command(version, "trtexec", job)
    assert argv[0] == "trtexec"
    return [argument.partition("=")[0] for argument in argv[1:]]


@pytest.mark.parametrize("release", KNOWN)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("cuda_graph", [True, False])
def test_no_release_gets_a_flag_that_it_does_not_have_or_has_deprecated(release, precision, cuda_graph):
    flags = flags_of(release, precision, cuda_graph)
    assert {KNOWN[release].get(flag, "not listed") for flag in flags} == {"yes"}
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("release", KNOWN)
def test_every_release_is_asked_for_the_same_measurement(release):
    flags, without = set(flags_of(release)), set(flags_of(release, cuda_graph=False))
    asked = {"--useCudaGraph", "--useSpinWait", "--noDataTransfers", "--separateProfileRun"}
    if release.startswith("11"):  # they are its defaults
        assert not asked & flags
        assert without - flags == {"--noCudaGraph"}
    else:
        assert asked <= flags
        assert flags - without == {"--useCudaGraph"}
    assert {"--sparsity", "--verbose", "--profilingVerbosity", "--exportTimes", "--exportLayerInfo"} <= flags


@pytest.mark.parametrize(
    ("release", "precision", "expected"),
    [
        ("8.5", "fp32", set()),
        ("8.5", "fp16", {"--fp16"}),
        ("8.6", "int8", {"--int8"}),
        ("10.3", "fp16", {"--stronglyTyped"}),
        ("10.16", "fp32", {"--stronglyTyped"}),
        ("11.1", "fp16", set()),
        ("11.1", "int8", set()),
    ],
)
def test_precision_flags_of_each_release(release, precision, expected):
    assert {"--fp16", "--int8", "--stronglyTyped"} & set(flags_of(release, precision)) == expected


def test_the_command_of_11_as_it_is_typed(tmp_path):
    job = Job(Path("net.onnx"), {"shapes": "x:1x3x8x8"}, Path("out"), 10.0, Wishes(precision="int8"), cuda_graph=True)
    assert command((11, 4, 1), "/opt/trtexec", job) == [
        "/opt/trtexec",
        "--onnx=net.onnx",
        "--verbose",
        "--sparsity=enable",
        "--shapes=x:1x3x8x8",
        "--memPoolSize=workspace:1024",
        "--profilingVerbosity=detailed",
        "--dumpLayerInfo",
        "--warmUp=1000",
        "--duration=10",
        "--avgRuns=100",
        "--percentile=50,90,95,99",
        "--exportTimes=out/times.json",
        "--exportProfile=out/profile.json",
        "--exportLayerInfo=out/layers.json",
    ]


@pytest.mark.parametrize(("wished", "available", "workspace"), [(None, 2000, 500), (None, 99999, 1024), (64, 2000, 64)])
def test_the_workspace_is_that_of_the_runtime(wished, available, workspace):
    job = Job(Path("net.onnx"), {}, Path("out"), 10.0, Wishes(workspace_mb=wished), available_mb=available)
    assert f"--memPoolSize=workspace:{workspace}" in command((10, 3, 0), "trtexec", job)


def network(path, shape):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    save(helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", inputs, outputs)), path)
    return path


def test_shapes_are_given_only_where_the_network_leaves_the_batch_free(tmp_path):
    free = network(tmp_path / "free.onnx", ["n", 3, 8, 8])
    assert shapes(free, 128) == {
        "minShapes": "x:128x3x8x8",
        "optShapes": "x:128x3x8x8",
        "maxShapes": "x:128x3x8x8",
        "shapes": "x:128x3x8x8",
    }
    fixed = network(tmp_path / "fixed.onnx", [2, 3, 8, 8])
    assert shapes(fixed, 2) == {}
    with pytest.raises(UserError, match="takes batches of 2, not of 1"):
        shapes(fixed, 1)
    with pytest.raises(UserError, match="other than the batch is free"):
        shapes(network(tmp_path / "wide.onnx", ["n", 3, "h", 8]), 1)


# The report ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0.001, 1000), min_size=1, max_size=40))
def test_our_percentiles_are_those_of_the_definition(times):
    found, ordered = summary_ms(times), sorted(times)
    assert (found["n"], found["min"], found["max"]) == (len(times), ordered[0], ordered[-1])
    for name, share in (("median", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        low, rest = divmod(share * (len(times) - 1), 1)
        high = min(int(low) + 1, len(times) - 1)
        assert found[name] == pytest.approx(ordered[int(low)] + rest * (ordered[high] - ordered[int(low)]))
    assert found["mean"] == pytest.approx(sum(times) / len(times))


def test_exported_times_that_are_not_those_of_the_summary_are_a_doubt():
    wrong = exported([31.0, 31.0, 31.0])
    codes = [doubt["code"] for doubt in document(WHOLE, wrong)["warnings"]]
    assert codes == ["gpu-time-unstable", "exported-times-differ"]
    assert document(WHOLE, exported())["warnings"][1:] == []


def test_nothing_at_all_still_makes_a_document_with_reasons():
    found = document("", {})
    assert json.dumps(found, allow_nan=False)
    assert found["receipt"]["verdict"] == "unknown"
    assert found["performance"]["gpu"] is None
    assert set(found["reasons"]) == {"performance", "percentiles", "receipt.tactics", "receipt.tactics.ms"}
