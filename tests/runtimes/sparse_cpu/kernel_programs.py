"""Made-up programs: a builder for them, and a program together with what the numpy reference makes of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from program_reference import program_of, run_program

from export.program.format import Operation, Program
from export.program.weights import stored


@dataclass(frozen=True)
class Case:
    """A program and how many images it is given."""

    name: str
    program: Program
    images: int = 1

    @cached_property
    def given(self):
        shape = self.program.tensors[self.program.input].shape
        return np.random.default_rng(len(self.name)).standard_normal((self.images, *shape)).astype(np.float32)

    @cached_property
    def expected(self):
        return run_program(self.program, self.given)


class Builder:
    """Tensors and operations as they are added; each method gives the number of the tensor that it writes."""

    def __init__(self, shape, seed=0):
        self.shapes, self.operations = [tuple(shape)], []
        self.rng = np.random.default_rng(seed)

    def case(self, name, images=1, output=None):
        last = len(self.shapes) - 1 if output is None else output
        return Case(name, program_of(self.operations, self.shapes, 0, last), images)

    def add(self, op, shape, *inputs, arrays=None, **attributes):
        """An operation on the tensors `inputs`, the last one where none is given."""
        inputs = inputs or (len(self.shapes) - 1,)
        self.shapes.append(tuple(int(size) for size in shape))
        name = f"{op} {len(self.operations)}"
        self.operations.append(Operation(op, name, inputs, len(self.shapes) - 1, attributes, arrays or {}))
        return len(self.shapes) - 1

    def weights(self, rows, columns, sparsity):
        """Weights of which exactly that share is zero, in the form that the exporter would choose.

        Their size keeps that of the activations: what grows from layer to layer would hide errors made early.
        """
        size = 1 / np.sqrt(max(1, (1 - sparsity) * columns))
        values = self.rng.uniform(0.5, 1.5, rows * columns) * self.rng.choice([-size, size], rows * columns)
        values[self.rng.permutation(rows * columns)[: round(sparsity * rows * columns)]] = 0
        bias = self.rng.standard_normal(rows).astype(np.float32)
        return {**stored(values.reshape(rows, columns).astype(np.float32)), "bias": bias}

    def conv(
        self, out, kernel=3, stride=1, padding=None, dilation=1, groups=1, sparsity=0.5, plus=None, act=None, at=None
    ):
        """`padding`: None keeps the size at stride 1; single numbers stand for both directions."""
        at = len(self.shapes) - 1 if at is None else at
        kernel, stride, dilation = pair(kernel), pair(stride), pair(dilation)
        reach = [(size - 1) * step for size, step in zip(kernel, dilation, strict=True)]
        if padding is None:
            padding = [reach[0] // 2, reach[1] // 2, reach[0] - reach[0] // 2, reach[1] - reach[1] // 2]
        channels = self.shapes[at][0]
        shape = (out, *slid(self.shapes[at], reach, stride, padding))
        arrays = self.weights(out, channels // groups * kernel[0] * kernel[1], sparsity)
        attributes = {"kernel": kernel, "stride": stride, "padding": list(padding), "dilation": dilation}
        return self.add("conv", shape, at, arrays=arrays, groups=groups, add=plus, activation=act, **attributes)

    def pool(self, op, kernel, stride, padding=(0, 0, 0, 0), **more):
        at = len(self.shapes) - 1
        kernel, stride = pair(kernel), pair(stride)
        size = slid(self.shapes[at], [kernel[0] - 1, kernel[1] - 1], stride, padding)
        attributes = {"kernel": kernel, "stride": stride, "padding": list(padding), "dilation": [1, 1], **more}
        return self.add(op, (self.shapes[at][0], *size), at, **attributes)

    def linear(self, out, sparsity=0.5, act=None):
        arrays = self.weights(out, self.shapes[-1][0], sparsity)
        return self.add("linear", (out, 1, 1), arrays=arrays, activation=act)


def pair(value):
    return [value, value] if isinstance(value, int) else list(value)


def slid(shape, reach, stride, padding):
    """Height and width after a window has slid over `shape`."""
    height = shape[1] + padding[0] + padding[2] - reach[0] - 1
    width = shape[2] + padding[1] + padding[3] - reach[1] - 1
    return height // stride[0] + 1, width // stride[1] + 1
