"""What is fused into one operation, and what must not be: each compared with ONNX Runtime on the unfused graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto
from program_graphs import Array, checked, model_of, node, normal, ops

from export.program.format import Program

C = 4


def number(value: float) -> Array:
    return np.array(value, np.float32)


def built(
    folder: Path, *nodes: NodeProto, outputs: tuple[str, ...] = ("y",), opset: int = 17, **more: Array
) -> Program:
    """The program of these nodes on (N, 4, 6, 6), beside constants that are always there; unread ones go."""
    constants: dict[str, Array] = {
        "w": normal(C, C, 3, 3),
        "w2": normal(C, C, 3, 3, seed=5),
        "grouped": normal(C, 2, 3, 3, seed=6),
        "b": normal(C, seed=2),
        "scale": normal(C, 1, 1, seed=3),
        "shift": normal(C, 1, 1, seed=4),
        **{name: normal(C, seed=at) for at, name in enumerate(("gamma", "beta", "mean"), start=7)},
        "variance": np.abs(normal(C, seed=10)) + np.float32(0.1),
        **{name: number(value) for name, value in {"zero": 0, "three": 3, "six": 6, "sixth": 1 / 6}.items()},
        **more,
    }
    return checked(model_of(nodes, constants, ("N", C, 6, 6), outputs, opset), folder)


def conv(reads: str, writes: str, weight: str = "w", **attributes: Any) -> NodeProto:
    return node("Conv", f"{reads} {weight} b", writes, **{"pads": [1, 1, 1, 1], **attributes})


def norm(reads: str, writes: str) -> NodeProto:
    return node("BatchNormalization", f"{reads} gamma beta mean variance", writes)


def kinds(program: Program) -> list[str | None]:
    held = [one.attributes.get("activation") for one in program.operations]
    return [None if one is None else one["kind"] for one in held]


# Scales and shifts ---------------------------------------------------------------------------------------------------


def test_a_normalization_behind_a_convolution_goes_into_its_weights(tmp_path: Path) -> None:
    assert ops(built(tmp_path, conv("x", "a"), norm("a", "y"))) == ["conv"]


def test_a_scale_and_a_shift_behind_a_grouped_convolution_go_into_its_weights(tmp_path: Path) -> None:
    parts = [conv("x", "a", "grouped", group=2), node("Mul", "a scale", "c"), node("Add", "c shift", "y")]
    assert ops(built(tmp_path, *parts)) == ["conv"]


def test_a_zero_weight_stays_exactly_zero_when_a_scale_is_folded(tmp_path: Path) -> None:
    sparse = normal(C, C, 3, 3)
    sparse[:, 1:] = -0.0
    program = built(tmp_path, conv("x", "a", "s"), node("Mul", "a scale", "y"), s=sparse)
    (one,) = program.operations
    assert set(one.arrays) == {"values", "gaps", "counts", "bias"}
    assert one.arrays["counts"].tolist() == [9] * C


def test_a_normalization_before_an_unpadded_convolution_goes_into_its_weights(tmp_path: Path) -> None:
    assert ops(built(tmp_path, norm("x", "a"), conv("a", "y", pads=[0] * 4))) == ["conv"]
    assert ops(built(tmp_path, norm("x", "a"), conv("a", "y", "grouped", group=2, pads=[0] * 4))) == ["conv"]


def test_a_shift_before_a_padded_convolution_stays_but_a_scale_alone_goes_in(tmp_path: Path) -> None:
    assert ops(built(tmp_path, norm("x", "a"), conv("a", "y"))) == ["affine", "conv"]
    assert ops(built(tmp_path, node("Mul", "x scale", "a"), conv("a", "y"))) == ["conv"]


def test_a_scale_is_folded_into_every_layer_behind_it_or_into_none(tmp_path: Path) -> None:
    scaled = node("Mul", "x scale", "a")
    both = [scaled, conv("a", "c"), conv("a", "d", "w2"), node("Mul", "c d", "y")]
    assert "affine" not in ops(built(tmp_path, *both))
    one = [scaled, conv("a", "c"), node("Mul", "c a", "y")]
    assert ops(built(tmp_path, *one)) == ["affine", "conv", "mul"]


def test_a_normalization_before_a_linear_layer_goes_into_its_weights(tmp_path: Path) -> None:
    parts = [node("GlobalAveragePool", "x", "p"), norm("p", "a"), node("Flatten", "a", "f"), node("Gemm", "f m", "y")]
    assert ops(built(tmp_path, *parts, m=normal(C, 5))) == ["global_average", "linear"]


def test_scales_and_shifts_in_a_row_are_one_operation(tmp_path: Path) -> None:
    parts = [node("Mul", "x scale", "a"), node("Add", "a shift", "c"), node("Sub", "three c", "d"), norm("d", "y")]
    assert ops(built(tmp_path, *parts)) == ["affine"]


def test_what_changes_nothing_is_left_out(tmp_path: Path) -> None:
    parts = [node("Mul", "x one", "a"), node("Add", "zero a", "c"), node("Relu", "c", "y")]
    assert ops(built(tmp_path, *parts, one=number(1))) == ["activate"]


def test_a_scale_behind_a_convolution_that_is_read_twice_stays(tmp_path: Path) -> None:
    parts = [conv("x", "a"), node("Mul", "a scale", "c"), node("Mul", "a c", "y")]
    assert ops(built(tmp_path, *parts)) == ["conv", "affine", "mul"]


def test_a_shared_weight_is_folded_for_each_use_on_its_own(tmp_path: Path) -> None:
    assert ops(built(tmp_path, conv("x", "a"), norm("a", "c"), node("Relu", "c", "d"), conv("d", "y"))) == ["conv"] * 2


# Activations and sums ------------------------------------------------------------------------------------------------

ACTIVATIONS = {
    "clip": [node("Relu", "a", "y")],
    "hard_swish": [node("HardSwish", "a", "y")],
    "hard_sigmoid": [node("HardSigmoid", "a", "y", alpha=0.25, beta=0.3)],
    "sigmoid": [node("Sigmoid", "a", "y")],
    "silu": [node("Sigmoid", "a", "c"), node("Mul", "a c", "y")],
}
"""By the activation's kind, the nodes from a to y."""


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_behind_a_convolution_is_part_of_it(kind: str, tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "a"), *ACTIVATIONS[kind])
    assert (ops(program), kinds(program)) == (["conv"], [kind])


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_an_activation_behind_a_linear_layer_is_part_of_it(kind: str, tmp_path: Path) -> None:
    layer = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Gemm", "f m", "a")]
    program = built(tmp_path, *layer, *ACTIVATIONS[kind], m=normal(C, 5))
    assert (ops(program), kinds(program)) == (["global_average", "linear"], [None, kind])


