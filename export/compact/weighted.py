"""Convolutions and linear layers: where channels are mixed, constants are folded in, and dead ones end."""

from __future__ import annotations

from functools import cached_property, reduce
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto

from export import graph as graphs
from export.compact.operators import Known, Link, Masks, Operator
from export.compact.values import Constants, Indices, Mask, Network, Numbers, attributes

Scalar = TypeVar("Scalar", bound=np.generic)


class Weighted(Operator):
    """A convolution or product with a constant weight. In one with groups, the channels of a group are linked."""

    @property
    def weight(self) -> NDArray[Any]:
        """(out, in / groups, *kernel), as a view."""
        value = self.network.weights[self.node.input[1]]
        return value.T if self._turned else value

    @property
    def bias(self) -> NDArray[Any]:
        """(out,), zeros where there is none."""
        name = self.node.input[2] if len(self.node.input) > 2 else ""
        held = self.network.weights[name].reshape(-1) if name else np.zeros(1, self.weight.dtype)
        return np.broadcast_to(held, (len(self.weight),))

    @cached_property
    def groups(self) -> int:
        """Groups of channels, 1 for all but grouped convolutions."""
        return int(graphs.attribute(self.node, "group", 1))

    def fold(self, known: Known) -> None:
        """Move what constant inputs add into the bias; the weights that did it become 0.

        A weight that reads the zero padding at some position adds less there: it stays, unless the constant is 0.
        The sums are made in float64. A row whose bias would not be finite keeps it.
        """
        source = known.get(self.node.input[0])
        if source is None or not source.known.any():
            return
        columns = np.flatnonzero(source.known.reshape(self.groups, -1).any(axis=0))  # within a group
        given, numbers = self._by_row(source.known, columns), self._by_row(source.numbers, columns)
        part: Numbers = self.weight[:, columns].astype(np.float64)
        wide = (..., *[None] * (part.ndim - 2))
        moved = given[wide] & (self._inside | (numbers == 0)[wide]) & np.isfinite(part) & (part != 0)
        added = np.where(moved, part * numbers[wide], 0).reshape(len(part), -1).sum(axis=1)
        with np.errstate(over="ignore"):
            bias = (self.bias + added).astype(self.weight.dtype)
        moved &= (np.isfinite(bias)[:, None] | (numbers == 0))[wide]
        if moved.any():
            weight = self.weight.copy()
            weight[:, columns] = np.where(moved, 0, weight[:, columns])
            self._give(weight, np.where(np.isfinite(bias), bias, self.bias) if added.any() else None)

    def constants(self, known: Known) -> dict[str, Constants]:
        """An output without any weight is its bias."""
        bare = ~self.weight.reshape(len(self.weight), -1).any(axis=1)
        fine = bare & np.isfinite(self.bias)
        return {self.node.output[0]: Constants(fine, np.where(fine, self.bias, 0).astype(np.float64))}

    def alive(self, known: Known, alive: Masks) -> dict[str, Mask]:
        """An input is read where an output that is read has a weight for it."""
        held = self.weight != 0 if self.weight.ndim == 2 else self.weight.any(axis=tuple(range(2, self.weight.ndim)))
        held = held & alive[self.node.output[0]][:, None]
        return {self.node.input[0]: held.reshape(self.groups, -1, held.shape[1]).any(axis=1).reshape(-1)}

    def cut(self, keep: Masks, alive: Masks) -> None:
        """Cut rows and columns; a row that stays although nobody reads it becomes 0."""
        rows, columns, read = keep[self.node.output[0]], keep[self.node.input[0]], alive[self.node.output[0]]
        idle = ~read & self.weight.reshape(len(self.weight), -1).any(axis=1)
        if rows.all() and columns.all() and not idle.any():
            return
        weight, bias = self.weight.copy(), self.bias
        weight[idle] = 0
        weight = weight[rows]
        if self.groups == 1:
            weight = weight[:, columns]
        else:
            left = int(columns.reshape(self.groups, -1)[:, 0].sum())
            next(held for held in self.node.attribute if held.name == "group").i = left
        self._give(weight, bias[rows] if len(self.node.input) > 2 and self.node.input[2] else None)

    def shift(self, numbers: Numbers) -> None:
        """Add `numbers`, (out,), to the bias."""
        self._give(self.weight, (self.bias + numbers).astype(self.weight.dtype))

    def _by_row(self, held: NDArray[Scalar], columns: Indices) -> NDArray[Scalar]:
        """What is `held` for each input, as every output has it for the `columns` of its group: (out, columns)."""
        return np.repeat(held.reshape(self.groups, -1)[:, columns], len(self.weight) // self.groups, axis=0)

    def _give(self, weight: NDArray[Any], bias: NDArray[Any] | None) -> None:
        name, alone = self.node.input[1], f"{self.node.output[0]}.weight"
        stored = weight.T if self._turned else weight
        self.network.give(self.node, 1, np.ascontiguousarray(stored), f"{name}.compact" if name else alone)
        if bias is None:
            return
        if self.node.op_type == "MatMul":  # of two axes, so that the two are the same
            self.node.op_type = "Gemm"
        self.network.give(self.node, 2, np.ascontiguousarray(bias), f"{graphs.layer_name(name)}.bias")

    @property
    def _turned(self) -> bool:
        return self.node.op_type != "Conv" and not graphs.attribute(self.node, "transB", 0)

    @cached_property
    def _inside(self) -> Mask:
        """The positions of the kernel, (*kernel), that never lie on the padding."""
        taps = self.weight.shape[2:]
        if not taps:
            return np.ones((), np.bool_)
        return reduce(np.multiply.outer, [self._inside_of(axis, size) for axis, size in enumerate(taps)])

    def _inside_of(self, axis: int, size: int) -> Mask:
        held, spatial = attributes(self.node), self.weight.ndim - 2
        pads = held.get("pads", [0] * (2 * spatial))
        automatic = held.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID", b"")
        if automatic or (not pads[axis] and not pads[axis + spatial]):
            return np.full(size, not automatic)
        reads = self.network.shapes[self.node.input[0]][axis + 2]
        gives = self.network.shapes[self.node.output[0]][axis + 2]
        if reads is None or gives is None:
            return np.zeros(size, np.bool_)
        first = np.arange(size) * held.get("dilations", [1] * spatial)[axis] - pads[axis]
        last = first + (gives - 1) * held.get("strides", [1] * spatial)[axis]
        return np.asarray((first >= 0) & (last < reads))


def convolution(network: Network, node: NodeProto) -> Operator | None:
    """A Conv with a constant weight and bias."""
    weight = network.weight(node, 1)
    biased = len(node.input) > 2 and bool(node.input[2])
    sizes = network.channels(node.input[0]), network.channels(node.output[0])
    if weight is None or None in sizes or (biased and network.weight(node, 2) is None):
        return None
    groups = int(graphs.attribute(node, "group", 1))
    return Weighted(network, node, [] if groups == 1 else _within(node, groups, sizes[0] or 0, sizes[1] or 0), False)


def product(network: Network, node: NodeProto) -> Operator | None:
    """A Gemm or MatMul of (batch, channels) with a constant matrix on the right."""
    weight = network.weight(node, 1)
    fit = all(len(network.shapes.get(name, ())) == 2 for name in (node.input[0], node.output[0]))
    scaled = any(graphs.attribute(node, name, 1.0) != 1.0 for name in ("alpha", "beta"))
    if weight is None or weight.ndim != 2 or not fit or scaled or graphs.attribute(node, "transA", 0):
        return None
    if network.channels(node.input[0]) is None or network.channels(node.output[0]) is None:
        return None
    if len(node.input) > 2 and node.input[2]:
        bias = network.weight(node, 2)
        if bias is None or bias.size not in (1, network.channels(node.output[0])) or bias.shape[:-1] not in ((), (1,)):
            return None
    return Weighted(network, node, [])


def _within(node: NodeProto, groups: int, reads: int, gives: int) -> list[Link]:
    """Every channel that a group reads, linked to every channel that it gives."""
    here = np.arange(reads).reshape(groups, -1, 1)
    there = np.arange(gives).reshape(groups, 1, -1)
    pairs = np.broadcast_arrays(here, there)
    return [Link(node.input[0], node.output[0], pairs[0].reshape(-1), pairs[1].reshape(-1))]
