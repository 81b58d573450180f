"""Operators that treat each number on its own: activations, and arithmetic with constants or between two values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import TensorProto

from export.program.format import Array
from export.program.layers import affine
from export.program.site import Result, Site, per_channel
from export.program.view import View


def activation(kind: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    """An activation as a program has it; infinite limits are None."""
    if kind not in ("clip", "hard_sigmoid"):
        return {"kind": kind}
    finite = [None if one is None or np.isinf(one) else float(one) for one in (low, high)]
    return {"kind": kind, "low": finite[0], "high": finite[1]}


def _activate(site: Site, kind: str, low: float | None = None, high: float | None = None) -> View:
    view = site.view()
    x = site.draft.brought(view)
    shape = site.draft.tensors[x]
    return site.draft.like(view, site.draft.emit("activate", [x], shape, activation=activation(kind, low, high)))


def clip(site: Site) -> View:
    """Clip between two constants, either of which may be absent."""
    return _between(site, site.number(1, "min", -np.inf), site.number(2, "max", np.inf))


def _between(site: Site, low: float, high: float) -> View:
    if np.isnan(low) or np.isnan(high) or low == np.inf or high == -np.inf or low > high:
        raise site.refuse(f"it clips between {low} and {high}")
    if low == -np.inf and high == np.inf:
        return site.view()
    return _activate(site, "clip", low, high)


def hard_sigmoid(site: Site) -> View:
    """HardSigmoid: clip(alpha x + beta, 0, 1)."""
    alpha, beta = (float(site.attributes.get(*held)) for held in (("alpha", 0.2), ("beta", 0.5)))
    if not np.isfinite([alpha, beta]).all():
        raise site.refuse(f"its alpha is {alpha} and its beta {beta}")
    return _activate(site, "hard_sigmoid", alpha, beta)


def swish(site: Site) -> View:
    """Swish, x sigmoid(alpha x), with alpha 1."""
    if float(site.attributes.get("alpha", 1.0)) != 1:
        raise site.refuse("its alpha is not 1")
    return _activate(site, "silu")


def softmax(site: Site) -> View:
    """Softmax over the channels of a vector."""
    view = site.view()
    axis = site.axis(int(site.attributes.get("axis", -1 if site.opset >= 13 else 1)))
    over_all = view.shape[axis] == view.channels.size if site.opset >= 13 else axis == 0
    if view.pixels != 1 or not over_all:
        raise site.refuse(f"it is not over all entries of a vector but along a value of shape {('N', *view.shape)}")
    x = site.draft.brought(view)
    return site.draft.like(view, site.draft.emit("softmax", [x], site.draft.tensors[x]))


def cast(site: Site) -> View:
    """Cast from float32 to float32."""
    if int(site.attributes.get("to", 0)) != TensorProto.FLOAT:
        raise site.refuse("it leaves float32")
    return site.view()


def limit(site: Site) -> View:
    """Max or Min of a value and one constant number."""
    if len(site.inputs) == 1:
        return site.view()
    one, other = _operands(site)
    if isinstance(one, View) and isinstance(other, View):
        raise site.refuse("it compares two computed values")
    at = 1 if isinstance(one, View) else 0
    flipped = _first(site, at == 0)
    number = flipped.number(1, "-", 0.0)
    return _between(flipped, number, np.inf) if site.op == "Max" else _between(flipped, -np.inf, number)


def add(site: Site) -> View:
    """Add of a constant or of another value."""
    one, other = _operands(site)
    if isinstance(one, View) and isinstance(other, View):
        return _two(site, "add", one, other)
    view, constant = (one, other) if isinstance(one, View) else (other, one)
    return _affine(site, view, 1.0, constant)


def subtract(site: Site) -> View:
    """Sub: the second value, if it is computed, is negated first."""
    one, other = _operands(site)
    if isinstance(other, View):
        negative = _affine(site, other, -1.0, 0.0)
        return _two(site, "add", one, negative) if isinstance(one, View) else _affine(site, negative, 1.0, one)
    return _affine(site, one, 1.0, -other)


def multiply(site: Site) -> View:
    """Mul by a constant or another value."""
    one, other = _operands(site)
    if isinstance(one, View) and isinstance(other, View):
        return _two(site, "mul", one, other)
    view, constant = (one, other) if isinstance(one, View) else (other, one)
    return _affine(site, view, constant, 0.0)


def divide(site: Site) -> View:
    """Div by a constant."""
    one, other = _operands(site)
    if isinstance(other, View) or not isinstance(one, View):
        raise site.refuse("it divides by a computed value")
    if not np.all(other != 0):
        raise site.refuse("it divides by a constant that is 0")
    return _affine(site, one, 1.0 / other.astype(np.float64), 0.0)


def negate(site: Site) -> View:
    """Neg."""
    return _affine(site, site.view(), -1.0, 0.0)


def _operands(site: Site) -> tuple[View | Array, View | Array]:
    if len(site.inputs) != 2 or any(one is None for one in site.inputs):
        raise site.refuse(f"it has {len(site.inputs)} inputs, and 2 are expected")
    one, other = site.inputs
    if not isinstance(one, View) and not isinstance(other, View):
        raise site.refuse("both its inputs are constants")
    return one, other  # type: ignore[return-value]  # None was refused


def _first(site: Site, turned: bool) -> Site:
    """The same node with its computed input first."""
    inputs = list(site.inputs)[::-1] if turned else list(site.inputs)
    return Site(site.op, site.draft, inputs, site.attributes, site.outputs, site.opset, site.batch)


def _affine(site: Site, view: View | Array, scale: View | Array | float, shift: View | Array | float) -> View:
    if not isinstance(view, View) or isinstance(scale, View) or isinstance(shift, View):
        raise site.refuse("both its inputs are constants, or neither is")
    scales, shifts = (per_channel(site, view, np.asarray(one, np.float64)) for one in (scale, shift))
    return affine(site, view, scales, shifts)


def _two(site: Site, op: str, one: View, other: View) -> View:
    """Two values of one shape, or one of them with a single pixel for each channel."""
    if one.shape != other.shape and set(one.tail) <= {1}:
        one, other = other, one
    fits = one.shape == other.shape and one.grid == other.grid
    broadcast = (
        one.channels.shape == other.channels.shape and set(other.tail) == {1} and len(other.tail) == len(one.tail)
    )
    if not fits and not broadcast:
        raise site.refuse(f"values of shapes {('N', *one.shape)} and {('N', *other.shape)} do not go together")
    inputs = [site.draft.brought(view) for view in (one, other)]
    return site.draft.like(one, site.draft.emit(op, inputs, site.draft.tensors[inputs[0]]))


ELEMENTWISE: dict[str, Callable[[Site], Result]] = {
    "Relu": lambda site: _between(site, 0.0, np.inf),
    "Clip": clip,
    "HardSwish": lambda site: _activate(site, "hard_swish"),
    "HardSigmoid": hard_sigmoid,
    "Sigmoid": lambda site: _activate(site, "sigmoid"),
    "Swish": swish,
    "Softmax": softmax,
    "Cast": cast,
    "Max": limit,
    "Min": limit,
    "Add": add,
    "Sub": subtract,
    "Mul": multiply,
    "Div": divide,
    "Neg": negate,
}
"""The operators of this file."""
