"""What one operation can do that the graph says in several: scales into weights, activations, sums, borders, gates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isclose, prod
from typing import Any

import numpy as np

from export.program.flow import Flow, apply
from export.program.format import Array, Operation

_LAYERS = ("conv", "linear")
_ROUNDING = 1e-6
"""Relative: constants such as 1/6 are written in float32."""


def fuse(flow: Flow) -> None:
    """Fuse what computes the same in fewer operations, to rounding, in place.

    Gates first: a scale that belongs to a HardSwish must not end up in the weights of a layer behind it.
    """
    apply(flow, (_chain, _scaled_clip, _scaled_gate, _gate_of_affine, _gated))
    apply(flow, (_chain, _into_layer_before, _into_layers_behind))
    apply(flow, (_border, _sum, _activation))


def _chain(flow: Flow, one: Operation) -> bool:
    """Two affine operations are one."""
    before = flow.sole_writer(one.inputs[0]) if one.op == "affine" else None
    if before is None or before.op != "affine":
        return False
    scale, shift = _numbers(one)
    first_scale, first_shift = _numbers(before)
    arrays = {"scale": scale * first_scale, "shift": scale * first_shift + shift}
    flow.put(before, replace(before, output=one.output, arrays=arrays), [one])
    return True


def _into_layer_before(flow: Flow, one: Operation) -> bool:
    """An affine operation behind a layer that does nothing else: w s, and b s + t. A zero weight stays zero."""
    layer = flow.sole_writer(one.inputs[0]) if one.op == "affine" else None
    if layer is None or not _bare(layer):
        return False
    scale, shift = _numbers(one)
    weight = layer.arrays["weight"]
    if bool(np.any(scale != 1)):  # large matrices stay as they are
        weight = np.where(weight == 0, 0.0, weight.astype(np.float64) * scale[:, None])
    arrays = {"weight": weight, "bias": layer.arrays["bias"].astype(np.float64) * scale + shift}
    flow.put(layer, replace(layer, output=one.output, arrays=arrays), [one])
    return True


def _into_layers_behind(flow: Flow, one: Operation) -> bool:
    """An affine operation before layers: w s, and b + w t. With a shift only where no border of zeros comes between."""
    readers = flow.readers(one.output) if one.op == "affine" and one.output != flow.output else []
    shifted = one.op == "affine" and bool(np.any(one.arrays["shift"] != 0))
    for layer in readers:
        bordered = shifted and any(layer.attributes.get("padding", ()))
        if layer.op not in _LAYERS or bordered or layer.attributes.get("add") == one.output:
            return False
    for layer in readers:
        flow.put(layer, _behind(flow, one, layer))
    return bool(readers)


def _behind(flow: Flow, one: Operation, layer: Operation) -> Operation:
    scale, shift = _numbers(one)
    weight = layer.arrays["weight"].astype(np.float64)
    groups = layer.attributes.get("groups", 1)
    window = prod(layer.attributes.get("kernel", (1, 1)))
    by_group = weight.reshape(groups, len(weight) // groups, -1)
    scales, shifts = (np.repeat(numbers, window).reshape(groups, 1, -1) for numbers in (scale, shift))
    scaled = np.where(by_group == 0, 0.0, by_group * scales).reshape(weight.shape)
    added = np.where(by_group == 0, 0.0, by_group * shifts).sum(axis=2).ravel()
    arrays = {"weight": scaled, "bias": layer.arrays["bias"].astype(np.float64) + added}
    return replace(layer, inputs=one.inputs, arrays=arrays)


def _activation(flow: Flow, one: Operation) -> bool:
    """An activation behind a layer, and behind the sum that a convolution ends with."""
    layer = flow.sole_writer(one.inputs[0]) if one.op == "activate" else None
    if layer is None or layer.op not in _LAYERS or layer.attributes["activation"] is not None:
        return False
    attributes = {**layer.attributes, "activation": one.attributes["activation"]}
    flow.put(layer, replace(layer, output=one.output, attributes=attributes), [one])
    return True


def _sum(flow: Flow, one: Operation) -> bool:
    """A sum of a convolution's result, which nobody else reads, and another tensor.

    Rather by a convolution that runs after the other tensor is there; else it runs later, in the place of the sum.
    """
    pairs = list(zip(one.inputs, one.inputs[::-1], strict=True)) if one.op == "add" else []
    for moved in (False, True):
        for mine, other in pairs:
            conv = flow.sole_writer(mine)
            if conv is None or conv.op != "conv" or not _bare(conv) or flow.tensors[other] != flow.tensors[mine]:
                continue
            if moved or flow.before(other, conv):
                fused = replace(conv, output=one.output, attributes={**conv.attributes, "add": other})
                flow.put(*(one, fused, [conv]) if moved else (conv, fused, [one]))
                return True
    return False


def _border(flow: Flow, one: Operation) -> bool:
    """A border of zeros before convolutions that can hold it themselves."""
    if one.op != "pad" or one.attributes["value"] != 0 or one.output == flow.output:
        return False
    readers = flow.readers(one.output)
    grown = [_padded(layer, one.attributes["padding"]) for layer in readers]
    if not readers or any(padding is None for padding in grown) or any(one.output in r.reads[1:] for r in readers):
        return False
    for layer, padding in zip(readers, grown, strict=True):
        flow.put(layer, replace(layer, inputs=one.inputs, attributes={**layer.attributes, "padding": padding}))
    return True


def _padded(layer: Operation, more: Sequence[int]) -> list[int] | None:
    """The padding with `more` on top; None where that is more than a window reaches over, or no convolution's."""
    if layer.op != "conv":
        return None
    held = layer.attributes
    reach = [(size - 1) * step for size, step in zip(held["kernel"], held["dilation"], strict=True)] * 2
    grown = [one + other for one, other in zip(held["padding"], more, strict=True)]
    return grown if all(one <= most for one, most in zip(grown, reach, strict=True)) else None


