"""`edgeprune export --target`: every precision counted from outside, the bundle for the board, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from processes import call
from toys import QUICK, files

from edgeprune.steps.export import Planned, without_gain
from export.targets import TARGETS
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
    stored = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}[precision]
    for name in planned:
        weight = weight_of(model, name)
        assert weight.dtype == stored
        assert fits_two_of_four(weight), name


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
    assert "warning" not in err


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
    assert (manifest["planned"], manifest["warnings"]) == (told(exported)["planned"], [])
    assert "warning" not in err


@pytest.mark.parametrize(
    ("target", "layers", "masked", "says"),
    [
        ("jetson-orin", ["conv2"], True, None),
        ("jetson-orin", [], True, "unstructured"),
        ("jetson-orin", [], False, None),
        ("jetson-xavier-nx", ["conv2"], True, "no sparse tensor cores"),
        ("raspberry-pi-5", [], True, None),
    ],
)
def test_who_gains_nothing_from_the_zeros_is_told(
    target: str, layers: list[str], masked: bool, says: str | None
) -> None:
    masks = {"conv2": torch.zeros(4, 4, 3, 3, dtype=torch.bool)} if masked else {}
    found = without_gain(TARGETS[target], Planned("2:4", layers), masks)
    assert (found is None) == (says is None)
    assert says is None or says in str(found)


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
    model.graph.node.insert(0, scaled)
    model.graph.node.insert(0, total)


@pytest.mark.parametrize(
    ("damage", "names"),
    [(broken_group, "conv"), (unsupported_operator, "Frobnicate"), (computed_weight, "conv1"), (None, "not a whole")],
)
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
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