def test_a_second_activation_stays_on_its_own(tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "a"), node("Sigmoid", "a", "c"), node("HardSwish", "c", "y"))
    assert ops(program) == ["conv", "activate"]


def test_an_activation_of_a_value_that_is_read_twice_stays(tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "a"), node("Relu", "a", "c"), node("Add", "a c", "y"))
    assert ops(program) == ["conv", "activate", "add"]


def test_a_shortcut_is_added_before_the_activation_by_the_convolution_itself(tmp_path: Path) -> None:
    parts = [
        conv("x", "a"),
        node("Relu", "a", "c"),
        conv("c", "d", "w2"),
        node("Add", "d c", "e"),
        node("Relu", "e", "y"),
    ]
    program = built(tmp_path, *parts)
    assert (ops(program), kinds(program)) == (["conv", "conv"], ["clip", "clip"])
    assert program.operations[1].attributes["add"] == program.operations[0].output


def test_of_two_convolutions_the_later_one_adds(tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "a"), conv("x", "c", "w2"), node("Add", "a c", "y"))
    assert ops(program) == ["conv", "conv"]
    assert [one.attributes["add"] for one in program.operations] == [None, program.operations[0].output]


def test_a_convolution_waits_for_what_it_adds(tmp_path: Path) -> None:
    parts = [conv("x", "a"), node("Sigmoid", "x", "c"), conv("c", "d", "w2"), node("Relu", "d", "e")]
    program = built(tmp_path, *parts, node("Add", "a e", "y"))
    assert (ops(program), kinds(program)) == (["activate", "conv", "conv"], ["sigmoid", "clip", None])
    assert program.operations[2].attributes["add"] == program.operations[1].output


def test_a_convolution_does_not_add_to_an_activation_it_has(tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "a"), node("Relu", "a", "c"), node("Add", "c x", "y"))
    assert ops(program) == ["conv", "add"]


def test_a_convolution_adds_one_thing_only_and_nothing_of_another_shape(tmp_path: Path) -> None:
    twice = [conv("x", "a"), node("Add", "a x", "c"), node("Add", "c x", "y")]
    assert ops(built(tmp_path, *twice)) == ["conv", "add"]
    small = [node("GlobalAveragePool", "x", "p"), conv("x", "a"), node("Add", "a p", "y")]
    assert ops(built(tmp_path, *small)) == ["conv", "global_average", "add"]


def test_a_convolution_added_to_itself_stays_a_sum(tmp_path: Path) -> None:
    assert ops(built(tmp_path, conv("x", "a"), node("Add", "a a", "y"))) == ["conv", "add"]


# Gates written as their parts ----------------------------------------------------------------------------------------

