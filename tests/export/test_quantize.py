"""int8: scales by hand, ranges against torch's hooks, and the file evaluated step by step in float64."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from export_networks import NETWORKS, SHAPE, LinearOnly, ReadTwice, Residual, Separable, Shared, Tokens, pruned, trained
from onnx import ModelProto, NodeProto, numpy_helper
from torch import nn

from export import graph as graphs
from export.precisions import write_precision
from export.precisions.calibrate import activation_ranges
from export.precisions.quantize import quantize, quantized_values, weight_scale, weights_stay_float
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes import ort
from runtimes.errors import UserError

TARGET = TARGETS["jetson-orin"]
FORMS = {"float weights": TARGET, "int8 weights": TARGETS["jetson-thor"]}
IN_BOTH_FORMS = pytest.mark.parametrize("form", FORMS)
IMAGES = np.random.default_rng(0).standard_normal((70, *SHAPE)).astype(np.float32)


def in_both(network: nn.Module, folder: Path, form: str = "float weights") -> tuple[ModelProto, ModelProto]:
    """The network as fp32 and as int8, both read back from their files."""
    to_onnx(network, folder / "m.onnx", input_shape=SHAPE, target=TARGET, metadata={"name": "toy"})
    write_precision(folder / "m.onnx", folder / "m.int8.onnx", "int8", IMAGES, FORMS[form])
    return graphs.read(folder / "m.onnx"), graphs.read(folder / "m.int8.onnx")


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def made_by(model: ModelProto) -> dict[str, NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}


def answers(path: Path) -> np.ndarray:
    engine = ort.load(path, {"threads": "1"})
    return engine.run(IMAGES)


def dequantised_from(model: ModelProto, name: str) -> str:
    """The float value behind a QuantizeLinear and a DequantizeLinear, or the int8 constant behind the latter."""
    last = made_by(model)[name]
    assert last.op_type == "DequantizeLinear"
    first = made_by(model).get(last.input[0])
    if first is None:
        return last.input[0]
    assert first.op_type == "QuantizeLinear"
    assert list(first.input[1:]) == list(last.input[1:])
    return first.input[0]


@IN_BOTH_FORMS
@pytest.mark.parametrize("name", NETWORKS)
def test_stored_weights_are_rounded_by_hand_one_scale_for_each_output_channel(
    name: str, form: str, tmp_path: Path
) -> None:
    exact, int8 = in_both(pruned(NETWORKS[name])[0], tmp_path, form)
    before = {layer.name: layer for layer in graphs.layers(exact.graph)}
    stored = constants(int8)
    for layer in graphs.layers(int8.graph):
        weight = before[layer.name].weight  # (out, in, ...)
        steps = stored[layer.initializer]
        assert layer.initializer == before[layer.name].initializer
        assert steps.dtype == (np.int8 if form == "int8 weights" else np.float32)
        in_torch_layout = steps if steps.shape == weight.shape and layer.node.op_type != "MatMul" else steps.T
        for k in range(len(weight)):
            largest = float(np.abs(weight[k]).max())
            scale = np.float32(largest / 127) if largest else np.float32(1)
            for index in np.ndindex(weight[k].shape):
                step = np.float32(round(float(weight[k][index] / scale)))
                assert in_torch_layout[k][index] == (step if form == "int8 weights" else step * scale)
                assert layer.weight[k][index] == step * scale
        assert not layer.weight[weight == 0].any()
        assert form == "float weights" or np.abs(steps.astype(int)).max() <= 127


@IN_BOTH_FORMS
@pytest.mark.parametrize("name", NETWORKS)
def test_every_scale_is_symmetric_and_positive_and_no_bias_is_int32(name: str, form: str, tmp_path: Path) -> None:
    _, int8 = in_both(pruned(NETWORKS[name])[0], tmp_path, form)
    stored = constants(int8)
    for node in int8.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            scale, zero = stored[node.input[1]], stored[node.input[2]]
            assert (scale > 0).all()
            assert zero.dtype == np.int8
            assert zero.shape == scale.shape
            assert not zero.any()
        if node.op_type in ("Conv", "Gemm"):
            assert all(stored[bias].dtype == np.float32 for bias in node.input[2:])
    assert not [name for name, value in stored.items() if value.dtype == np.int32]


@pytest.mark.parametrize("name", NETWORKS)
def test_both_forms_of_the_weights_are_one_network(name: str, tmp_path: Path) -> None:
    """The runtime rounds the float weights to the very steps that the other form stores, -0.0 is in neither."""
    network, logits, seen = pruned(NETWORKS[name])[0], {}, {}
    for form in FORMS:
        _, int8 = in_both(network, tmp_path, form)
        logits[form], seen[form] = answers(tmp_path / "m.int8.onnx"), graphs.layers(int8.graph)
        stored = constants(int8)
        assert not any(np.signbit(stored[one.initializer][stored[one.initializer] == 0]).any() for one in seen[form])
    np.testing.assert_array_equal(*logits.values())
    for one, other in zip(*seen.values(), strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(one.weight, other.weight)


def test_int8_constants_are_for_targets_whose_oldest_tensorrt_is_10_or_newer_and_for_other_runtimes() -> None:
    """TensorRT 8.4 refuses them (NVIDIA/TensorRT#2163); Xavier stays with 8.5, and JetPack 5 on Orin has it too."""
    old = {name for name, target in TARGETS.items() if weights_stay_float(target)}
    xaviers, orins = {"jetson-xavier-nx", "jetson-agx-xavier"}, {"jetson-orin", "jetson-agx-orin"}
    assert old == xaviers | orins | {"jetson-orin-nano", "jetson-orin-nx", "workstation-gpu"}


@IN_BOTH_FORMS
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_reads_int8(name: str, form: str, tmp_path: Path) -> None:
    exact, int8 = in_both(trained(NETWORKS[name]), tmp_path, form)
    before = {node.output[0]: node for node in exact.graph.node}
    for layer in graphs.layers(int8.graph):
        assert dequantised_from(int8, layer.node.input[0]) == before[layer.node.output[0]].input[0]
        assert dequantised_from(int8, layer.node.input[1]) == layer.initializer
    assert [layer.name for layer in graphs.layers(exact.graph)] == [layer.name for layer in graphs.layers(int8.graph)]
    kept = [node.name for node in int8.graph.node if "Linear" not in node.op_type]
    assert kept == [node.name for node in exact.graph.node]


def test_pairs_stand_at_both_inputs_of_a_residual_addition_and_before_the_pool(tmp_path: Path) -> None:
    exact, int8 = in_both(trained(Residual), tmp_path)
    addition, pool = (next(n for n in int8.graph.node if n.op_type == kind) for kind in ("Add", "ReduceMean"))
    before = next(node for node in exact.graph.node if node.op_type == "Add")
    assert [dequantised_from(int8, name) for name in addition.input] == list(before.input)
    assert made_by(exact)[dequantised_from(int8, pool.input[0])].op_type == "Relu"
    relus = [node for node in int8.graph.node if node.op_type == "Relu"]
    assert [made_by(int8)[node.input[0]].op_type for node in relus] == ["Conv", "Add", "Conv"]
    assert made_by(int8)["logits"].op_type == "Gemm"


class Excited(nn.Module):
    """A pool beside another reader of the same activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.conv(images))
        return self.fc(found.mean((2, 3)) * found.amax((2, 3)))


class EarlyPool(nn.Module):
    """A pool that stands before a convolution which reads the same activation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = torch.relu(self.conv1(images))
        pooled = found.mean((2, 3))
        return self.fc(pooled + self.conv2(found).mean((2, 3)))


def test_a_pair_stands_before_all_that_read_it(tmp_path: Path) -> None:
    exact, int8 = in_both(trained(EarlyPool), tmp_path)
    pool, conv = (next(n for n in int8.graph.node if n.name.endswith(end)) for end in ("/ReduceMean", "conv2/Conv"))
    assert list(int8.graph.node).index(pool) < list(int8.graph.node).index(conv)
    assert pool.input[0] == conv.input[0]
    assert dequantised_from(int8, pool.input[0]) in quantized_values(exact)


def test_a_bias_added_apart_and_a_pool_that_is_not_alone_stay_float(tmp_path: Path) -> None:
    tokens, _ = in_both(trained(Tokens), tmp_path)
    assert quantized_values(tokens) == ["input", *(layer.node.input[0] for layer in graphs.layers(tokens.graph)[1:])]
    excited, _ = in_both(trained(Excited), tmp_path)
    pooled = next(node.input[0] for node in excited.graph.node if node.op_type == "ReduceMean")
    assert pooled not in quantized_values(excited)
    separable, _ = in_both(trained(Separable), tmp_path)
    pooled = next(node.input[0] for node in separable.graph.node if node.op_type == "GlobalAveragePool")
    assert pooled in quantized_values(separable)


def test_ranges_are_the_largest_activations_that_torchs_hooks_see_in_a_batch_averaged(tmp_path: Path) -> None:
    network = trained(Residual)
    seen: dict[str, list[float]] = {"conv1": [], "conv2": [], "conv3": [], "fc": []}
    for name, found in seen.items():
        layer = network.get_submodule(name)
        layer.register_forward_pre_hook(lambda _, given, found=found: found.append(float(given[0].abs().max())))
    with torch.no_grad():
        for batch in (IMAGES[:32], IMAGES[32:64]):  # the last six images are no whole batch
            network(torch.from_numpy(batch))
    averaged = {name: sum(found) / 2 for name, found in seen.items()}
    exact, int8 = in_both(network, tmp_path)
    ranges = activation_ranges(exact, quantized_values(exact), IMAGES)
    reads = {layer.name: layer.node.input[0] for layer in graphs.layers(exact.graph)}
    for layer, expected in averaged.items():
        assert ranges[reads[layer]] == pytest.approx(expected, rel=1e-5)
        assert constants(int8)[f"{reads[layer]}.scale"] == pytest.approx(expected / 127, rel=1e-5)
    few = activation_ranges(exact, ["input"], IMAGES[:5])
    assert few["input"] == float(np.abs(IMAGES[:5]).max())


def along(node: NodeProto, read: list[np.ndarray]) -> np.ndarray:
    """The scale, one for the tensor or along the node's axis."""
    axis = graphs.attribute(node, "axis", 1)
    return read[1].reshape([-1 if i == axis else 1 for i in range(read[0].ndim)]) if read[1].ndim else read[1]


def evaluated(model: ModelProto, images: np.ndarray) -> np.ndarray:
    """The int8 file in float64: weights as they are stored, each pair by its definition, layers by torch and numpy."""
    stored = {name: value.astype(np.float64) for name, value in constants(model).items()}
    values: dict[str, np.ndarray] = {**stored, "input": images.astype(np.float64)}
    for node in model.graph.node:
        read = [values[name] for name in node.input]
        if node.op_type == "QuantizeLinear":
            result = np.clip(np.rint(read[0] / along(node, read)), -128, 127)
        elif node.op_type == "DequantizeLinear":
            result = read[0] * along(node, read)
        elif node.op_type == "Conv":
            held = {a.name: list(a.ints) for a in node.attribute}
            tensors = [torch.from_numpy(value) for value in read]
            padding, stride, groups = held["pads"][:2], held["strides"], int(graphs.attribute(node, "group", 1))
            result = nn.functional.conv2d(*tensors, padding=padding, stride=stride, groups=groups).numpy()
        elif node.op_type == "Gemm":
            result = read[0] @ (read[1].T if graphs.attribute(node, "transB", 0) else read[1]) + read[2]
        elif node.op_type == "MatMul":
            result = read[0] @ read[1]
        elif node.op_type == "Relu":
            result = np.maximum(read[0], 0)
        elif node.op_type == "Add":
            result = read[0] + read[1]
        elif node.op_type == "ReduceMean":
            result = read[0].mean((2, 3))
        elif node.op_type == "Flatten":
            result = read[0].reshape(len(read[0]), -1)
        else:
            assert node.op_type == "BatchNormalization"
            gamma, beta, mean, variance = (part.reshape(1, -1, *[1] * (read[0].ndim - 2)) for part in read[1:])
            result = (read[0] - mean) / np.sqrt(variance + graphs.attribute(node, "epsilon", 1e-5)) * gamma + beta
        values[node.output[0]] = result
    return values["logits"]


@IN_BOTH_FORMS
@pytest.mark.parametrize("made", [Residual, Shared, ReadTwice, LinearOnly])
def test_the_file_computes_what_its_steps_say(made: type[nn.Module], form: str, tmp_path: Path) -> None:
    network = pruned(made)[0]
    _, int8 = in_both(network, tmp_path, form)
    found = answers(tmp_path / "m.int8.onnx")
    by_hand = evaluated(int8, IMAGES)
    with torch.no_grad():
        expected = network(torch.from_numpy(IMAGES)).numpy()
    largest = np.abs(expected).max()
    # One value that falls on the other side of a step moves a logit a little: most images agree to float's rounding.
    assert np.median(np.abs(found - by_hand)) < 1e-5 * largest
    assert np.abs(found - by_hand).max() < 0.02 * largest
    assert 1e-5 < np.abs(by_hand - expected).max() / largest < 0.1


@IN_BOTH_FORMS
def test_the_same_input_gives_the_same_bytes(form: str, tmp_path: Path) -> None:
    in_both(trained(Residual), tmp_path, form)
    first = (tmp_path / "m.int8.onnx").read_bytes()
    written = write_precision(tmp_path / "m.onnx", tmp_path / "again.onnx", "int8", IMAGES, FORMS[form])
    assert written.path.read_bytes() == first


def test_nothing_is_printed_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    caplog.set_level(logging.DEBUG)
    in_both(trained(Residual), tmp_path)
    assert list(temporary.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.int8.onnx", "m.onnx", "tmp"]
    assert capfd.readouterr() == ("", "")
    assert [record.message for record in caplog.records if record.name.startswith(("root", "onnx"))] == []


def test_a_dead_activation_and_a_dead_channel_get_a_scale_that_is_not_zero(tmp_path: Path) -> None:
    network = trained(Residual)
    with torch.no_grad():
        network.conv2.weight[3] = 0
        nn.init.constant_(network.bn3.weight, 0)
        nn.init.constant_(network.bn3.bias, -1)  # a ReLU behind it gives nothing but zeros
    exact, int8 = in_both(network, tmp_path)
    dead = [name for name, largest in activation_ranges(exact, quantized_values(exact), IMAGES).items() if not largest]
    assert [float(constants(int8)[f"{name}.scale"]) for name in dead] == [1, 1]
    assert constants(int8)["conv2.weight.scale"][3] == 1
    assert np.isfinite(answers(tmp_path / "m.int8.onnx")).all()


def test_the_smallest_weights_do_not_divide_by_zero() -> None:
    weight = np.array([[1e-44, 0], [1e-30, -2e-30], [3.0, -6.0]], np.float32)
    np.testing.assert_array_equal(weight_scale(weight, 0), np.float32([1, np.float32(2e-30) / 127, 6 / 127]))


def test_a_range_that_is_given_is_kept(tmp_path: Path) -> None:
    to_onnx(trained(Residual), tmp_path / "m.onnx", input_shape=SHAPE, target=TARGET, metadata={})
    model = graphs.read(tmp_path / "m.onnx")
    given: Mapping[str, float] = {name: 1.0 + index for index, name in enumerate(quantized_values(model))}
    quantize(model, given, float_weights=True)
    for name, largest in given.items():
        assert constants(model)[f"{name}.scale"] == np.float32(largest / 127)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:0], "calibrated on float32 images"),
        (IMAGES[0], "calibrated on float32 images"),
        (IMAGES.astype(np.float64), "calibrated on float32 images"),
        (np.full_like(IMAGES[:2], np.nan), "calibration images are not finite"),
        (IMAGES[:, :2], "does not run on calibration images of shape"),
    ],
)
def test_images_that_calibrate_nothing_are_refused(images: np.ndarray, message: str, tmp_path: Path) -> None:
    to_onnx(trained(Residual), tmp_path / "m.onnx", input_shape=SHAPE, target=TARGET, metadata={})
    with pytest.raises(UserError, match=message) as caught:
        write_precision(tmp_path / "m.onnx", tmp_path / "m.int8.onnx", "int8", images, TARGET)
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "m.int8.onnx").exists()


def test_an_activation_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    network = trained(Residual)
    with torch.no_grad():
        network.bn2.weight.mul_(1e6)
    to_onnx(network, tmp_path / "m.onnx", input_shape=SHAPE, target=TARGET, metadata={})
    with pytest.raises(UserError, match="is not finite on the calibration images"):
        write_precision(tmp_path / "m.onnx", tmp_path / "m.int8.onnx", "int8", IMAGES * np.float32(1e36), TARGET)
