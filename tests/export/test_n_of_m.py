"""2:4 counted again in the file: against plain loops over torch's weights, and in every form a weight is stored in."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, Residual, pruned
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import nn

from export import graph as graphs
from export.n_of_m import computed_weights, count_groups, hold_to
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError

HERE = Path("m.onnx")


def exported(network: nn.Module, folder: Path) -> ModelProto:
    to_onnx(network, folder / "m.onnx", input_shape=SHAPE, target=TARGETS["jetson-orin"], metadata={})
    return graphs.read(folder / "m.onnx")


def two_of_four(network: nn.Module) -> list[str]:
    """Zero two of each four weights along dim 1 in place, by plain loops; the layers this was done to."""
    done = []
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim >= 2 and weight.shape[1] % 4 == 0:
                done.append(name)
                for k, c, *kernel in itertools.product(
                    range(weight.shape[0]), range(0, weight.shape[1], 4), *map(range, weight.shape[2:])
                ):
                    group = [(k, c + i, *kernel) for i in range(4)]
                    for index in sorted(group, key=lambda index: abs(float(weight[index])))[:2]:
                        weight[index] = 0
    return done


def groups_by_loops(weight: np.ndarray, n: int, m: int) -> tuple[int, int, tuple[int, ...] | None]:
    """Groups, broken groups, and where the first one starts, in the order of the weight's indices."""
    total, broken = 0, []
    for k in range(weight.shape[0]):
        for c in range(0, weight.shape[1], m):
            for kernel in itertools.product(*map(range, weight.shape[2:])):
                total += 1
                if sum(float(weight[(k, c + i, *kernel)]) != 0 for i in range(m)) > n:
                    broken.append((k, c, *kernel))
    return total, len(broken), broken[0] if broken else None


@pytest.mark.parametrize("name", NETWORKS)
def test_groups_equal_those_counted_by_loops_over_torchs_weights(name: str, tmp_path: Path) -> None:
    network, _ = pruned(NETWORKS[name])
    weights = {key: value.detach().numpy() for key, value in network.named_parameters() if value.ndim >= 2}
    model = exported(network, tmp_path)
    for n, m in ((2, 4), (1, 4), (1, 2), (2, 3)):
        found = count_groups(model, n, m)
        assert {f"{key}.weight" for key in found} == {key for key, value in weights.items() if value.shape[1] % m == 0}
        for key, counted in found.items():
            weight = weights[f"{key}.weight"]
            assert (counted.groups, counted.broken, counted.first_broken) == groups_by_loops(weight, n, m)
            assert counted.zeros == (weight == 0).sum()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pruned_network_holds_and_one_weight_that_comes_back_is_named(name: str, tmp_path: Path) -> None:
    network, _ = pruned(NETWORKS[name])
    planned = two_of_four(network)
    model = exported(network, tmp_path)
    held = hold_to(model, HERE, planned, "2:4")
    assert {f"{key}.weight" for key in held} == set(planned)
    assert all(counted.broken == 0 and counted.first_broken is None for counted in held.values())
    for key in planned:
        with torch.no_grad():
            weight = network.get_parameter(key)
            before = weight.clone()
            at = (weight.shape[0] - 1, weight.shape[1] - 4) + (0,) * (weight.ndim - 2)
            weight[(at[0], slice(at[1], None), *at[2:])] = 0.5
        layer = key.removesuffix(".weight")
        with pytest.raises(UserError, match=f"layer '{layer}' is not 2:4 in .*: 1 of .* has 4 non-zeros") as caught:
            hold_to(exported(network, tmp_path), HERE, planned, "2:4")
        assert f"output channel {at[0]}, input channels {at[1]} to {at[1] + 3}" in caught.value.message
        assert "prune" in caught.value.hint
        with torch.no_grad():
            weight.copy_(before)


# Each form as (nodes that make "w" of what is stored, stored constants, operator, its attributes), from the weight in
# torch's layout (out, in).
Form = tuple[list[onnx.NodeProto], dict[str, np.ndarray], str, dict[str, int]]
SCALE = np.array([0.5, 0.25, 2.0, 1.0, 4.0, 0.125], np.float32)  # powers of two: nothing is rounded


def _int8(weight: np.ndarray, zero: int, kind: type) -> dict[str, np.ndarray]:
    steps = np.rint(weight / SCALE[:, None]) + zero
    return {"fc.weight": steps.astype(kind), "s": SCALE, "z": np.full(6, zero, kind)}


