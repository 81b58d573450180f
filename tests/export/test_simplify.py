from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from export_networks import NETWORKS, SHAPE, pruned
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export import simplify
from export.targets import TARGETS
from export.to_onnx import to_onnx

Constants = dict[str, NDArray[np.generic]]


def model_of(nodes: list[onnx.NodeProto], constants: Constants, shape: list[object], rank: int = 4) -> ModelProto:
    """A model from "input" to "logits" at opset 17."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None] * rank)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: ModelProto, images: NDArray[np.float32]) -> NDArray[np.float32]:
    return ReferenceEvaluator(model).run(["logits"], {"input": images})[0]


def array(model: ModelProto, name: str) -> NDArray[np.generic]:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def types(model: ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def conv_norm(seed: int, out: int, per_group: int, groups: int, bias: bool, epsilon: float) -> ModelProto:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((out * groups, per_group, 3, 3)).astype(np.float32)
    weight[random.random(weight.shape) < 0.6] = -0.0
    channels = out * groups
    constants: Constants = {"c.weight": weight, "v": random.uniform(1e-6, 4, channels).astype(np.float32)}
    constants |= {name: random.standard_normal(channels).astype(np.float32) for name in ("c.bias", "g", "b", "m")}
    reads = ["input", "c.weight", *(["c.bias"] if bias else [])]
    nodes = [
        helper.make_node("Conv", reads, ["y"], group=groups, pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["y", "g", "b", "m", "v"], ["logits"], epsilon=epsilon),
    ]
    return model_of(nodes, constants, ["N", per_group * groups, 5, 5])


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    out=st.integers(1, 4),
    per_group=st.integers(1, 4),
    groups=st.integers(1, 3),
    bias=st.booleans(),
    epsilon=st.sampled_from([1e-5, 1e-3]),
)
def test_a_folded_normalization_computes_the_same(
    seed: int, out: int, per_group: int, groups: int, bias: bool, epsilon: float
) -> None:
    model = conv_norm(seed, out, per_group, groups, bias, epsilon)
    images = np.random.default_rng(seed).standard_normal((2, per_group * groups, 5, 5)).astype(np.float32)
    weight, expected = array(model, "c.weight"), run(model, images)
    scale = array(model, "g").astype(np.float64) / np.sqrt(array(model, "v").astype(np.float64) + np.float32(epsilon))

    simplify.simplify(model)

    assert types(model) == ["Conv"]
    assert [tensor.name for tensor in model.graph.initializer if "weight" in tensor.name] == ["c.weight"]
    np.testing.assert_allclose(array(model, "c.weight"), weight * scale[:, None, None, None], rtol=1e-6)
    np.testing.assert_array_equal(array(model, "c.weight") == 0, weight == 0)
    assert not np.signbit(array(model, "c.weight")[weight == 0]).any()
    np.testing.assert_allclose(run(model, images), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_normalization_after_a_linear_layer_is_folded_along_its_outputs(transposed: int) -> None:
    random = np.random.default_rng(0)
    weight = random.standard_normal((6, 6)).astype(np.float32)  # square: a wrong axis would not be noticed by the shape
    constants: Constants = {name: random.standard_normal(6).astype(np.float32) for name in ("g", "b", "m")}
    constants |= {"fc.weight": weight, "v": random.uniform(0.1, 2, 6).astype(np.float32)}
    nodes = [
        helper.make_node("Gemm", ["input", "fc.weight"], ["y"], transB=transposed),
        helper.make_node("BatchNormalization", ["y", "g", "b", "m", "v"], ["logits"]),
    ]
    model = model_of(nodes, constants, ["N", 6], rank=2)
    images = random.standard_normal((3, 6)).astype(np.float32)
    expected = run(model, images)
    simplify.simplify(model)
    assert types(model) == ["Gemm"]
    np.testing.assert_allclose(run(model, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "left"), [("Residual", 0), ("PreActivation", 1), ("Shared", 2), ("ReadTwice", 1), ("Separable", 0)]
)
def test_only_what_can_be_folded_is(name: str, left: int, tmp_path: Path) -> None:
    network, masks = pruned(NETWORKS[name])
    to_onnx(network, tmp_path / "m.onnx", input_shape=SHAPE, target=TARGETS["local"], metadata={})
    model = onnx.load(tmp_path / "m.onnx")
    assert types(model).count("BatchNormalization") == left
    assert not {"Identity", "Dropout", "Constant"} & set(types(model))
    for key, keep in masks.items():
        value = array(model, key)
        assert not value[~keep.numpy()].any()
        assert not np.signbit(value[value == 0]).any()


def test_equal_weights_become_each_layers_own_again() -> None:
    weight = np.ones((2, 2, 1, 1), np.float32)
    nodes = [
        helper.make_node("Identity", ["a.weight"], ["b.weight"]),
        helper.make_node("Conv", ["input", "a.weight"], ["x"]),
        helper.make_node("Identity", ["x"], ["y"]),
        helper.make_node("Conv", ["y", "b.weight"], ["z"]),
        helper.make_node("Identity", ["z"], ["logits"]),
    ]
    model = model_of(nodes, {"a.weight": weight, "unused": weight}, ["N", 2, 2, 2])
    simplify.simplify(model)
    assert types(model) == ["Conv", "Conv"]
    assert [tensor.name for tensor in model.graph.initializer] == ["a.weight", "b.weight"]
    assert [node.output[0] for node in model.graph.node][-1] == "logits"
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(("training", "left"), [(False, []), (True, ["Dropout"])])
def test_dropout_is_removed_in_inference_only(training: bool, left: list[str]) -> None:
    nodes = [
        helper.make_node("Dropout", ["input", "ratio", "mode"], ["x"]),
        helper.make_node("Relu", ["x"], ["logits"]),
    ]
    model = model_of(nodes, {"ratio": np.float32(0.5), "mode": np.array(training)}, ["N", 4], rank=2)
    simplify.remove_dropout(model)
    assert types(model) == [*left, "Relu"]


def masked_model(dynamic: bool) -> ModelProto:
    """The mask multiplied in the graph: with a constant, or with one computed by an operator that is not resolved."""
    weight, mask = np.full((2, 3, 1, 1), 2, np.float32), np.array([1, 0], np.float32).reshape(2, 1, 1, 1)
    before = [helper.make_node("Softsign", ["c.mask"], ["m"])] if dynamic else []
    nodes = [
        *before,
        helper.make_node("Mul", ["c.weight", "m" if dynamic else "c.mask"], ["w"], name="mask it"),
        helper.make_node("Conv", ["input", "w"], ["logits"]),
    ]
    return model_of(nodes, {"c.weight": weight, "c.mask": mask}, ["N", 3, 2, 2])


def test_a_constant_mask_is_multiplied_in_and_the_weight_keeps_its_name() -> None:
    model = masked_model(dynamic=False)
    assert simplify.mask_operations(model) == ["mask it"]
    simplify.simplify(model)
    assert types(model) == ["Conv"]
    np.testing.assert_array_equal(array(model, "c.weight")[:, 0, 0, 0], [2, 0])
    assert simplify.mask_operations(model) == []


def test_a_mask_that_stays_is_found() -> None:
    model = masked_model(dynamic=True)
    simplify.simplify(model)
    assert simplify.mask_operations(model) == ["mask it"]


def test_a_product_of_activations_is_no_mask() -> None:
    nodes = [
        helper.make_node("Mul", ["input", "half"], ["scaled"]),
        helper.make_node("MatMul", ["input", "scaled"], ["logits"]),
    ]
    assert simplify.mask_operations(model_of(nodes, {"half": np.float32(0.5)}, ["N", 4, 4], rank=3)) == []


def test_sizes_that_do_not_depend_on_the_batch_are_resolved() -> None:
    """x.reshape(N, C // 2, 2 * H, W), as torch traces it."""
    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("Gather", ["shape", "0"], ["n"]),
        helper.make_node("Gather", ["shape", "1"], ["c"]),
        helper.make_node("Div", ["c", "2"], ["half"]),
        helper.make_node("Concat", ["n", "half", "8", "4"], ["target"], axis=0),
        helper.make_node("Reshape", ["input", "target"], ["logits"]),
    ]
    constants: Constants = {name: np.array([int(name)]) for name in "01248"}
    model = model_of(nodes, constants, ["N", 6, 4, 4])
    images = np.random.default_rng(0).standard_normal((3, 6, 4, 4)).astype(np.float32)
    simplify.simplify(model)
    assert types(model) == ["Reshape"]
    np.testing.assert_array_equal(run(model, images), images.reshape(3, 3, 8, 4))
