"""Typed fp16: weights against numpy's own cast, answers against an evaluation that rounds every value to fp16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from export_networks import NETWORKS, SHAPE, PreActivation, Residual, pruned, trained
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from export import graph as graphs
from export.precisions import write_precision
from export.precisions.to_fp16 import half_values, to_fp16
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError

TARGET = TARGETS["jetson-orin"]
HALF, FLOAT = TensorProto.FLOAT16, TensorProto.FLOAT
IMAGES = np.random.default_rng(0).standard_normal((6, *SHAPE)).astype(np.float32)


def in_both(network: nn.Module, folder: Path, shape: tuple[int, int, int] = SHAPE) -> tuple[ModelProto, ModelProto]:
    """The network as fp32 and as fp16, both read back from their files."""
    to_onnx(network, folder / "m.onnx", input_shape=shape, target=TARGET, metadata={"name": "toy", "precision": "fp32"})
    write_precision(folder / "m.onnx", folder / "m.fp16.onnx", "fp16", None, TARGET)
    return graphs.read(folder / "m.onnx"), graphs.read(folder / "m.fp16.onnx")


def constants(model: ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def type_of(model: ModelProto) -> dict[str, int]:
    """The type of each value, by onnx's strict inference over the whole file."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    stored = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {value.name: value.type.tensor_type.elem_type for value in values} | stored