FORMS: dict[str, Callable[[np.ndarray], Form]] = {
    "gemm, transposed": lambda w: ([], {"fc.weight": w}, "Gemm", {"transB": 1}),
    "gemm": lambda w: ([], {"fc.weight": w.T.copy()}, "Gemm", {}),
    "matmul": lambda w: ([], {"fc.weight": w.T.copy()}, "MatMul", {}),
    "fp16": lambda w: ([], {"fc.weight": w.astype(np.float16)}, "Gemm", {"transB": 1}),
    "through a transposition": lambda w: (
        [helper.make_node("Transpose", ["fc.weight"], ["w"], perm=[1, 0])], {"fc.weight": w}, "MatMul", {},
    ),
    "through a transposition by default": lambda w: (
        [helper.make_node("Transpose", ["fc.weight"], ["w"])], {"fc.weight": w}, "Gemm", {},
    ),
    "through a cast": lambda w: (
        [helper.make_node("Cast", ["fc.weight"], ["w"], to=TensorProto.FLOAT)],
        {"fc.weight": w.astype(np.float16)}, "Gemm", {"transB": 1},
    ),
    "through an identity": lambda w: (
        [helper.make_node("Identity", ["fc.weight"], ["w"])], {"fc.weight": w}, "Gemm", {"transB": 1},
    ),
    "int8": lambda w: (
        [helper.make_node("DequantizeLinear", ["fc.weight", "s", "z"], ["w"], axis=0)],
        _int8(w, 0, np.int8), "Gemm", {"transB": 1},
    ),
    "uint8 about 128, then transposed": lambda w: (
        [
            helper.make_node("DequantizeLinear", ["fc.weight", "s", "z"], ["d"], axis=0),
            helper.make_node("Transpose", ["d"], ["w"], perm=[1, 0]),
        ],
        _int8(w, 128, np.uint8), "MatMul", {},
    ),
    "quantised when it runs": lambda w: (
        [
            helper.make_node("QuantizeLinear", ["fc.weight", "s", "z"], ["q"], axis=0),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
        ],
        {"fc.weight": w, "s": SCALE, "z": np.zeros(6, np.int8)}, "Gemm", {"transB": 1},
    ),
}  # fmt: skip


def model_of(form: Form) -> ModelProto:
    nodes, constants, kind, attributes = form
    weight = "w" if nodes else "fc.weight"
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in ("input", "logits")]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    product = helper.make_node(kind, ["input", weight], ["logits"], name="product", **attributes)
    graph = helper.make_graph([*nodes, product], "test", floats[:1], floats[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def held_along(axis: int) -> np.ndarray:
    """Weights (6, 8), whole numbers times the scale, with every second output channel (0) or input (1) zero."""
    weight = np.arange(1, 49, dtype=np.float32).reshape(6, 8) * SCALE[:, None]
    weight[(slice(None),) * axis + (slice(None, None, 2),)] = 0
    return weight


@pytest.mark.parametrize("form", FORMS)
def test_a_weight_is_found_in_torchs_layout_in_every_form(form: str) -> None:
    weight = held_along(1)
    model = model_of(FORMS[form](weight))
    (layer,) = graphs.layers(model.graph)
    assert (layer.name, layer.initializer, layer.reduced_axis) == ("fc", "fc.weight", 1)
    np.testing.assert_array_equal(layer.weight, weight)
    assert hold_to(model, HERE, ["fc"], "2:4")["fc"].groups == 12
    assert count_groups(model)["fc"].zeros == 24
    with pytest.raises(UserError, match="layer 'fc' is not 2:4"):
        hold_to(model_of(FORMS[form](held_along(0))), HERE, ["fc"], "2:4")


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), out=st.integers(1, 4), groups=st.integers(1, 3), kernel=st.integers(1, 3))
def test_convolutions_of_any_shape_against_loops(seed: int, out: int, groups: int, kernel: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.standard_normal((out, 4 * groups, kernel, kernel)).astype(np.float32)
    weight *= random.random(weight.shape) > 0.4
    images, logits = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * 4) for n in ("input", "logits"))
    node = helper.make_node("Conv", ["input", "c.weight"], ["logits"])
    graph = helper.make_graph([node], "test", [images], [logits], [numpy_helper.from_array(weight, "c.weight")])
    found = count_groups(helper.make_model(graph))["c"]
    assert (found.groups, found.broken, found.first_broken) == groups_by_loops(weight, 2, 4)


def with_mask(model: ModelProto, layer: str, source: str = "mask") -> ModelProto:
    """The model with a multiplication between a weight and its layer."""
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == f"{layer}.weight")
    model.graph.initializer.append(numpy_helper.from_array(np.ones_like(weight), "mask"))
    node = next(node for node in model.graph.node if f"{layer}.weight" in node.input)
    node.input[1] = "masked"
    model.graph.node.insert(0, helper.make_node("Mul", [f"{layer}.weight", source], ["masked"], name="masking"))
    return model


