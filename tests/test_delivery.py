"""`edgeprune export --target`: every precision counted from outside, the bundle for the board, and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from processes import call
from toys import QUICK, few_images, files, synthetic

from export.examine import examine
from runtimes.bundle import read_bundle, verify

PRECISIONS = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
BOARD = "3-export/jetson-orin"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A small 2:4 run exported for a Jetson: its folder, and what the export said. No test may change it."""
    folder = tmp_path_factory.mktemp("exported")
    run = folder / "run"
    code, _, err = call("retrain", "quickstart-2of4", "--out", run, *QUICK, says=folder / "retrain").wait()
    assert code == 0, err
    code, out, err = call("export", run, "--target", "jetson-orin", says=folder / "export").wait()
    assert code == 0, err
    return run, out, err


def told(exported: tuple[Path, str, str]) -> Any:
    return json.loads((exported[0] / BOARD / "manifest.json").read_text())


def weight_of(model: ModelProto, name: str) -> np.ndarray:
    """The layer's weight as it is stored, in whatever type: zero is zero in a symmetric quantisation too."""
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == f"{name}.weight"]
    return numpy_helper.to_array(tensor)


def steps_of(model: ModelProto, name: str) -> np.ndarray:
    """The int8 steps that the file's own quantiser makes of a weight, by hand: one scale for each output channel."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    (quantiser,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == f"{name}.weight"]
    weight, scale, zero = (held[read] for read in quantiser.input)
    assert (zero.dtype, zero.any()) == (np.int8, False)
    steps = weight / scale.reshape(-1, *[1] * (weight.ndim - 1))
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-4)
    assert np.abs(steps).max() < 127.5
    return np.rint(steps).astype(np.int8)


def fits_two_of_four(weight: np.ndarray) -> bool:
    """At most two of four neighbouring input channels, everywhere: by plain loops."""
    out, channels, *kernel = weight.shape
    for k in range(out):
        for position in np.ndindex(*kernel):
            for first in range(0, channels, 4):
                if sum(weight[(k, c, *position)] != 0 for c in range(first, first + 4)) > 2:
                    return False
    return True


# --- what is in the files


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_planned_layer_is_two_of_four_in_every_precision(precision: str, exported: tuple[Path, str, str]) -> None:
    model = onnx.load_model(exported[0] / BOARD / PRECISIONS[precision])
    planned = told(exported)["planned"]
    assert planned
    stored = {"fp32": np.float32, "fp16": np.float16, "int8": np.float32}[precision]
    for name in planned:
        weight = weight_of(model, name)
        assert weight.dtype == stored
        assert fits_two_of_four(steps_of(model, name) if precision == "int8" else weight), name


def test_the_dense_network_comes_in_every_precision_too_and_is_not_sparse(exported: tuple[Path, str, str]) -> None:
    networks = told(exported)["networks"]
    assert list(networks) == [
        "teacher", "dense", "dense-fp16", "dense-int8", "pruned", "sparse", "sparse-fp16", "sparse-int8",
    ]  # fmt: skip
    for name, entry in networks.items():
        assert (exported[0] / BOARD / entry["file"]).is_file()
        assert entry["network"] == name.partition("-")[0]
        assert entry["precision"] == (name.partition("-")[2] or "fp32")
    dense = onnx.load_model(exported[0] / BOARD / "dense.int8.onnx")
    assert not any(fits_two_of_four(weight_of(dense, name)) for name in told(exported)["planned"])


def test_inputs_and_outputs_stay_float32_and_old_releases_read_the_file(exported: tuple[Path, str, str]) -> None:
    for file in PRECISIONS.values():
        model = onnx.load_model(exported[0] / BOARD / file)
        for value in (*model.graph.input, *model.graph.output):
            assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_zeros_that_a_precision_adds_are_counted_apart(exported: tuple[Path, str, str]) -> None:
    networks = told(exported)["networks"]
    for precision in ("fp16", "int8"):
        lower = onnx.load_model(exported[0] / BOARD / PRECISIONS[precision])
        exact = onnx.load_model(exported[0] / BOARD / PRECISIONS["fp32"])
        names = [layer["name"] for layer in networks["sparse"]["layers"] if layer["kind"] != "norm"]
        extra = sum(int((weight_of(lower, n) == 0).sum() - (weight_of(exact, n) == 0).sum()) for n in names)
        assert networks[f"sparse-{precision}"]["verification"]["extra_zeros"] == extra
        assert networks[f"sparse-{precision}"]["zeros"] == networks["sparse"]["zeros"]


# --- what travels


def test_the_bundle_holds_the_pair_in_each_precision_and_the_command_is_told(exported: tuple[Path, str, str]) -> None:
    run, out, err = exported
    bundle = read_bundle(run / "4-compile" / "jetson-orin" / "bundle")
    verify(bundle)
    names = ["dense", "dense-fp16", "dense-int8", "sparse", "sparse-fp16", "sparse-int8"]
    assert sorted(bundle.networks) == names
    assert {name: network.precision for name, network in bundle.networks.items()} == {
        name: name.partition("-")[2] or "fp32" for name in names
    }
    assert list(bundle.runtimes) == ["trt"]
    *paths, command = out.splitlines()
    assert [Path(path).name for path in paths][-1] == "manifest.json"
    assert all(Path(path).is_file() for path in paths)
    assert command.startswith("on the device, in a copy of ")
    assert command.endswith("/4-compile/jetson-orin/bundle: python3 -m runtimes measure .")
    warnings = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert warnings == [f"warning: {text}" for text in told(exported)["warnings"]]
    assert "none of the 2:4 layers is large enough" in "".join(warnings), "digits need no large layer"


def test_unstructured_zeros_are_exported_with_the_warning_that_they_gain_nothing(tmp_path: Path) -> None:
    short = ("--set", "teacher.epochs=1", "--set", "student.epochs=1", "--set", "retrain.epochs=1")
    run = tmp_path / "run"
    arguments = ("export", "quickstart", "--target", "jetson-orin", "--precision", "fp16", "--out", run)
    code, out, err = call(*arguments, *QUICK, *short, says=tmp_path / "says").wait()
    assert code == 0, err
    (warning,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "unstructured" in warning
    assert "TensorRT" in warning
    assert "2:4" in warning
    manifest = json.loads((run / "3-export" / "manifest.json").read_text())
    assert (manifest["planned"], len(manifest["warnings"])) == ([], 1)
    assert (run / "3-export" / "model.fp16.onnx").is_file()
    assert not (run / "3-export" / "model.int8.onnx").exists()
    assert out.splitlines()[-1].endswith("python3 -m runtimes measure . --runtime trt")


def test_a_checkpoint_whose_zeros_are_two_of_four_is_found_out_and_planned(
    exported: tuple[Path, str, str], tmp_path: Path
) -> None:
    arguments = ("export", "--model", "digits-cnn", "--checkpoint", exported[0] / "2-retrain" / "student.safetensors")
    target = ("--target", "jetson-orin", "--precision", "fp16", "--out", tmp_path / "run", "--data", "synthetic")
    code, _, err = call(*arguments, *target, *QUICK, says=tmp_path / "says").wait()
    assert code == 0, err
    manifest = json.loads((tmp_path / "run" / "3-export" / "manifest.json").read_text())
    assert (manifest["planned"], manifest["warnings"]) == (told(exported)["planned"], told(exported)["warnings"])
    assert (manifest["pattern"], manifest["networks"]["sparse"]["pattern"]) == ("2:4", "2:4")
    for file in ("model.onnx", "model.fp16.onnx"):
        assert "layers that it plans to be 2:4 are" in examine(tmp_path / "run" / "3-export" / file, None)[0]


GROUPED = """
from torch import nn


