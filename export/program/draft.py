"""A program that is being written down: tensors, operations, and views brought into tensors of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.program.format import Array, Operation, Shape, floats
from export.program.view import NOTHING, View, whole
from export.program.windows import ONE, Matrix, Sliding, repeats, sliding, together
from runtimes.errors import UserError

ELSEWHERE = "measure this network with another runtime, or change that part of it and export it again"

_MOST_INPUTS, _MOST_FLOATS = 64, 2**31


def refused(label: str, why: str, hint: str = ELSEWHERE) -> UserError:
    """The error for a node that cannot become part of a program; `label`: operator and name of the node."""
    return UserError(f"sparse_cpu cannot run {label}: {why}", hint)


@dataclass
class Draft:
    """Tensors by index, and operations in order; arrays are of any float type and weights dense until the end."""

    tensors: list[Shape] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)
    label: str = ""  # of the node at hand, for messages
    name: str = ""
    _made: dict[Any, int] = field(default_factory=dict)

    def tensor(self, shape: Shape) -> int:
        """A new tensor."""
        self.tensors.append(shape)
        return len(self.tensors) - 1

    def emit(self, op: str, inputs: Sequence[int], shape: Shape, **attributes: Any) -> int:
        """Append an operation on `inputs` and return the tensor of `shape` that it writes.

        Arguments that are numpy arrays become the operation's arrays.
        """
        if min(shape) < 1 or floats(shape) >= _MOST_FLOATS:
            raise refused(self.label, f"its result would have the shape {shape}")
        output = self.tensor(shape)
        arrays = {key: value for key, value in attributes.items() if isinstance(value, np.ndarray)}
        others = {key: value for key, value in attributes.items() if key not in arrays}
        self.operations.append(Operation(op, self.name, tuple(inputs), output, others, arrays))
        return output

    def refuse(self, why: str, hint: str = ELSEWHERE) -> UserError:
        """The error for the node at hand."""
        return refused(self.label, why, hint)

    def brought(self, view: View) -> int:
        """A tensor (channels, height, width) that holds exactly the view, its leading axes as one.

        :raises UserError: a reduction of pixels that no operation computes.
        """
        with self._named(view):
            return self._brought(view)

    def _brought(self, view: View) -> int:
        spread = self._spread(view)
        if spread is not None:
            return spread
        tensor = self._selected(view)
        if view.rows is None and view.columns is None:
            return tensor
        shape = self.tensors[tensor]
        key = (tensor, *(None if one is None else one.tobytes() for one in (view.rows, view.columns)))
        if key not in self._made:
            given = (view.rows, view.columns)
            rows, columns = (np.eye(s) if m is None else m for s, m in zip(shape[1:], given, strict=True))
            self._made[key] = self._windowed(tensor, rows, columns)
        return self._made[key]

    def image(self, view: View) -> int:
        """The tensor of a view that must be (channels, height, width)."""
        if not view.is_image:
            raise self.refuse(f"it reads a value of shape {('N', *view.shape)} that is no image")
        return self.brought(view)

    def vector(self, view: View) -> int:
        """The tensor (n, 1, 1) of a view that must be a vector, whatever its axes are."""
        if view.pixels != 1 and not (view.channels.size == 1 and view.tail != view.grid):
            raise self.refuse(f"it reads a value of shape {('N', *view.shape)} that is no vector")
        return self.flat(view)

    def flat(self, view: View) -> int:
        """All of a view as one vector (n, 1, 1), in C order."""
        with self._named(view):
            return self._flat(view)

    def _flat(self, view: View) -> int:
        if view.rows is not None or view.columns is not None:
            rows = np.eye(view.grid[0]) if view.rows is None else view.rows
            columns = np.eye(view.grid[1]) if view.columns is None else view.columns
            if any(sliding(one) is None and repeats(one) is None for one in (rows, columns)):
                return self._all_windows(self._selected(view), rows, columns)
        tensor = self.brought(view)
        channels, height, width = self.tensors[tensor]
        if (height, width) == (1, 1):
            return tensor
        key = (tensor, "flat")
        if key not in self._made:
            self._made[key] = self.emit("flatten", [tensor], (channels * height * width, 1, 1))
        return self._made[key]

    def like(self, view: View, tensor: int) -> View:
        """A view of `tensor`, what an operation made of each element of `view`, in the shape that `view` has."""
        channels = np.arange(view.channels.size).reshape(view.channels.shape)
        return replace(view, tensor=tensor, channels=channels, rows=None, columns=None)

    def seen(self, tensor: int) -> View:
        """A tensor as the image that it is."""
        return whole(tensor, self.tensors[tensor])

    def concatenated(self, tensors: Sequence[int]) -> int:
        """Tensors one after the other along their channels; more than an operation takes in several steps."""
        parts = list(tensors)
        while len(parts) > 1:
            groups = [parts[at : at + _MOST_INPUTS] for at in range(0, len(parts), _MOST_INPUTS)]
            parts = [group[0] if len(group) == 1 else self._concatenated(group) for group in groups]
        return parts[0]

    @contextlib.contextmanager
    def _named(self, view: View) -> Iterator[None]:
        """Name operations after the node that gives the view, not after the one that reads it."""
        before, self.name = self.name, view.name or self.name
        try:
            yield
        finally:
            self.name = before

    def _concatenated(self, tensors: Sequence[int]) -> int:
        shapes = [self.tensors[at] for at in tensors]
        return self.emit("concat", tensors, (sum(shape[0] for shape in shapes), *shapes[0][1:]))

    def _selected(self, view: View) -> int:
        shape, wanted = self.tensors[view.tensor], view.channels.ravel()
        if np.array_equal(wanted, np.arange(shape[0])):
            return view.tensor
        key = (view.tensor, wanted.tobytes())
        if key not in self._made and bool(np.any(wanted == NOTHING)):
            self._made[key] = self._scattered(view.tensor, wanted, ONE, ONE, (shape[1], shape[2]))
        if key not in self._made:
            channels = wanted.astype(np.int32)
            self._made[key] = self.emit("select", [view.tensor], (wanted.size, *shape[1:]), channels=channels)
        return self._made[key]

    def _spread(self, view: View) -> int | None:
        """Channels among channels of zeros together with a sliding of windows: a convolution of few weights.

        So is the shortcut of ResNets for CIFAR. None where the view is anything else.
        """
        wanted, (_, height, width) = view.channels.ravel(), self.tensors[view.tensor]
        if not np.any(wanted == NOTHING):
            return None
        rows = sliding(np.eye(height) if view.rows is None else view.rows)
        columns = sliding(np.eye(width) if view.columns is None else view.columns)
        if rows is None or columns is None:
            return None
        slid = (rows.weights.tobytes(), rows.stride, columns.weights.tobytes(), columns.stride)
        key = (view.tensor, wanted.tobytes(), *slid)
        if key not in self._made:
            self._made[key] = self._scattered(view.tensor, wanted, rows, columns, view.grid)
        return self._made[key]

    def _scattered(
        self, tensor: int, wanted: NDArray[np.int64], rows: Sliding, columns: Sliding, grid: tuple[int, int]
    ) -> int:
        kept = np.flatnonzero(wanted != NOTHING)
        window = np.outer(rows.weights, columns.weights).ravel()
        weight = np.zeros((wanted.size, self.tensors[tensor][0], window.size))
        weight[kept, wanted[kept]] = window
        kernel = [len(rows.weights), len(columns.weights)]
        stride = [rows.stride, columns.stride]
        return self._convolved(
            tensor, weight.reshape(wanted.size, -1), (wanted.size, *grid), 1, kernel=kernel, stride=stride
        )

    def _windowed(self, tensor: int, rows: Matrix, columns: Matrix) -> int:
        """Apply the two matrices by whatever operation computes them, both at once where one can."""
        channels, height, width = self.tensors[tensor]
        if len(rows) == 1 and len(columns) == 1 and _is_mean(rows) and _is_mean(columns):
            return tensor if height * width == 1 else self.emit("global_average", [tensor], (channels, 1, 1))
        factors = (repeats(rows), repeats(columns))
        if factors[0] is not None and factors[1] is not None:
            shape = (channels, len(rows), len(columns))
            return tensor if factors == (1, 1) else self.emit("resize", [tensor], shape, factor=list(factors))
        slid = (sliding(rows), sliding(columns))
        if slid[0] is not None and slid[1] is not None:
            return self._slid(tensor, slid[0], slid[1], (channels, len(rows), len(columns)))
        if all(f is not None or s is not None for f, s in zip(factors, slid, strict=True)):
            return self._windowed(self._windowed(tensor, rows, np.eye(width)), np.eye(len(rows)), columns)
        if len(rows) * len(columns) == 1:
            return self._all_windows(tensor, rows, columns)
        size = f"{height} x {width} pixels to {len(rows)} x {len(columns)}"
        raise self.refuse(
            f"before it, {size} are averaged in windows of different sizes",
            "that is done only where the answer is flattened: let the pool's size divide the image's",
        )

    def _slid(self, tensor: int, rows: Sliding, columns: Sliding, shape: Shape) -> int:
        kernel, stride = [len(rows.weights), len(columns.weights)], [rows.stride, columns.stride]
        if rows.is_mean and columns.is_mean:
            plain = {"stride": stride, "padding": [0, 0, 0, 0], "dilation": [1, 1], "count_padding": False}
            return self.emit("average_pool", [tensor], shape, kernel=kernel, **plain)
        window = np.outer(rows.weights, columns.weights).reshape(1, -1)
        weight = np.repeat(window, shape[0], axis=0)
        return self._convolved(tensor, weight, shape, shape[0], kernel=kernel, stride=stride)

    def _all_windows(self, tensor: int, rows: Matrix, columns: Matrix) -> int:
        """Each window as an output channel of its own: (channels * windows, 1, 1), in C order."""
        channels, height, width = self.tensors[tensor]
        windows = together(rows, columns)
        weight = np.tile(windows, (channels, 1))
        shape = (channels * len(windows), 1, 1)
        return self._convolved(tensor, weight, shape, channels, kernel=[height, width], stride=[1, 1])

    def _convolved(self, tensor: int, weight: Array, shape: Shape, groups: int, **window: list[int]) -> int:
        plain = {"padding": [0, 0, 0, 0], "dilation": [1, 1], "groups": groups, "add": None, "activation": None}
        if groups == 1 and weight.shape[1] == self.tensors[tensor][0] and self.tensors[tensor][1:] == (1, 1):
            return self.emit("linear", [tensor], shape, activation=None, weight=weight, bias=np.zeros(shape[0]))
        return self.emit("conv", [tensor], shape, **window, **plain, weight=weight, bias=np.zeros(shape[0]))


def _is_mean(matrix: Matrix) -> bool:
    return bool(np.allclose(matrix, 1 / matrix.shape[1], rtol=0, atol=1e-6))