PLUS_THREE = node("Add", "x three", "a")
SIX = node("Clip", "a zero six", "c")
GATES = {
    "divided at the end": [PLUS_THREE, SIX, node("Mul", "x c", "d"), node("Div", "d six", "y")],
    "divided before": [PLUS_THREE, SIX, node("Div", "c six", "d"), node("Mul", "d x", "y")],
    "multiplied by a sixth": [PLUS_THREE, SIX, node("Mul", "c sixth", "d"), node("Mul", "x d", "y")],
    "by its hard sigmoid": [node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "a x", "y")],
}


@pytest.mark.parametrize("name", GATES)
def test_a_hard_swish_in_parts_is_one_activation(name: str, tmp_path: Path) -> None:
    program = built(tmp_path, *GATES[name])
    assert kinds(program) == ["hard_swish"]


def test_the_parts_of_a_hard_swish_behind_a_convolution_are_part_of_it(tmp_path: Path) -> None:
    gate = [node("Add", "e three", "a"), SIX, node("Mul", "e c", "d"), node("Div", "d six", "f"), conv("f", "y", "w2")]
    program = built(tmp_path, conv("x", "e"), *gate)
    assert (ops(program), kinds(program)) == (["conv", "conv"], ["hard_swish", None])


def test_a_gate_of_another_slope_is_no_hard_swish(tmp_path: Path) -> None:
    program = built(tmp_path, node("HardSigmoid", "x", "a", alpha=0.2), node("Mul", "a x", "y"))
    assert kinds(program) == ["hard_sigmoid", None]


def test_a_gate_by_another_value_is_no_swish(tmp_path: Path) -> None:
    program = built(tmp_path, node("Relu", "x", "r"), node("Sigmoid", "r", "a"), node("Mul", "a x", "y"))
    assert ops(program) == ["activate", "activate", "mul"]


def test_a_gate_that_is_read_elsewhere_too_is_kept_beside_the_swish(tmp_path: Path) -> None:
    parts = [node("Sigmoid", "x", "a"), node("Mul", "a x", "c"), node("GlobalAveragePool", "a", "d")]
    program = built(tmp_path, *parts, node("Mul", "c d", "y"))
    assert sorted(kind for kind in kinds(program) if kind) == ["sigmoid", "silu"]


# Borders -------------------------------------------------------------------------------------------------------------


def border(*sizes: int) -> dict[str, Array]:
    top, left, bottom, right = sizes
    return {"p": np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)}


def test_a_border_of_zeros_becomes_the_padding_of_the_convolution(tmp_path: Path) -> None:
    program = built(tmp_path, node("Pad", "x p", "a"), conv("a", "y", pads=[1, 0, 0, 0]), **border(1, 1, 2, 0))
    assert ops(program) == ["conv"]
    assert program.operations[0].attributes["padding"] == [2, 1, 2, 0]


def test_a_border_that_the_kernel_does_not_reach_over_stays(tmp_path: Path) -> None:
    program = built(tmp_path, node("Pad", "x p", "a"), conv("a", "y"), **border(2, 0, 0, 0))
    assert ops(program) == ["pad", "conv"]


def test_a_border_of_ones_stays(tmp_path: Path) -> None:
    program = built(
        tmp_path, node("Pad", "x p one", "a"), conv("a", "y", pads=[0] * 4), one=number(1), **border(1, 1, 1, 1)
    )
    assert ops(program) == ["pad", "conv"]


def test_a_border_that_something_else_reads_stays(tmp_path: Path) -> None:
    parts = [
        node("Pad", "x p", "a"),
        conv("a", "c", pads=[0] * 4),
        node("GlobalMaxPool", "a", "d"),
        node("Mul", "c d", "y"),
    ]
    assert ops(built(tmp_path, *parts, **border(1, 1, 1, 1))) == ["pad", "conv", "max_pool", "mul"]


# The answer ----------------------------------------------------------------------------------------------------------


def test_an_answer_that_others_read_too_is_not_fused_away(tmp_path: Path) -> None:
    parts = [conv("x", "a"), node("Relu", "a", "c"), conv("c", "y", "w2")]
    program = built(tmp_path, *parts, outputs=("a", "y"))
    assert (ops(program), kinds(program)) == (["conv"], [None])


def test_an_operation_has_the_name_of_its_own_node(tmp_path: Path) -> None:
    parts = [node("Split", "x", "a c", axis=1), node("GlobalAveragePool", "c", "d"), node("Mul", "c d", "y")]
    names = {one.op: one.name for one in built(tmp_path, *parts).operations}
    assert names == {"select": "/Split/a", "global_average": "/GlobalAveragePool/d", "mul": "/Mul/y"}


def test_what_no_answer_needs_is_left_out(tmp_path: Path) -> None:
    program = built(tmp_path, conv("x", "y"), node("Relu", "y", "c"), node("GlobalAveragePool", "c", "d"))
    assert ops(program) == ["conv"]