def build(num_classes):
    body = [nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 16, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes))
"""


def test_a_grouped_layer_of_a_checkpoint_is_not_planned_whatever_its_zeros(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grouped_nets.py").write_text(GROUPED)
    space: dict[str, Any] = {}
    exec(GROUPED, space)  # noqa: S102 - our own text, just above
    network = space["build"](4)
    with torch.no_grad():
        for layer in (network[1], network[3]):
            layer.weight[:, ::2] = 0
    torch.save(network.state_dict(), "sparse.pt")
    np.savez("images.npz", **few_images())
    arguments = ("export", "--model", "grouped_nets:build", "--checkpoint", "sparse.pt", "--data", "images.npz")
    code, _, err = call(*arguments, "--target", "jetson-orin", "--out", "run", says=tmp_path / "says").wait()
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "3-export" / "manifest.json").read_text())["planned"] == ["3"]


@pytest.fixture
def own(exported: tuple[Path, str, str], tmp_path: Path) -> Path:
    """A copy of the run that a test may change."""
    shutil.copytree(exported[0], tmp_path / "own")
    return tmp_path / "own"


def test_fewer_precisions_leave_no_file_of_an_earlier_export(own: Path, tmp_path: Path) -> None:
    arguments = ("export", own, "--target", "jetson-orin", "--precision", "fp16")
    code, _, err = call(*arguments, says=tmp_path / "says").wait()
    assert code == 0, err
    manifest = json.loads((own / BOARD / "manifest.json").read_text())
    listed = {entry["file"] for entry in manifest["networks"].values()}
    assert {path.name for path in (own / BOARD).glob("*.onnx")} == listed
    assert "model.int8.onnx" not in listed
    bundle = read_bundle(own / "4-compile" / "jetson-orin" / "bundle")
    assert sorted(bundle.networks) == ["dense", "dense-fp16", "sparse", "sparse-fp16"]


@pytest.mark.parametrize(
    "option",
    [
        ("--set", "prune.sparsity=0.1"),
        ("--out", "elsewhere"),
        ("--data", "digits"),
        ("--model", "digits-cnn"),
        ("--checkpoint", "other.pt"),
    ],
)
@pytest.mark.parametrize("what", ["run", "file"])
def test_an_option_that_would_change_what_is_there_is_refused(
    what: str, option: tuple[str, str], exported: tuple[Path, str, str], tmp_path: Path
) -> None:
    run = exported[0]
    before = files(run)
    given = (run, "--target", "jetson-orin") if what == "run" else (run / BOARD / "model.onnx", "--check")
    code, out, err = call("export", *given, *option, says=tmp_path).wait()
    assert (code, out) == (2, "")
    assert f"is taken as it is: {option[0]} has no place here" in err.splitlines()[-2]
    assert files(run) == before


@pytest.mark.parametrize(
    ("target", "precision", "says"),
    [
        ("jetson-orin", "fp8", "error: jetson-orin gets no files in fp8"),
        ("raspberry-pi-5", "fp16", "error: raspberry-pi-5 gets no files in fp16"),
        ("jetson-orni", "fp16", "error: unknown target 'jetson-orni'"),
    ],
)
def test_a_precision_that_the_target_does_not_take_is_two_lines(
    target: str, precision: str, says: str, exported: tuple[Path, str, str], tmp_path: Path
) -> None:
    before = files(exported[0])
    arguments = ("export", exported[0], "--target", target, "--precision", precision)
    code, out, err = call(*arguments, says=tmp_path).wait()
    assert (code, out) == (2, "")
    assert err.splitlines()[-2] == says
    assert err.splitlines()[-1].startswith("hint: ")
    assert files(exported[0]) == before


# --- a file that is looked at


def broken_group(model: ModelProto) -> None:
    """One more weight of one group, not zero any more."""
    name = json.loads(next(e.value for e in model.metadata_props if e.key == "edgeprune.planned"))[0]
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == f"{name}.weight"]
    weight = numpy_helper.to_array(tensor).copy()
    group = weight[0, :4, 0, 0]
    group[group == 0] = 1
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))


def unsupported_operator(model: ModelProto) -> None:
    """An operator that is in no standard, before the logits."""
    output = model.graph.output[0].name
    (last,) = [node for node in model.graph.node if output in node.output]
    last.output[list(last.output).index(output)] = "before"
    model.graph.node.append(helper.make_node("Frobnicate", ["before"], [output], name="frob", domain="acme"))
    model.opset_import.append(helper.make_opsetid("acme", 1))


def computed_weight(model: ModelProto) -> None:
    """The first convolution's weight is computed from the image when the file runs."""
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    total = helper.make_node("ReduceMean", ["input"], ["mean"], keepdims=0, name="mean")
    scaled = helper.make_node("Mul", [conv.input[1], "mean"], ["computed"], name="scaled")
    conv.input[1] = "computed"
    at = list(model.graph.node).index(conv)
    model.graph.node.insert(at, scaled)
    model.graph.node.insert(at, total)