def small_model(nodes: list[onnx.NodeProto], stored: dict[str, np.ndarray], rank: int = 2) -> ModelProto:
    ends = [helper.make_tensor_value_info(name, FLOAT, [None] * rank) for name in ("input", "logits")]
    tensors = [numpy_helper.from_array(value, name) for name, value in stored.items()]
    graph = helper.make_graph(nodes, "test", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_numpys_cast_under_the_same_names(name: str, tmp_path: Path) -> None:
    exact, half = in_both(pruned(NETWORKS[name])[0], tmp_path)
    before, after = constants(exact), constants(half)
    assert set(before) == set(after)
    for key, value in before.items():
        if value.dtype == np.float32:
            np.testing.assert_array_equal(after[key], value.astype(np.float16))
            assert after[key].dtype == np.float16
        else:
            np.testing.assert_array_equal(after[key], value)
    assert [node.name for node in exact.graph.node] == [n.name for n in half.graph.node if not n.name.endswith(".cast")]
    assert [layer.name for layer in graphs.layers(exact.graph)] == [layer.name for layer in graphs.layers(half.graph)]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_ends_are_float32_and_layers_compute_in_fp16(name: str, tmp_path: Path) -> None:
    exact, half = in_both(trained(NETWORKS[name]), tmp_path)
    types = type_of(half)
    assert (types["input"], types["logits"]) == (FLOAT, FLOAT)
    assert [value.name for value in (*half.graph.input, *half.graph.output)] == ["input", "logits"]
    assert half.graph.input[0].type.tensor_type.shape == exact.graph.input[0].type.tensor_type.shape
    for node in half.graph.node:
        kinds = {types[value] for value in (*node.input, *node.output) if types[value] in (HALF, FLOAT)}
        if node.op_type in ("Conv", "Gemm", "MatMul", "BatchNormalization", "Relu", "Add"):
            assert kinds == {HALF}, node
        elif node.op_type == "ReduceMean":
            assert kinds == {FLOAT}
        elif node.op_type != "Cast":
            assert len(kinds) <= 1


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_the_networks_to_the_rounding_of_fp16(name: str, tmp_path: Path) -> None:
    """onnx's reference rounds each value of the fp16 file to fp16; the float32 network is evaluated in torch."""
    network = pruned(NETWORKS[name])[0]
    _, half = in_both(network, tmp_path)
    found = ReferenceEvaluator(half).run(["logits"], {"input": IMAGES})[0]
    with torch.no_grad():
        expected = network.double()(torch.from_numpy(IMAGES).double()).numpy()
    assert found.dtype == np.float32
    assert 1e-6 < np.abs(found - expected).max() / np.abs(expected).max() < 5e-3


def test_attention_keeps_softmax_and_normalizations_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vit = torchvision.models.VisionTransformer(8, 4, 2, 2, 8, 16, num_classes=5).eval()
    nn.init.normal_(vit.heads.head.weight)
    _, half = in_both(vit, tmp_path)
    types = type_of(half)
    exact = [node for node in half.graph.node if node.op_type in ("Softmax", "LayerNormalization")]
    assert len(exact) == 2 + 5
    assert all(types[value] == FLOAT for node in exact for value in (*node.input, *node.output))
    products = [node for node in half.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert all(types[value] == HALF for node in products for value in (*node.input, *node.output))
    with torch.no_grad():
        expected = vit(torch.from_numpy(IMAGES)).numpy()
    found = ReferenceEvaluator(half).run(["logits"], {"input": IMAGES})[0]
    np.testing.assert_allclose(found, expected, atol=5e-3 * np.abs(expected).max())


def test_the_same_input_gives_the_same_bytes_and_only_the_precision_changes_in_the_metadata(tmp_path: Path) -> None:
    exact, half = in_both(trained(Residual), tmp_path)
    first = (tmp_path / "m.fp16.onnx").read_bytes()
    write_precision(tmp_path / "m.onnx", tmp_path / "m.fp16.onnx", "fp16", None, TARGET)
    assert (tmp_path / "m.fp16.onnx").read_bytes() == first
    before, after = ({entry.key: entry.value for entry in model.metadata_props} for model in (exact, half))
    assert after == before | {"edgeprune.precision": "fp16"}


def test_a_weight_beyond_fp16_is_refused_by_name(tmp_path: Path) -> None:
    network = trained(Residual)
    with torch.no_grad():
        network.fc.weight[1, 2] = -70000
    with pytest.raises(UserError, match=r"layer 'fc' holds 7e\+04, beyond what fp16 can hold \(65504\)") as caught:
        in_both(network, tmp_path)
    assert "fp32" in caught.value.hint
    assert not (tmp_path / "m.fp16.onnx").exists()


def test_weights_that_fp16_rounds_to_zero_become_zero_and_the_largest_stays() -> None:
    weight = np.array([[2.9e-8, 3.1e-8, 65504.0, 65519.0]], np.float32)
    node = helper.make_node("Gemm", ["input", "fc.weight"], ["logits"], transB=1)
    model = small_model([node], {"fc.weight": weight})
    to_fp16(model)
    np.testing.assert_array_equal(constants(model)["fc.weight"], [[0, 2.0**-24, 65504, 65504]])


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_an_operator_with_a_number_fp16_cannot_hold_stays_exact() -> None:
    """An epsilon of 1e-12 would become 0 and a mask of -1e9 infinite."""
    nodes = [
        helper.make_node("Add", ["input", "epsilon"], ["a"], name="epsilon"),
        helper.make_node("Mul", ["a", "factor"], ["b"], name="factor"),
        helper.make_node("Add", ["b", "mask"], ["c"], name="mask"),
        helper.make_node("Clip", ["c", "", "ceiling"], ["logits"], name="clip"),
    ]
    stored = {"epsilon": np.float32(1e-12), "factor": np.float32(3), "mask": np.array([0, -1e9], np.float32)}
    model = small_model(nodes, stored | {"ceiling": np.float32(6)})
    to_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    types = type_of(model)
    kind = {node.name: types[node.output[0]] for node in model.graph.node}
    assert (kind["epsilon"], kind["factor"], kind["mask"], kind["clip"]) == (FLOAT, HALF, FLOAT, HALF)
    found = ReferenceEvaluator(model).run(["logits"], {"input": np.array([[0, 0]], np.float32)})[0]
    np.testing.assert_array_equal(found, [[0, -np.inf]])


def test_a_constant_that_both_types_read_is_stored_once_and_cast() -> None:
    nodes = [
        helper.make_node("Mul", ["input", "shared"], ["a"]),
        helper.make_node("Pow", ["a", "shared"], ["b"]),
        helper.make_node("Relu", ["b"], ["logits"]),
    ]
    model = small_model(nodes, {"shared": np.float32(2)})
    to_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    assert constants(model)["shared"].dtype == np.float16
    np.testing.assert_array_equal(ReferenceEvaluator(model).run(None, {"input": np.array([[3.0]], "f")})[0], [[36]])


def test_a_resize_keeps_its_factors_in_float32() -> None:
    resize = helper.make_node("Resize", ["input", "", "factors"], ["logits"], mode="nearest")
    model = small_model([resize], {"factors": np.array([1, 1, 2, 2], np.float32)}, rank=4)
    to_fp16(model)
    onnx.checker.check_model(model, full_check=True)
    assert constants(model)["factors"].dtype == np.float32


def test_a_graph_inside_the_graph_is_refused() -> None:
    empty = helper.make_tensor_value_info("y", FLOAT, [None, None])
    branch = helper.make_graph([helper.make_node("Relu", ["input"], ["y"])], "branch", [], [empty])
    choice = helper.make_node("If", ["yes"], ["logits"], then_branch=branch, else_branch=branch, name="choice")
    with pytest.raises(UserError, match=r"'choice' \(If\) holds a graph of its own"):
        to_fp16(small_model([choice], {"yes": np.array(True)}))


def test_values_in_fp16_are_those_whose_type_says_so(tmp_path: Path) -> None:
    for made in (Residual, PreActivation):
        exact, half = in_both(trained(made), tmp_path)
        types = type_of(half)
        either = {name for name, kind in types.items() if kind == HALF} - set(constants(half))
        assert {name.removesuffix(".fp16") for name in either} == set(half_values(exact))