def _scaled_clip(flow: Flow, one: Operation) -> bool:
    """clip(x, 0, h) / h is clip(x / h, 0, 1)."""
    after = flow.only_reader(one.output)
    high = _gate_height(one)
    if high is None or after is None or not _divides(after, high):
        return False
    flow.put(one, replace(one, output=after.output, attributes=_hard_sigmoid(1 / high, 0.0)), [after])
    return True


def _scaled_gate(flow: Flow, one: Operation) -> bool:
    """x clip(y, 0, h) / h is x clip(y / h, 0, 1)."""
    after = flow.only_reader(one.output) if one.op == "mul" else None
    for tensor in one.inputs if after is not None else ():
        gate = flow.sole_writer(tensor)
        high = None if gate is None else _gate_height(gate)
        if gate is not None and high is not None and after is not None and _divides(after, high):
            flow.put(gate, replace(gate, attributes=_hard_sigmoid(1 / high, 0.0)))
            flow.put(one, replace(one, output=after.output), [after])
            return True
    return False


def _gate_of_affine(flow: Flow, one: Operation) -> bool:
    """clip(a (s x + t) + b, 0, 1) is clip(a s x + (a t + b), 0, 1), where s and t are the same for all channels."""
    before = flow.sole_writer(one.inputs[0]) if _kind(one) == "hard_sigmoid" else None
    held = None if before is None else _uniform(before)
    if before is None or held is None:
        return False
    alpha, beta = one.attributes["activation"]["low"], one.attributes["activation"]["high"]
    gate = replace(one, inputs=before.inputs, attributes=_hard_sigmoid(alpha * held[0], alpha * held[1] + beta))
    flow.put(one, gate, [before])
    return True


def _gated(flow: Flow, one: Operation) -> bool:
    """x clip(x / 6 + 1/2, 0, 1) is HardSwish, x sigmoid(x) is SiLU."""
    for at in (0, 1) if one.op == "mul" else ():
        gate, x = flow.writer(one.inputs[at]), one.inputs[1 - at]
        kind = None if gate is None or gate.inputs != (x,) else _gate_kind(gate)
        if kind is not None:
            flow.put(one, Operation("activate", one.name, (x,), one.output, {"activation": {"kind": kind}}))
            return True
    return False


def _gate_kind(gate: Operation) -> str | None:
    if _kind(gate) == "sigmoid":
        return "silu"
    if _kind(gate) != "hard_sigmoid":
        return None
    held = gate.attributes["activation"]
    fits = isclose(held["low"], 1 / 6, rel_tol=_ROUNDING) and isclose(held["high"], 0.5, rel_tol=_ROUNDING)
    return "hard_swish" if fits else None


def _gate_height(one: Operation) -> float | None:
    """h of a clip between 0 and h."""
    held = one.attributes["activation"] if _kind(one) == "clip" else {}
    high = held.get("high")
    return float(high) if held.get("low") == 0 and high is not None and high > 0 else None


def _divides(one: Operation, by: float) -> bool:
    held = _uniform(one)
    return held is not None and held[1] == 0 and isclose(held[0] * by, 1, rel_tol=_ROUNDING)


def _kind(one: Operation) -> str | None:
    return str(one.attributes["activation"]["kind"]) if one.op == "activate" else None


def _hard_sigmoid(alpha: float, beta: float) -> dict[str, Any]:
    return {"activation": {"kind": "hard_sigmoid", "low": alpha, "high": beta}}


def _bare(layer: Operation) -> bool:
    """A layer that adds and activates nothing yet."""
    return layer.op in _LAYERS and layer.attributes["activation"] is None and layer.attributes.get("add") is None


def _uniform(one: Operation) -> tuple[float, float] | None:
    """Scale and shift of an affine operation that treats all channels alike."""
    if one.op != "affine":
        return None
    scale, shift = _numbers(one)
    alike = bool(np.all(scale == scale[0]) and np.all(shift == shift[0]))
    return (float(scale[0]), float(shift[0])) if alike else None


def _numbers(one: Operation) -> tuple[Array, Array]:
    return one.arrays["scale"].astype(np.float64), one.arrays["shift"].astype(np.float64)
