"""Each operator that a program knows computes what ONNX Runtime does, and comes out as the operations it should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from program_graphs import Array, checked, model_of, node, normal, ops, whole

Case = tuple[list[NodeProto], dict[str, Array], tuple[int | str, ...], int, list[str]]

IMAGE = ("N", 4, 6, 6)
VECTOR = ("N", 12)


def case(
    operations: list[str], *nodes: NodeProto, shape: tuple[int | str, ...] = IMAGE, opset: int = 17, **constants: Array
) -> Case:
    return list(nodes), constants, shape, opset, operations


def conv(*shape: int, image: tuple[int | str, ...] = IMAGE, bias: bool = True, **attributes: Any) -> Case:
    constants = {"w": normal(*shape)} | ({"b": normal(shape[0], seed=3)} if bias else {})
    return case(["conv"], node("Conv", "x w b" if bias else "x w", "y", **attributes), shape=image, **constants)


def pool(op: str, *, operations: list[str] | None = None, size: tuple[int, int] = (6, 6), **attributes: Any) -> Case:
    known = {"MaxPool": "max_pool", "AveragePool": "average_pool"}
    return case(operations or [known[op]], node(op, "x", "y", **attributes), shape=("N", 4, *size))


def numbers(**values: float) -> dict[str, Array]:
    return {key: np.array(value, np.float32) for key, value in values.items()}


LAYERS: dict[str, Case] = {
    "3x3": conv(5, 4, 3, 3, pads=[1, 1, 1, 1]),
    "no bias": conv(5, 4, 3, 3, bias=False),
    "uneven padding, stride, kernel": conv(5, 4, 2, 3, pads=[0, 1, 1, 2], strides=[2, 1]),
    "dilation": conv(5, 4, 3, 3, dilations=[2, 1], pads=[2, 0, 1, 1]),
    "groups": conv(6, 2, 3, 3, group=2),
    "depthwise": conv(4, 1, 3, 3, group=4, strides=[2, 2], pads=[1, 1, 1, 1]),
    "depthwise with two filters each": conv(8, 1, 3, 3, group=4),
    "same, upper": conv(5, 4, 4, 4, auto_pad="SAME_UPPER", strides=[2, 2]),
    "same, lower": conv(5, 4, 4, 4, auto_pad="SAME_LOWER", strides=[1, 1]),
    "valid": conv(5, 4, 3, 3, auto_pad="VALID"),
    "pointwise": conv(5, 4, 1, 1),
    "3x3 on one pixel": conv(5, 4, 3, 3, image=("N", 4, 1, 1), pads=[1, 1, 1, 1]),
    "padding wider than the kernel": case(
        ["pad", "conv"], node("Conv", "x w", "y", pads=[3, 1, 0, 1]), w=normal(5, 4, 2, 2)
    ),
    "pointwise with padding": case(["pad", "conv"], node("Conv", "x w", "y", pads=[1] * 4), w=normal(5, 4, 1, 1)),
    "pointwise on one pixel": case(["linear"], node("Conv", "x w", "y"), shape=("N", 4, 1, 1), w=normal(5, 4, 1, 1)),
    "gemm": case(["linear"], node("Gemm", "x w b", "y", transB=1), shape=VECTOR, w=normal(5, 12), b=normal(5)),
    "gemm as written, scaled": case(
        ["linear"], node("Gemm", "x w b", "y", alpha=0.5, beta=2.0), shape=VECTOR, w=normal(12, 5), b=normal(1, 5)
    ),
    "gemm without bias": case(["linear"], node("Gemm", "x w", "y"), shape=VECTOR, w=normal(12, 5)),
    "matmul and add": case(
        ["linear"], node("MatMul", "x w", "a"), node("Add", "b a", "y"), shape=VECTOR, w=normal(12, 5), b=normal(5)
    ),
    "max pool": pool("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
    "max pool, ceil": pool("MaxPool", size=(7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "max pool, ceil, a window in the padding": pool(
        "MaxPool", size=(5, 5), kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1
    ),
    "max pool, ceil, long steps": pool("MaxPool", size=(7, 9), kernel_shape=[1, 2], strides=[3, 3], ceil_mode=1),
    "average pool": pool("AveragePool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 0, 1, 1]),
    "average pool, padding counts": pool("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    "average pool, ceil": pool("AveragePool", size=(7, 8), kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
    "average pool, same": pool("AveragePool", size=(7, 8), kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"),
    "average pool, nothing counts": pool("AveragePool", kernel_shape=[2, 2], count_include_pad=1),
    "global average": case(["global_average"], node("GlobalAveragePool", "x", "y")),
    "global max": case(["max_pool"], node("GlobalMaxPool", "x", "y")),
    "mean over pixels": case(["global_average"], node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)),
    "mean, axes as input": case(["global_average"], node("ReduceMean", "x a", "y"), opset=18, a=whole(-1, -2)),
    "mean over flat pixels": case(
        ["global_average"],
        node("Reshape", "x s", "a"),
        node("ReduceMean", "a", "y", axes=[2], keepdims=0),
        s=whole(0, 4, -1),
    ),
    "mean over rows": case(["average_pool"], node("ReduceMean", "x", "y", axes=[2])),
    "normalization": case(
        ["affine"],
        node("BatchNormalization", "x g b m v", "y", epsilon=1e-3),
        **{name: normal(4, seed=at) for at, name in enumerate("gbm")},
        v=np.abs(normal(4)) + np.float32(0.1),
    ),
}

ELEMENTWISE: dict[str, Case] = {
    "relu": case(["activate"], node("Relu", "x", "y")),
    "clip": case(["activate"], node("Clip", "x a b", "y"), **numbers(a=-0.5, b=0.7)),
    "clip below": case(["activate"], node("Clip", "x a", "y"), **numbers(a=-0.5)),
    "clip above": case(["activate"], node("Clip", "x - b", "y"), **numbers(b=0.5)),
    "max and min": case(["activate"] * 2, node("Max", "a x", "m"), node("Min", "m b", "y"), **numbers(a=-0.5, b=0.7)),
    "hard swish": case(["activate"], node("HardSwish", "x", "y")),
    "hard sigmoid": case(["activate"], node("HardSigmoid", "x", "y", alpha=0.3, beta=0.4)),
    "hard sigmoid by default": case(["activate"], node("HardSigmoid", "x", "y")),
    "sigmoid": case(["activate"], node("Sigmoid", "x", "y")),
    "softmax": case(["softmax"], node("Softmax", "x", "y", axis=1), shape=VECTOR),
    "softmax of old": case(["softmax"], node("Softmax", "x", "y"), shape=("N", 5, 1, 1), opset=12),
    "softmax of pixels": case(["softmax"], node("Softmax", "x", "y", axis=1), shape=("N", 5, 1, 1)),
    "add number": case(["affine"], node("Add", "a x", "y"), **numbers(a=3)),
    "add channels": case(["affine"], node("Add", "x a", "y"), a=normal(4, 1, 1)),
    "subtract": case(["affine"], node("Sub", "x a", "y"), a=normal(1, 4, 1, 1)),
    "subtract from": case(["affine"], node("Sub", "a x", "y"), a=normal(4, 1, 1)),
    "multiply": case(["affine"], node("Mul", "a x", "y"), a=normal(1, 4, 1, 1)),
    "divide": case(["affine"], node("Div", "x a", "y"), a=normal(4, 1, 1)),
    "negate": case(["affine"], node("Neg", "x", "y")),
    "a whole constant image that is even": case(
        ["affine"], node("Add", "x a", "y"), a=np.full((4, 6, 6), 2, np.float32)
    ),
    "add two": case(["activate", "add"], node("Relu", "x", "a"), node("Add", "a x", "y")),
    "double": case(["add"], node("Add", "x x", "y")),
    "subtract two": case(["activate", "affine", "add"], node("Sigmoid", "x", "a"), node("Sub", "x a", "y")),
    "multiply two": case(["activate", "mul"], node("Relu", "x", "a"), node("Mul", "a x", "y")),
    "scale channels": case(["global_average", "mul"], node("GlobalAveragePool", "x", "a"), node("Mul", "a x", "y")),
    "add to channels": case(["global_average", "add"], node("GlobalAveragePool", "x", "a"), node("Add", "x a", "y")),
    "cast to the same": case(["activate"], node("Cast", "x", "a", to=1), node("Relu", "a", "y")),
}

RELU = node("Relu", "x", "a")
SHAPING: dict[str, Case] = {
    "flatten": case(["flatten"], node("Flatten", "x", "y")),
    "flatten twice is done once": case(
        ["flatten", "select"],
        node("Flatten", "x", "a"),
        node("Reshape", "x s", "b"),
        node("Concat", "a b", "y", axis=1),
        s=whole(-1, 144),
    ),
    "reshape of one pixel": case(["activate"], RELU, node("Reshape", "a s", "y"), shape=("N", 4, 1, 1), s=whole(0, -1)),
    "squeeze": case(["activate"], RELU, node("Squeeze", "a s", "y"), shape=("N", 4, 1, 1), s=whole(2, 3)),
    "unsqueeze": case(["activate"], RELU, node("Unsqueeze", "a s", "y"), shape=VECTOR, s=whole(2, -1)),
    "slice channels": case(
        ["select"], node("Slice", "x a b c d", "y"), a=whole(3), b=whole(0), c=whole(1), d=whole(-1)
    ),
    "slice to the end": case(
        ["select"], node("Slice", "x a b c", "y"), a=whole(0, -3), b=whole(2**62, 2**62), c=whole(0, 1)
    ),
    "slice backwards to the end": case(
        ["select"], node("Slice", "x a b c d", "y"), a=whole(-1), b=whole(-(2**62)), c=whole(1), d=whole(-1)
    ),
    "crop": case(["conv"], node("Slice", "x a b c", "y"), a=whole(1, 2), b=whole(5, 6), c=whole(2, 3)),
    "every other pixel": case(
        ["average_pool"],
        node("Slice", "x a b c d", "y"),
        a=whole(0, 0),
        b=whole(99, 99),
        c=whole(2, 3),
        d=whole(2, 2),
        shape=("N", 4, 7, 7),
    ),
    "every other pixel from the second on": case(
        ["conv"], node("Slice", "x a b c d", "y"), a=whole(1, 0), b=whole(99, 99), c=whole(2, 3), d=whole(2, 2)
    ),
    "split": case(["select", "select", "mul"], node("Split", "x", "a b", axis=1), node("Mul", "a b", "y")),
    "split unevenly": case(
        ["select", "activate", "select", "concat"],
        node("Split", "x s", "a b", axis=1),
        node("Relu", "b", "c"),
        node("Concat", "c a", "y", axis=1),
        s=whole(1, 3),
    ),
    "gather": case(["select"], node("Gather", "x i", "y", axis=1), i=whole(2, -1, 0, 0)),
    "gather one": case(["select", "flatten"], node("Gather", "x i", "y", axis=1), i=np.array(2)),
    "concat": case(["activate", "concat"], RELU, node("Concat", "x a x", "y", axis=1)),
    "concat of parts of one": case(["select"], node("Split", "x", "a b", axis=1), node("Concat", "b a", "y", axis=1)),
    "concat of parts of one, as it was": case(
        ["activate"], node("Split", "x", "a b", axis=1), node("Concat", "a b", "c", axis=1), node("Relu", "c", "y")
    ),
    "channel shuffle": case(
        ["select"],
        node("Reshape", "x s", "a"),
        node("Transpose", "a", "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", "b t", "y"),
        s=whole(-1, 2, 2, 6, 6),
        t=whole(-1, 4, 6, 6),
    ),
    "transpose of one pixel": case(
        ["activate"], RELU, node("Transpose", "a", "y", perm=[0, 2, 3, 1]), shape=("N", 4, 1, 1)
    ),
    "concat in another axis of vectors": case(
        ["activate", "concat", "select"],
        node("Reshape", "x s", "a"),
        node("Relu", "a", "b"),
        node("Concat", "a b", "c", axis=2),
        node("Flatten", "c", "y"),
        shape=VECTOR,
        s=whole(0, 3, 4),
    ),
    "pad": case(["pad"], node("Pad", "x p v", "y"), p=whole(0, 0, 1, 2, 0, 0, 3, 0), **numbers(v=1.5)),
    "pad axes": case(["pad"], node("Pad", "x p - a", "y"), p=whole(1, 2), a=whole(3), opset=18),
    "pad nothing": case(["activate"], RELU, node("Pad", "a p", "y"), p=whole(*[0] * 8)),
    "resize": case(
        ["resize"],
        node("Resize", "x - s", "y", mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        s=np.array([1, 1, 2, 3], np.float32),
    ),
    "resize, half pixels": case(["resize"], node("Resize", "x - s", "y"), s=np.array([1, 1, 3, 2], np.float32)),
    "resize to sizes": case(["resize"], node("Resize", "x - - s", "y"), shape=(2, 4, 3, 3), s=whole(2, 4, 6, 12)),
    "dropout": case(["activate"], RELU, node("Dropout", "a", "y")),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_or_pool_computes_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    nodes, constants, shape, opset, operations = LAYERS[name]
    assert ops(checked(model_of(nodes, constants, shape, opset=opset), tmp_path)) == operations


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_an_elementwise_operator_computes_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    nodes, constants, shape, opset, operations = ELEMENTWISE[name]
    assert ops(checked(model_of(nodes, constants, shape, opset=opset), tmp_path)) == operations


@pytest.mark.parametrize("name", SHAPING)
def test_an_operator_that_moves_values_gives_what_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    nodes, constants, shape, opset, operations = SHAPING[name]
    assert ops(checked(model_of(nodes, constants, shape, opset=opset), tmp_path)) == operations
