"""Each operator that compaction understands, alone between two layers, and those that it leaves alone.

Every case kills channels by hand: a first convolution whose outputs 0 and 1 read nothing (constants 0 and 1), output 2
is read by nobody, outputs 3 to 5 live.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from compact_networks import run, weights_of
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.compact import compact, compacted

Array = np.ndarray
SIZE, DEAD = 6, 2


def between(
    *nodes: NodeProto,
    constants: dict[str, Array] | None = None,
    opset: int = 17,
    features: int = 6,
    domains: tuple[str, ...] = (),
) -> ModelProto:
    """A convolution that gives `a` (6 channels), the nodes, which give `b`, and a linear layer on the mean of `b`."""
    random = np.random.default_rng(0)
    first = random.integers(1, 3, (6, 3, 1, 1)).astype(np.float32)
    first[:2] = 0
    second = random.integers(1, 4, (4, features)).astype(np.float32)
    second[:, DEAD::6] = 0
    weights = {
        "first.weight": first,
        "first.bias": np.array([0, 1, 1, 0, -1, 2], np.float32),
        "second.weight": second,
        "second.bias": np.arange(4, dtype=np.float32),
        **(constants or {}),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "first.weight", "first.bias"], ["a"]),
            *nodes,
            helper.make_node("GlobalAveragePool", ["b"], ["m"]),
            helper.make_node("Flatten", ["m"], ["f"]),
            helper.make_node("Gemm", ["f", "second.weight", "second.bias"], ["logits"], transB=1),
        ],
        "between",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def node(op: str, *reads: str, gives: str = "b", **attributes: object) -> NodeProto:
    return helper.make_node(op, list(reads), [gives], **attributes)


def shortened(model: ModelProto) -> ModelProto:
    copy = ModelProto.FromString(model.SerializeToString())
    compacted(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def held_to(model: ModelProto, outputs: int, tolerance: float = 1e-6) -> ModelProto:
    """Compacted, the first convolution has so many outputs, and the logits are the same."""
    found = shortened(model)
    given = np.random.default_rng(1).integers(-3, 4, (3, 3, SIZE, SIZE)).astype(np.float32)
    one, other = run(model, given)[0], run(found, given)[0]
    assert np.isfinite(one).all()
    assert np.abs(one - other).max() <= tolerance * np.abs(one).max()
    assert len(weights_of(found)["first.weight"]) == outputs
    return found


PER_CHANNEL = np.arange(1, 7, dtype=np.float32)
ZEROS_AND_ONES = np.array([1, 1, 1, 0, 1, 1], np.float32).reshape(6, 1, 1)

UNDERSTOOD: dict[str, tuple[list[NodeProto], dict[str, Array]]] = {
    "relu": ([node("Relu", "a")], {}),
    "sigmoid": ([node("Sigmoid", "a")], {}),
    "hard swish": ([node("HardSwish", "a")], {}),
    "hard sigmoid": ([node("HardSigmoid", "a", alpha=0.3, beta=0.4)], {}),
    "clip": ([node("Clip", "a", "low", "high")], {"low": np.float32(0.5), "high": np.float32(6)}),
    "clip without a floor": ([node("Clip", "a", "", "high")], {"high": np.float32(6)}),
    "leaky relu": ([node("LeakyRelu", "a", alpha=0.1)], {}),
    "dropout": ([node("Dropout", "a")], {}),
    "max pool": ([node("MaxPool", "a", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])], {}),
    "average pool": ([node("AveragePool", "a", kernel_shape=[3, 3], pads=[1] * 4)], {}),
    "padded by its edge": ([node("Pad", "a", "pads", mode="edge")], {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "cropped": ([node("Pad", "a", "pads")], {"pads": np.array([0, 0, -1, -1, 0, 0, -1, -1])}),
    "resized": ([node("Resize", "a", "", "by")], {"by": np.array([1, 1, 2, 2], np.float32)}),
    "a constant for each channel": ([node("Add", "a", "c")], {"c": PER_CHANNEL.reshape(1, 6, 1, 1)}),
    "one constant": ([node("Mul", "c", "a")], {"c": np.float32(3)}),
    "a difference": ([node("Sub", "c", "a")], {"c": PER_CHANNEL.reshape(6, 1, 1)}),
    "a quotient": ([node("Div", "a", "c")], {"c": PER_CHANNEL.reshape(6, 1, 1)}),
    "its own square": ([node("Mul", "a", "a")], {}),
    "a maximum": ([node("Relu", "a", gives="r"), node("Max", "a", "r")], {}),
    "its own gate": ([node("GlobalAveragePool", "a", gives="g"), node("Mul", "a", "g")], {}),
    "normalised": (
        [node("BatchNormalization", "a", "s", "t", "u", "v")],
        {"s": PER_CHANNEL, "t": PER_CHANNEL - 3, "u": PER_CHANNEL - 2, "v": PER_CHANNEL},
    ),
    "depthwise": (
        [node("Conv", "a", "w", group=6)],
        {"w": np.random.default_rng(2).integers(1, 4, (6, 1, 3, 3)).astype(np.float32)},
    ),
    "reshaped and back": (
        [node("Reshape", "a", "flat", gives="r"), node("Reshape", "r", "tall")],
        {"flat": np.array([-1, 6 * SIZE * SIZE]), "tall": np.array([-1, 6 * SIZE * SIZE, 1, 1])},
    ),
}


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_dead_and_constant_channels_go_through(case: str) -> None:
    nodes, constants = UNDERSTOOD[case]
    features = 6 * SIZE * SIZE if case.startswith("reshaped") else 6
    model = between(*nodes, constants=constants, features=features)
    if features > 6:  # the features of a channel stand together
        weight = np.repeat(np.arange(1, 7, dtype=np.float32), SIZE * SIZE)[None].repeat(4, 0)
        weight[:, DEAD * SIZE * SIZE : (DEAD + 1) * SIZE * SIZE] = 0
        next(t for t in model.graph.initializer if t.name == "second.weight").CopyFrom(
            numpy_helper.from_array(weight, "second.weight")
        )
    found = held_to(model, 3)
    assert len(found.graph.node) == len(model.graph.node)


BORDERS: dict[str, tuple[NodeProto, dict[str, Array]]] = {
    "zeros around it": (node("Pad", "a", "pads"), {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    "an average that counts the padding": (
        node("AveragePool", "a", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        {},
    ),
    "a padded depthwise convolution": (
        node("Conv", "a", "w", group=6, pads=[1] * 4),
        {"w": np.ones((6, 1, 3, 3), "f")},
    ),
    "automatic padding": (node("Conv", "a", "w", group=6, auto_pad="SAME_UPPER"), {"w": np.ones((6, 1, 3, 3), "f")}),
}


@pytest.mark.parametrize("case", BORDERS)
def test_next_to_zero_padding_only_a_constant_of_zero_goes(case: str) -> None:
    """Channel 0 is 0 and channel 2 is not read; channel 1 is 1 and stays."""
    only, constants = BORDERS[case]
    held_to(between(only, constants=constants), 4)


def test_a_channel_that_is_multiplied_by_zero_goes_with_what_it_was_multiplied_with() -> None:
    found = held_to(between(node("Mul", "a", "c"), constants={"c": ZEROS_AND_ONES}), 2)
    assert weights_of(found)["c"].shape == (2, 1, 1)


def test_a_normalization_that_scales_by_zero_gives_a_constant() -> None:
    scale = np.array([1, 1, 1, 0, 1, 1], np.float32)
    ones = np.ones(6, np.float32)
    norm = node("BatchNormalization", "a", "s", "t", "u", "v")
    found = held_to(between(norm, constants={"s": scale, "t": PER_CHANNEL, "u": ones, "v": ones}), 2)
    assert weights_of(found)["s"].shape == (2,)


def test_what_a_scale_of_zero_reads_is_emptied_where_the_channel_has_to_stay() -> None:
    """The shift of channel 3 is read next to padding, the convolution that it replaces by nobody."""
    scale, ones = np.array([1, 1, 1, 0, 1, 1], np.float32), np.ones(6, np.float32)
    nodes = [node("BatchNormalization", "a", "s", "t", "u", "v", gives="n"), node("Conv", "n", "w", pads=[1] * 4)]
    constants = {"s": scale, "t": PER_CHANNEL, "u": ones, "v": ones, "w": np.ones((6, 6, 3, 3), np.float32)}
    found = held_to(between(*nodes, constants=constants), 6)
    assert [int(row.any()) for row in weights_of(found)["first.weight"]] == [0, 0, 1, 0, 1, 1]


def test_a_side_that_is_constant_as_a_whole_becomes_a_constant() -> None:
    """A gate that reads nothing: its layer goes, and the product has a number for each channel that is left."""
    gate = [
        node("GlobalAveragePool", "a", gives="g"),
        node("Conv", "g", "w", "wb", gives="h"),
        node("Relu", "h", gives="i"),
        node("Mul", "i", "a"),
    ]
    constants = {"w": np.zeros((6, 6, 1, 1), np.float32), "wb": PER_CHANNEL}
    found = held_to(between(*gate, constants=constants), 3)
    assert [one.op_type for one in found.graph.node] == ["Conv", "Mul", "GlobalAveragePool", "Flatten", "Gemm"]
    (factor,) = (value for value in weights_of(found).values() if value.shape == (1, 3, 1, 1))
    assert np.array_equal(factor.reshape(-1), PER_CHANNEL[3:])


@pytest.mark.parametrize(("bias", "operators"), [(0, ["Conv"]), (2, ["Conv", "Add"])])
def test_a_dead_branch_of_a_sum_goes(bias: float, operators: list[str]) -> None:
    """Nothing is left of it, or what its bias adds; the stem is read twice, so that the sum cannot go into its bias."""
    branch = [node("Conv", "a", "w", "wb", gives="h"), node("Relu", "a", gives="r"), node("Add", "r", "h")]
    constants = {"w": np.zeros((6, 6, 1, 1), np.float32), "wb": np.full(6, bias, np.float32)}
    found = held_to(between(*branch, constants=constants), 3)
    assert [one.op_type for one in found.graph.node if one.op_type in ("Conv", "Add")] == operators


def test_a_constant_side_of_a_sum_moves_into_the_layer_before_it() -> None:
    branch = [
        node("Conv", "a", "w", "wb", gives="h"),
        node("Conv", "a", "x", gives="i"),
        node("Add", "h", "i", gives="j"),
        node("Mul", "j", "j"),
    ]
    constants = {
        "w": np.zeros((6, 6, 1, 1), np.float32),
        "wb": PER_CHANNEL,
        "x": np.random.default_rng(3).integers(1, 3, (6, 6, 1, 1)).astype(np.float32),
    }
    found = held_to(between(*branch, constants=constants), 4)
    assert "Add" not in {one.op_type for one in found.graph.node}


def test_a_weight_that_two_layers_share_is_cut_for_each_alone() -> None:
    twice = [
        node("Conv", "a", "w", gives="h"),
        node("Relu", "h", gives="i"),
        node("Conv", "i", "w"),
    ]
    weight = np.random.default_rng(4).integers(1, 3, (6, 6, 1, 1)).astype(np.float32)
    weight[4] = 0
    found = held_to(between(*twice, constants={"w": weight}), 4)
    assert sum(value.ndim == 4 for value in weights_of(found).values()) == 3


def test_what_is_known_follows_a_constant_that_moved() -> None:
    """Channel 3 of `h` is 0 before the sum and 5 after it: what it multiplies is read."""
    weight = np.ones((6, 3, 1, 1), np.float32)
    weight[3] = 0
    nodes = [
        node("Conv", "input", "w", gives="h"),
        node("Conv", "input", "x", "xb", gives="i"),
        node("Add", "h", "i", gives="j"),
        node("Mul", "j", "a"),
    ]
    constants = {"w": weight, "x": np.zeros((6, 3, 1, 1), np.float32), "xb": np.full(6, 5, np.float32)}
    held_to(between(*nodes, constants=constants), 4)


def test_a_constant_side_stays_out_of_a_bias_that_others_read_too() -> None:
    weight = np.random.default_rng(3).integers(1, 3, (6, 6, 1, 1)).astype(np.float32)
    nodes = [
        node("Conv", "a", "w", gives="h"),
        node("Conv", "a", "x", "xb", gives="i"),
        node("Add", "h", "i", gives="j"),
        node("Mul", "j", "h"),
    ]
    constants = {"w": weight, "x": np.zeros((6, 6, 1, 1), np.float32), "xb": PER_CHANNEL}
    held_to(between(*nodes, constants=constants), 4)


def test_a_constant_that_gives_a_product_its_size_stays() -> None:
    nodes = [
        node("GlobalAveragePool", "a", gives="g"),
        node("Conv", "a", "x", "xb", gives="i"),
        node("Mul", "g", "i", gives="p"),
        node("MaxPool", "p", kernel_shape=[3, 3]),
    ]
    constants = {"x": np.zeros((6, 6, 1, 1), np.float32), "xb": PER_CHANNEL}
    held_to(between(*nodes, constants=constants), 3)


def test_an_output_that_stays_although_nobody_reads_it_has_no_weights() -> None:
    """The product is an output of the graph and keeps its channels; what channel 0 is multiplied by does not matter."""
    nodes = [
        node("GlobalAveragePool", "a", gives="g"),
        node("Conv", "g", "w", gives="gate"),
        node("Mul", "a", "gate", gives="p"),
        node("Relu", "p"),
    ]
    model = between(*nodes, constants={"w": np.ones((6, 6, 1, 1), np.float32)})
    model.graph.output.append(helper.make_tensor_value_info("p", TensorProto.FLOAT, ["N", 6, SIZE, SIZE]))
    weight = weights_of(held_to(model, 6))["w"]
    assert weight.shape == (6, 6, 1, 1)
    assert [int(row.any()) for row in weight] == [0, 1, 1, 1, 1, 1]


def test_a_bias_that_would_not_be_finite_is_not_folded() -> None:
    huge = np.full((6, 6, 1, 1), 3e38, np.float32)
    model = between(node("Conv", "a", "w", "wb"), constants={"w": huge, "wb": np.full(6, 3e38, np.float32)})
    assert len(weights_of(shortened(model))["first.weight"]) == 5  # all but the one that is 0


def test_a_mask_that_nobody_reads_stops_nothing() -> None:
    dropped = helper.make_node("Dropout", ["a"], ["b", "mask"])
    held_to(between(dropped), 3)


# Left alone ----------------------------------------------------------------------------------------------------------

ALONE: dict[str, tuple[list[NodeProto], dict[str, Array]]] = {
    "softmax over channels": ([node("Softmax", "a", axis=1)], {}),
    "local response": ([node("LRN", "a", size=3)], {}),
    "transposed convolution": ([node("ConvTranspose", "a", "w")], {"w": np.ones((6, 6, 1, 1), np.float32)}),
    "turned axes": ([node("Transpose", "a", perm=[0, 1, 3, 2])], {}),
    "a gather": ([node("Gather", "a", "at", axis=1)], {"at": np.array([5, 4, 3, 2, 1, 0])}),
    "a constant for each position": ([node("Add", "a", "c")], {"c": np.ones((1, 6, SIZE, SIZE), np.float32)}),
    "one channel for all": (
        [node("Conv", "input", "w", gives="one"), node("Mul", "a", "one")],
        {"w": np.ones((1, 3, 1, 1), np.float32)},
    ),
    "its shape is asked": (
        [node("Shape", "a", gives="s"), node("Relu", "a", gives="r"), node("Reshape", "r", "s")],
        {},
    ),
}


@pytest.mark.parametrize("case", ALONE)
def test_what_is_not_understood_keeps_all_channels(case: str) -> None:
    nodes, constants = ALONE[case]
    held_to(between(*nodes, constants=constants), 6)


def test_an_operator_of_somebody_else_is_left_alone_and_the_rest_is_not(tmp_path: Path) -> None:
    theirs = [
        node("Relu", "a", gives="r"),
        helper.make_node("Mystery", ["r"], ["y"], domain="elsewhere"),
        node("Conv", "y", "w", gives="h"),
        node("Conv", "h", "x"),
    ]
    weight = np.ones((5, 6, 1, 1), np.float32)
    weight[3:] = 0
    model = between(*theirs, constants={"w": weight, "x": np.ones((6, 5, 1, 1), np.float32)}, domains=("elsewhere",))
    value = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 6, SIZE, SIZE])
    model.graph.value_info.append(value)
    (tmp_path / "a.onnx").write_bytes(model.SerializeToString())
    found = compact(tmp_path / "a.onnx", tmp_path / "b.onnx")
    after = weights_of(onnx.load(tmp_path / "b.onnx"))
    assert len(after["first.weight"]) == 6
    assert found.max_rel_error is None
    assert "Mystery" in str(found.not_compared)


def test_what_a_branch_reads_from_outside_keeps_all_channels() -> None:
    def branch(name: str) -> onnx.GraphProto:
        gives = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([node("Neg", "a", gives=name)], name, [], [gives])

    choice = helper.make_node("If", ["yes"], ["b"], then_branch=branch("p"), else_branch=branch("q"))
    held_to(between(choice, constants={"yes": np.array(True)}), 6)


def test_a_weight_that_the_caller_may_override_is_no_constant() -> None:
    model = between(node("Relu", "a"))
    model.graph.input.append(helper.make_tensor_value_info("second.weight", TensorProto.FLOAT, [4, 6]))
    held_to(model, 6)


def test_constants_that_are_not_finite_are_left_to_the_runtime() -> None:
    model = between(node("Relu", "a"), node("Mul", "b", "c", gives="d"), constants={"c": np.float32(1)})
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "first.bias")
    bias.CopyFrom(numpy_helper.from_array(np.array([np.inf, 1, 1, 0, -1, 2], np.float32), "first.bias"))
    assert len(weights_of(shortened(model))["first.weight"]) == 4  # the infinite one and the three that live
