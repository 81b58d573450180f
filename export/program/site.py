"""One ONNX node where it stands: what it reads, as views and constants, and its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from export.program.draft import Draft
from export.program.format import Array
from export.program.view import View
from runtimes.errors import UserError

Result = View | list[View]


@dataclass(frozen=True)
class Site:
    """A node; axes in here do not count the batch, the first axis is the channels'."""

    op: str
    draft: Draft
    inputs: Sequence[View | Array | None]
    attributes: dict[str, Any]
    outputs: int
    opset: int
    batch: int

    def refuse(self, why: str) -> UserError:
        """The error for this node."""
        return self.draft.refuse(why)

    def view(self, position: int = 0) -> View:
        """The input at `position`, which must be computed from the image."""
        held = self.inputs[position] if position < len(self.inputs) else None
        if not isinstance(held, View):
            raise self.refuse(f"its input {position} is a constant or missing")
        return held

    def constant(self, position: int) -> Array | None:
        """The input at `position`, which must be a constant or absent."""
        held = self.inputs[position] if position < len(self.inputs) else None
        if isinstance(held, View):
            raise self.refuse(f"its input {position} is not a constant but computed from the image")
        return held

    def needed(self, position: int) -> Array:
        """The input at `position`, which must be a constant."""
        held = self.constant(position)
        if held is None:
            raise self.refuse(f"its input {position} is missing")
        return held

    def number(self, position: int, name: str, default: float) -> float:
        """One number: a constant input, or the attribute that older opsets have for it."""
        held = self.constant(position)
        if held is not None and held.size != 1:
            raise self.refuse(f"its input {position} is not one number")
        return float(self.attributes.get(name, default) if held is None else held.reshape(()))

    def integers(self, position: int, name: str) -> list[int] | None:
        """Whole numbers: a constant input, or the attribute that older opsets have for them; None where absent."""
        held = self.constant(position) if position < len(self.inputs) else None
        found = self.attributes.get(name) if held is None else held.ravel()
        return None if found is None else [int(one) for one in found]

    def axis(self, axis: int, view: View | None = None) -> int:
        """An axis as ONNX counts it, as one of the view's; the batch's is refused."""
        rank = len((view or self.view()).shape) + 1
        if not -rank <= axis < rank:
            raise self.refuse(f"it has no axis {axis}")
        if axis % rank == 0:
            raise self.refuse("it works along the batch, and a program knows one image at a time")
        return axis % rank - 1

    def image(self, position: int = 0) -> int:
        """The tensor of an input that must be an image."""
        return self.draft.image(self.view(position))

    def known(self, view: View | None) -> View:
        """A view that has to be there; `view.py` has None for what no view can say."""
        if view is None:
            raise self.refuse(f"it moves pixels of a value of shape {('N', *self.view().shape)}")
        return view

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        held = self.attributes.get(name, default)
        return held.decode() if isinstance(held, bytes) else str(held)


def per_channel(site: Site, view: View, constant: Array) -> Array:
    """A constant that is broadcast over `view`, as one float64 for each channel of the view.

    :raises UserError: it differs from pixel to pixel, or does not fit.
    """
    shape = (1, *view.shape)
    try:
        full = np.broadcast_to(constant.astype(np.float64), np.broadcast_shapes(constant.shape, shape))
    except ValueError:
        raise site.refuse(f"a constant of shape {constant.shape} does not fit a value of shape {shape}") from None
    if full.shape != shape:
        raise site.refuse(f"a constant of shape {constant.shape} makes a value of shape {shape} larger")
    flat = full.reshape(view.channels.size, -1)
    if not np.array_equal(flat, np.broadcast_to(flat[:, :1], flat.shape), equal_nan=True):
        raise site.refuse(f"its constant of shape {constant.shape} differs from pixel to pixel")
    return np.array(flat[:, 0])
