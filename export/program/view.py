"""What a value of the ONNX graph is of a program's tensor: which channels, in which order, in which shape.

Reshape, Transpose, Slice, Split, Squeeze and the like compute nothing. They are followed here as a view of the tensor,
and become operations only where something must read the result: a channel shuffle is one `select`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from export.program.windows import Matrix

NOTHING = -1
"""In place of a channel: zeros."""


@dataclass(frozen=True, eq=False)
class View:
    """A value without its batch axis, of shape `channels.shape + tail`.

    `channels` has the tensor's channel for each leading index, or `NOTHING` for zeros. `rows` and `columns` are applied
    to the height and width of the tensor, where they are not None; `tail` is how the pixels that this gives are laid
    out, in C order.
    """

    tensor: int
    channels: NDArray[np.int64]
    grid: tuple[int, int]  # height and width, after rows and columns
    tail: tuple[int, ...]
    rows: Matrix | None = None
    columns: Matrix | None = None
    name: str = ""  # of the node that gives it

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape in ONNX, without the batch."""
        return (*self.channels.shape, *self.tail)

    @property
    def pixels(self) -> int:
        """Pixels of each channel."""
        return self.grid[0] * self.grid[1]

    @property
    def is_image(self) -> bool:
        """Whether it is (channels, height, width)."""
        return self.channels.ndim == 1 and self.tail == self.grid

    @property
    def is_vector(self) -> bool:
        """Whether it is (n,)."""
        return self.channels.ndim == 1 and not self.tail


def whole(tensor: int, shape: tuple[int, int, int]) -> View:
    """A tensor as the image that it is."""
    return View(tensor, np.arange(shape[0]), (shape[1], shape[2]), (shape[1], shape[2]))


def reshaped(view: View, shape: Sequence[int]) -> View | None:
    """The view in another shape of as many elements; None where that mixes channels with pixels."""
    channels = view.channels.size
    for split in range(1, len(shape) + 1):
        if prod(shape[:split]) == channels and prod(shape[split:]) == view.pixels:
            return replace(view, channels=view.channels.reshape(shape[:split]), tail=tuple(shape[split:]))
    return None


def transposed(view: View, order: Sequence[int]) -> View | None:
    """The view with its axes in `order`; None where pixels move."""
    leading = view.channels.ndim
    if view.pixels == 1:
        turned = view.channels.reshape(view.shape).transpose(order)
        return reshaped(replace(view, channels=turned, tail=()), turned.shape)
    if list(order[leading:]) != list(range(leading, len(view.shape))):
        return None
    return replace(view, channels=view.channels.transpose(order[:leading]))


def taken(view: View, axis: int, indices: Sequence[int]) -> View | None:
    """The entries `indices` along an axis; None where the pixels are no longer laid out as an image."""
    if axis < view.channels.ndim:
        return replace(view, channels=np.take(view.channels, indices, axis=axis))
    return applied(view, axis, np.eye(view.shape[axis])[list(indices)])


def applied(view: View, axis: int, matrix: Matrix) -> View | None:
    """The view with `matrix` applied along the height or the width; None where `axis` is neither."""
    at = axis - view.channels.ndim
    if at < 0 or view.tail != view.grid:
        return None
    before = (view.rows, view.columns)[at]
    product = matrix if before is None else matrix @ before
    grid = (len(matrix), view.grid[1]) if at == 0 else (view.grid[0], len(matrix))
    changed = replace(view, grid=grid, tail=grid)
    return replace(changed, rows=product) if at == 0 else replace(changed, columns=product)


def joined(views: Sequence[View], axis: int) -> View | None:
    """Views of one tensor concatenated; None where they are not of one tensor, or differ in more than `axis`."""
    first = views[0]
    if any(view.tensor != first.tensor or view.channels.ndim != first.channels.ndim for view in views):
        return None
    if axis < first.channels.ndim:
        if any(not _same_pixels(view, first) for view in views):
            return None
        return replace(first, channels=np.concatenate([view.channels for view in views], axis=axis))
    at = axis - first.channels.ndim
    if any(view.tail != view.grid or not _same_but(at, view, first) for view in views):
        return None
    parts = [(view.rows, view.columns)[at] for view in views]
    filled = [np.eye(view.grid[at]) if part is None else part for part, view in zip(parts, views, strict=True)]
    stacked = np.concatenate(filled)
    grid = (len(stacked), first.grid[1]) if at == 0 else (first.grid[0], len(stacked))
    changed = replace(first, grid=grid, tail=grid)
    return replace(changed, rows=stacked) if at == 0 else replace(changed, columns=stacked)


def _same_pixels(one: View, other: View) -> bool:
    return one.tail == other.tail and _equal(one.rows, other.rows) and _equal(one.columns, other.columns)


def _same_but(at: int, one: View, other: View) -> bool:
    """Whether two views differ in the rows (0) or the columns (1) alone."""
    alike = _equal(one.columns, other.columns) if at == 0 else _equal(one.rows, other.rows)
    return alike and one.grid[1 - at] == other.grid[1 - at] and np.array_equal(one.channels, other.channels)


def _equal(one: Matrix | None, other: Matrix | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)
