"""Files in a lower precision are held to the network they were made from; what does not hold is told by its name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, Residual, pruned, trained
from onnx import helper, numpy_helper
from test_n_of_m import groups_by_loops, two_of_four
from torch import nn

from export import graph as graphs
from export.agreement import TOLERANCES
from export.macs import count_macs
from export.precisions import Agreement, verify_precision, write_precision
from export.sizes import size_bytes
from export.targets import TARGETS, Target
from export.to_onnx import to_onnx
from runtimes.errors import UserError
from runtimes.records import PRECISIONS

TARGET, THOR = TARGETS["jetson-orin"], TARGETS["jetson-thor"]
IMAGES = np.random.default_rng(0).standard_normal((40, *SHAPE)).astype(np.float32)
LOWER = ("fp16", "int8")


class Written:
    """A 2:4 network in fp32 and in another precision."""

    def __init__(self, made: type[nn.Module], precision: str, folder: Path, target: Target = TARGET) -> None:
        self.network, _ = pruned(made)
        self.planned = two_of_four(self.network)
        self.source, self.path, self.precision = folder / "m.onnx", folder / f"m.{precision}.onnx", precision
        to_onnx(self.network, self.source, input_shape=SHAPE, target=TARGET, metadata={"precision": "fp32"})
        self.record = write_precision(self.source, self.path, precision, IMAGES, target)

    def verify(self, **changes: object) -> Agreement:
        with torch.no_grad():
            expected = self.network(torch.from_numpy(IMAGES)).numpy()
        given = {"path": self.path, "source": self.source, "expected": expected, "images": IMAGES}
        given |= {"precision": self.precision, "planned": self.planned, "pattern": "2:4", "target": TARGET}
        return verify_precision(**{**given, **changes})

    def edit(self, name: str, change: Callable[[np.ndarray], None]) -> None:
        model = onnx.load(self.path)
        for tensor in model.graph.initializer:
            if tensor.name == name:
                value = numpy_helper.to_array(tensor).copy()
                change(value)
                tensor.CopyFrom(numpy_helper.from_array(value, name))
        onnx.save(model, self.path)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_written_holds_and_its_zeros_are_counted(name: str, precision: str, tmp_path: Path) -> None:
    written = Written(NETWORKS[name], precision, tmp_path)
    found = written.verify()
    assert (found.n, written.record.opset, written.record.ir_version) == (40, 17, 8)
    assert found.max_rel_error <= TOLERANCES[precision] / 2
    weights = {key.removesuffix(".weight"): value for key, value in written.network.named_parameters()}
    files = {layer.name: layer for layer in graphs.layers(graphs.read(written.path).graph)}
    for layer in found.layers:
        stored = files[layer.name].weight
        zeros = int((weights[layer.name] == 0).sum())
        assert (layer.weights, layer.zeros) == (stored.size, int((stored == 0).sum()))
        assert layer.extra_zeros == layer.zeros - zeros
    assert [layer.name for layer in found.layers] == list(files)
    assert found.extra_zeros == sum(layer.extra_zeros for layer in found.layers)
    for key in written.planned:
        assert groups_by_loops(files[key.removesuffix(".weight")].weight, 2, 4)[1] == 0
    document = json.loads(json.dumps(found.to_json()))
    assert set(document) == {"n", "max_abs_error", "max_rel_error", "argmax_agreement", "extra_zeros", "layers"}


@pytest.mark.parametrize(("precision", "target"), [("fp16", TARGET), ("int8", TARGET), ("int8", THOR)])
def test_macs_and_sizes_are_counted_in_every_precision(precision: str, target: Target, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path, target)
    extra = {layer.name: layer.extra_zeros for layer in written.verify().layers}
    before, after = count_macs(written.source), count_macs(written.path)
    assert {name: macs for name, (macs, _) in after.items()} == {name: macs for name, (macs, _) in before.items()}
    assert all(after[name][1] == before[name][1] for name in before if not extra[name])
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(written.path).graph.initializer}
    kinds = (np.float16, np.float32, np.int8)
    bytes_by_hand = sum(int((value != 0).sum()) * value.itemsize for value in stored.values() if value.dtype in kinds)
    assert size_bytes(written.path)["nonzero"] == bytes_by_hand
    smaller = size_bytes(written.path)["nonzero"] < size_bytes(written.source)["nonzero"]
    assert smaller == (precision == "fp16" or target is THOR)  # for an older TensorRT int8 lies in the file as float32


@pytest.mark.parametrize("precision", LOWER)
def test_what_goes_in_and_comes_out_is_stated_as_in_fp32(precision: str, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path)
    before, after = (onnx.load(path).graph for path in (written.source, written.path))
    assert list(after.input) == list(before.input)
    assert list(after.output) == list(before.output)
    assert [dim.dim_value for dim in after.output[0].type.tensor_type.shape.dim] == [0, 5]


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("layer", ["conv2", "conv3", "fc"])
def test_a_broken_group_is_named(layer: str, precision: str, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path)
    written.edit(f"{layer}.weight", lambda weight: weight[-1].__setitem__(slice(0, 4), 1))
    with pytest.raises(UserError, match=f"layer '{layer}' is not 2:4 in {written.path}"):
        written.verify()


@pytest.mark.parametrize("precision", LOWER)
def test_a_zero_that_came_back_is_named_without_a_plan_too(precision: str, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path)
    written.edit("conv2.weight", lambda weight: weight[-1].__setitem__(slice(0, 4), 1))
    with pytest.raises(UserError, match=r"layer 'conv2': \d+ weights of .* that must be zero are not"):
        written.verify(planned=[], pattern="unstructured")


@pytest.mark.parametrize("precision", LOWER)
def test_a_mask_left_in_the_graph_is_refused(precision: str, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path)
    model = onnx.load(written.path)
    conv = next(node for node in model.graph.node if node.op_type == "Conv" and node.input[1].startswith("conv2"))
    name = conv.input[1]
    place = 1 + max((i for i, node in enumerate(model.graph.node) if name in node.output), default=-1)
    kind = np.float16 if precision == "fp16" else np.float32
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8, 3, 3), kind), "mask"))
    model.graph.node.insert(place, helper.make_node("Mul", [name, "mask"], ["masked"], name="masking"))
    conv.input[1] = "masked"
    onnx.save(model, written.path)
    with pytest.raises(UserError, match=r"layer 'conv2'.*computed when it runs, in 'masking'"):
        written.verify()


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_a_truncated_file_is_refused(cut: int, precision: str, tmp_path: Path) -> None:
    written = Written(Residual, precision, tmp_path)
    written.path.write_bytes(written.path.read_bytes()[:cut])
    with pytest.raises(UserError, match="not a whole ONNX model") as caught:
        written.verify()
    assert len(str(caught.value).splitlines()) == 2


def test_answers_beyond_the_tolerance_are_refused(tmp_path: Path) -> None:
    for precision, name, factor, target in (
        ("fp16", "fc.weight", 3, TARGET),
        ("int8", "fc.weight", -1, TARGET),
        ("int8", "fc.weight.scale", 3, THOR),
    ):
        written = Written(Residual, precision, tmp_path, target)
        written.edit(name, lambda value, factor=factor: value.__imul__(value.dtype.type(factor)))
        with pytest.raises(UserError, match=f"logits in {precision} are up to .* accepted"):
            written.verify()


def test_logits_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    written = Written(Residual, "fp16", tmp_path)
    written.edit("fc.bias", lambda value: value.__setitem__(0, np.nan))
    with pytest.raises(UserError, match="logits in fp16 are up to nan"):
        written.verify()


def test_an_activation_beyond_fp16_is_told_with_its_layer(tmp_path: Path) -> None:
    """A CPU computes fp16 in float32 and gives the right answer: the overflow would show on the GPU only."""
    written = Written(Residual, "fp16", tmp_path)
    with torch.no_grad():
        for part, factor in ((written.network.bn1, 3e4), (written.network.fc, 1e-4)):
            part.weight.mul_(factor)
    to_onnx(written.network, written.source, input_shape=SHAPE, target=TARGET, metadata={})
    write_precision(written.source, written.path, "fp16", None, TARGET)
    with pytest.raises(UserError, match=r"after layer 'conv1' activations reach .*, fp16 holds 65504 at most"):
        written.verify(images=20 * IMAGES)


def test_int8_without_images_an_unknown_precision_and_another_opset_are_refused(tmp_path: Path) -> None:
    written = Written(Residual, "int8", tmp_path)
    with pytest.raises(UserError, match="int8 needs calibration images"):
        write_precision(written.source, written.path, "int8", None, TARGET)
    with pytest.raises(UserError, match="unknown precision 'fp8'"):
        write_precision(written.source, written.path, "fp8", None, TARGET)
    with pytest.raises(UserError, match="reads opset 13"):
        written.verify(target=replace(TARGET, opset=13))
    with pytest.raises(UserError, match=r"gives logits \(40, 5\), the torch module \(40, 6\)"):
        written.verify(expected=np.zeros((40, 6), np.float32))


def test_a_layer_that_is_lost_is_named(tmp_path: Path) -> None:
    written = Written(Residual, "int8", tmp_path)
    other = trained(Residual)
    other.conv3 = nn.Conv2d(8, 12, 1, stride=2)
    to_onnx(other, written.source, input_shape=SHAPE, target=TARGET, metadata={})
    with pytest.raises(UserError, match=r"has no layer 'conv3' of shape \(12, 8, 1, 1\)"):
        written.verify(planned=[])
