"""A program executed in plain numpy, slowly and in the open: what every kernel is held to.

Each operation is computed in float64 from float32 tensors and rounded to float32 once. A NaN stays one in activations
and wins in a max pool; a zero weight on an infinite input gives NaN, which a kernel that skips zeros need not do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from export.program.buffers import place
from export.program.format import Operation, Program, Shape, Tensor
from export.program.weights import dense

Values = NDArray[np.float64]
"""(N, C, H, W)."""
Images = NDArray[np.float32]


def run_program(program: Program, images: Images) -> Images:
    """The answers, float32 (N, outputs), to `images`, float32 (N, C, H, W)."""
    return run_tensors(program, images)[program.output].reshape(len(images), -1)


def run_tensors(program: Program, images: Images) -> dict[int, Images]:
    """Every tensor of the program, float32 (N, C, H, W), by its index."""
    given = np.asarray(images, np.float32)
    found = {program.input: given.reshape(len(given), *program.tensors[program.input].shape)}
    for one in program.operations:
        found[one.output] = run_operation(one, [found[at] for at in one.reads])
        shape = program.tensors[one.output].shape
        if found[one.output].shape[1:] != shape:
            raise AssertionError(f"{one.op} '{one.name}' gives {found[one.output].shape[1:]}, the program says {shape}")
    return found


def run_operation(one: Operation, inputs: Sequence[Images]) -> Images:
    """What an operation makes of its inputs, float32 (N, C, H, W); what a convolution adds is the last of them."""
    with np.errstate(all="ignore"):
        return _RUN[one.op](one, [value.astype(np.float64) for value in inputs]).astype(np.float32)


def program_of(operations: Sequence[Operation], shapes: Sequence[Shape], input: int, output: int) -> Program:
    """A made-up program of these operations on tensors of these shapes, with buffers by liveness."""
    tensors = tuple(Tensor(shape) for shape in shapes)
    return place(Program("made-up", "0" * 64, input, output, tensors, tuple(operations)))


def activated(held: dict[str, Any] | None, x: Values) -> Values:
    """An activation as the program's JSON has it, on any values."""
    if held is None:
        return x
    low, high = held.get("low"), held.get("high")
    if held["kind"] == "clip":
        raised = x if low is None else np.maximum(x, low)
        return raised if high is None else np.minimum(raised, high)
    sigmoid = np.where(x < 0, np.exp(np.minimum(x, 0)), 1.0) / (1 + np.exp(-np.abs(x)))
    return {
        "hard_swish": lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        "hard_sigmoid": lambda: np.clip(low * x + high, 0, 1),
        "sigmoid": lambda: sigmoid,
        "silu": lambda: x * sigmoid,
    }[held["kind"]]()


def _windows(one: Operation, x: Values, border: float) -> Values:
    """(N, C, out H, out W, kernel h, kernel w): what stands under the kernel at each place."""
    kernel, stride, dilation = (one.attributes[key] for key in ("kernel", "stride", "dilation"))
    padded = _padded(x, one.attributes["padding"], border)
    reach = [(size - 1) * step + 1 for size, step in zip(kernel, dilation, strict=True)]
    found = sliding_window_view(padded, reach, axis=(2, 3))
    return found[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def _padded(x: Values, padding: Sequence[int], value: float) -> Values:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _conv(one: Operation, inputs: list[Values]) -> Values:
    groups = one.attributes["groups"]
    columns = inputs[0].shape[1] // groups * one.attributes["kernel"][0] * one.attributes["kernel"][1]
    weight = dense(one.arrays, columns).astype(np.float64)
    windows = _windows(one, inputs[0], 0.0)
    n, _, height, width = windows.shape[:4]
    parts = []
    for rows, part in zip(np.split(weight, groups), np.split(windows, groups, axis=1), strict=True):
        flat = part.transpose(1, 4, 5, 0, 2, 3).reshape(columns, -1)
        parts.append((rows @ flat).reshape(len(rows), n, height, width))
    found = np.concatenate(parts).transpose(1, 0, 2, 3) + one.arrays["bias"].astype(np.float64).reshape(-1, 1, 1)
    added = found + inputs[1] if one.attributes["add"] is not None else found
    return activated(one.attributes["activation"], added)


def _linear(one: Operation, inputs: list[Values]) -> Values:
    x = inputs[0].reshape(len(inputs[0]), -1)
    found = x @ dense(one.arrays, x.shape[1]).astype(np.float64).T + one.arrays["bias"]
    return activated(one.attributes["activation"], found[:, :, None, None])


def _average(one: Operation, inputs: list[Values]) -> Values:
    sums = _windows(one, inputs[0], 0.0).sum((4, 5))
    inside = _windows(one, np.ones_like(inputs[0]), float(one.attributes["count_padding"])).sum((4, 5))
    return sums / inside


def _softmax(one: Operation, inputs: list[Values]) -> Values:
    powers = np.exp(inputs[0] - inputs[0].max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _affine(one: Operation, inputs: list[Values]) -> Values:
    scale, shift = (one.arrays[key].astype(np.float64).reshape(-1, 1, 1) for key in ("scale", "shift"))
    return inputs[0] * scale + shift


def _resized(one: Operation, inputs: list[Values]) -> Values:
    height, width = one.attributes["factor"]
    return inputs[0].repeat(height, axis=2).repeat(width, axis=3)


_RUN: dict[str, Callable[[Operation, list[Values]], Values]] = {
    "conv": _conv,
    "linear": _linear,
    "max_pool": lambda one, inputs: _windows(one, inputs[0], -np.inf).max((4, 5)),
    "average_pool": _average,
    "global_average": lambda one, inputs: inputs[0].mean((2, 3), keepdims=True),
    "activate": lambda one, inputs: activated(one.attributes["activation"], inputs[0]),
    "add": lambda one, inputs: inputs[0] + inputs[1],
    "mul": lambda one, inputs: inputs[0] * inputs[1],
    "affine": _affine,
    "concat": lambda one, inputs: np.concatenate(inputs, axis=1),
    "select": lambda one, inputs: inputs[0][:, one.arrays["channels"]],
    "pad": lambda one, inputs: _padded(inputs[0], one.attributes["padding"], one.attributes["value"]),
    "resize": _resized,
    "flatten": lambda one, inputs: inputs[0].reshape(len(inputs[0]), -1, 1, 1),
    "softmax": _softmax,
}