@pytest.mark.parametrize("layer", ["conv2", "fc"])
def test_a_weight_computed_when_the_file_runs_is_refused_by_name(layer: str, tmp_path: Path) -> None:
    network, _ = pruned(Residual)
    planned = two_of_four(network)
    model = with_mask(exported(network, tmp_path), layer)
    with pytest.raises(UserError, match=f"layer '{layer}'.*computed when it runs, in 'masking'") as caught:
        hold_to(model, HERE, planned, "2:4")
    assert "multiply the mask into the weight" in caught.value.hint
    assert layer not in count_groups(model)


def test_a_mask_that_depends_on_the_input_is_refused_too(tmp_path: Path) -> None:
    network, _ = pruned(Residual)
    planned = two_of_four(network)
    model = with_mask(exported(network, tmp_path), "conv2", "input")
    with pytest.raises(UserError, match=r"layer 'conv2'.*computed when it runs"):
        hold_to(model, HERE, planned, "2:4")


def test_what_cannot_be_held_is_told_in_two_lines(tmp_path: Path) -> None:
    network, _ = pruned(Residual)
    two_of_four(network)
    model = exported(network, tmp_path)
    for planned, pattern, message in (
        (["conv9"], "2:4", "has no layer 'conv9', which is planned to be 2:4"),
        (["conv1"], "2:4", "layer 'conv1' in m.onnx cannot be 2:4: reads 3 channels"),
        (["conv2"], "unstructured", "'unstructured' is no N:M pattern"),
        (["conv2"], "4:2", "'4:2' is no N:M pattern"),
        (["conv2"], "1:4", "layer 'conv2' is not 1:4"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            hold_to(model, HERE, planned, pattern)
        assert len(str(caught.value).splitlines()) == 2
    assert hold_to(model, HERE, [], "unstructured") == {}


def test_a_layer_used_twice_is_counted_at_each_use() -> None:
    """The second use reads the weight transposed, so the same zeros lie along another axis."""
    weight = np.ones((8, 8), np.float32)
    weight[:, ::2] = 0
    transposed = helper.make_node("Transpose", ["fc.weight"], ["w"], perm=[1, 0])
    model = model_of(([transposed], {"fc.weight": weight}, "MatMul", {}))
    assert count_groups(model)["fc"].broken == 0
    model.graph.node[-1].output[0] = "first"
    model.graph.node.append(helper.make_node("MatMul", ["first", "fc.weight"], ["logits"]))
    assert count_groups(model)["fc"].broken == 8


def test_a_planned_layer_that_tensorrt_cannot_run_2_to_4_is_refused_with_the_plans_reason(tmp_path: Path) -> None:
    grouped = helper.make_node("Conv", ["input", "c.weight"], ["logits"], group=2)
    left = helper.make_node("MatMul", ["c.weight", "input"], ["logits"])
    for node, shape, words in (
        (grouped, (8, 4, 1, 1), "grouped convolution, 2 groups"),
        (left, (8, 8), "on the left of the product"),
    ):
        weight = numpy_helper.from_array(np.zeros(shape, np.float32), "c.weight")
        values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "logits")]
        model = helper.make_model(helper.make_graph([node], "test", values[:1], values[1:], [weight]))
        assert count_groups(model) == {}
        with pytest.raises(UserError, match=f"layer 'c' in .* cannot be 2:4: .*{words}"):
            hold_to(model, tmp_path, ["c"], "2:4")


def test_another_layer_whose_weight_is_computed_does_not_refuse_the_planned_ones(tmp_path: Path) -> None:
    network, _ = pruned(Residual)
    planned = two_of_four(network)
    model = with_mask(exported(network, tmp_path), "conv2")
    others = [name for name in planned if name != "conv2.weight"]
    assert set(hold_to(model, HERE, others, "2:4")) == {name.removesuffix(".weight") for name in others}
    assert [one.name for one in computed_weights(model.graph)] == ["conv2"]


def test_a_weight_that_is_reshaped_on_its_way_is_found() -> None:
    weight = held_along(1)
    stored = {"fc.weight": weight.reshape(6, 2, 4), "shape": np.array([0, -1])}
    node = helper.make_node("Reshape", ["fc.weight", "shape"], ["w"])
    model = model_of(([node], stored, "Gemm", {"transB": 1}))
    np.testing.assert_array_equal(graphs.layers(model.graph)[0].weight, weight)