def computed_weight_of_a_stranger(model: ModelProto) -> None:
    """The same in a file that says nothing of itself."""
    computed_weight(model)
    del model.metadata_props[:]


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (broken_group, "layer 'conv2' is not 2:4"),
        (unsupported_operator, "Frobnicate"),
        (computed_weight, "layer 'conv1' of "),
        (computed_weight_of_a_stranger, "layer 'conv1' of "),
        (None, "is not a whole ONNX model"),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_is_wrong_with_a_file_is_two_lines(
    damage: Callable[[ModelProto], None] | None,
    names: str,
    precision: str,
    exported: tuple[Path, str, str],
    tmp_path: Path,
) -> None:
    path = tmp_path / "file.onnx"
    content = (exported[0] / BOARD / PRECISIONS[precision]).read_bytes()
    if damage is None:
        path.write_bytes(content[: len(content) // 2])
    else:
        model = onnx.load_model_from_string(content)
        damage(model)
        path.write_bytes(model.SerializeToString())
    code, out, err = call("export", path, "--target", "jetson-orin", "--check", says=tmp_path / "says").wait()
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert names in error
    assert hint.startswith("hint: ")


def test_a_file_as_exported_is_accepted_by_tensorrts_own_parser_and_builder(
    exported: tuple[Path, str, str], tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    for number, file in enumerate(PRECISIONS.values()):
        says = tmp_path / str(number)
        code, out, err = call("export", exported[0] / BOARD / file, "--check", says=says).wait()
        assert code == 0, err
        counted, accepted, *notes = out.splitlines()
        assert "layers that it plans to be 2:4 are" in counted
        assert accepted.startswith(f"{file}: accepted by TensorRT")
        assert len(notes) <= 1


# --- what comes back


def by_hand(bundle: Path, *options: str) -> Path:
    """What a person types on the device; the results' folder."""
    command = [sys.executable, "-m", "runtimes", "measure", ".", "--runtime", "ort", "--rounds", "2", *options]
    done = subprocess.run(command, cwd=bundle, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return bundle / "results"


def test_what_was_measured_by_hand_is_scored_and_reported(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "4-compile" / "jetson-orin" / "bundle", tmp_path / "board")
    results = by_hand(tmp_path / "board", "--network", "dense-int8", "--network", "sparse-int8")
    before = files(results)
    code, out, err = call("measure", own, "--results", results, "--device", "my-board", says=tmp_path / "m").wait()
    assert code == 0, err
    kept = sorted(Path(line) for line in out.splitlines())
    assert [path.parent.name for path in kept] == ["my-board", "my-board"]
    assert files(results) == before
    for path in kept:
        measured = json.loads(path.read_text())
        logits = np.load(path.parent / measured["outputs"]["file"])
        top1 = 100.0 * (logits.argmax(axis=1) == synthetic().test.labels).mean()
        assert (measured["device"], measured["top1"], measured["images"]) == ("my-board", top1, len(logits))
    code, _, err = call("report", own, says=tmp_path / "r").wait()
    assert code == 0, err
    report = json.loads((own / "6-report" / "report.json").read_text())
    assert [(row["device"], row["name"]) for row in report["rows"]] == [
        ("my-board", "dense-int8"),
        ("my-board", "sparse-int8"),
    ]


def test_results_that_are_none_or_not_whole_are_two_lines(own: Path, tmp_path: Path) -> None:
    shutil.copytree(own / "4-compile" / "jetson-orin" / "bundle", tmp_path / "board")
    results = by_hand(tmp_path / "board", "--network", "sparse")
    with next(results.glob("*.npy")).open("r+b") as file:
        file.truncate(500)
    for folder, says in ((results, "is missing or not what sparse answered"), (tmp_path, "holds no measurements")):
        code, out, err = call("measure", own, "--results", folder, "--device", "b", says=tmp_path / "says").wait()
        assert (code, out) == (2, "")
        assert says in err.splitlines()[-2]
    assert not (own / "5-measure" / "b").exists()
