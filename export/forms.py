"""The forms in which a stored weight reaches its layer: turned round, cast, quantised and back; and what arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

Array = NDArray[Any]
Attributes = Mapping[str, Any]
Others = Sequence[Array]
"""The constants that a node reads beside the weight: scale and zero point, a shape, axes."""

_UINT8 = int(TensorProto.UINT8)


def reformed(operator: str, held: Attributes, value: Array, others: Others) -> Array | None:
    """What `operator`, one of `FORMS`, makes of `value`; None where that cannot be read.

    Not read are scales by blocks (opset 21), scales that are not above zero or do not fit the weight, and numbers that
    are quantised to anything but integers (float8): a weight in such a form counts as not stored.
    """
    return FORMS[operator](held, value, others)


def _transposed(held: Attributes, value: Array, _: Others) -> Array:
    return np.transpose(value, held.get("perm"))


def _cast(held: Attributes, value: Array, _: Others) -> Array:
    with np.errstate(over="ignore"):
        cast: Array = value.astype(helper.tensor_dtype_to_np_dtype(int(held.get("to", TensorProto.FLOAT))))
    return cast


def _reshaped(held: Attributes, value: Array, others: Others) -> Array | None:
    asked = [int(size) for size in others[0]] if others else []
    if not held.get("allowzero"):
        asked = [value.shape[at] if size == 0 and at < value.ndim else size for at, size in enumerate(asked)]
    known = int(np.prod([size for size in asked if size != -1]))
    fits = value.size == known if -1 not in asked else known > 0 and asked.count(-1) == 1 and value.size % known == 0
    return value.reshape(asked) if fits else None


def _quantized(held: Attributes, value: Array, others: Others) -> Array | None:
    """round(value / scale) + zero point, cut off at the ends of the zero point's type."""
    steps = _along(held, value, others)
    kind = np.dtype(others[1].dtype if len(others) > 1 else np.uint8)
    untold = len(others) == 1 and held.get("output_dtype", _UINT8) not in (0, _UINT8)
    if steps is None or untold or not np.issubdtype(kind, np.integer):
        return None
    rounded: Array = np.rint(value.astype(np.float32) / steps[0]) + steps[1]
    return np.clip(rounded, np.iinfo(kind).min, np.iinfo(kind).max)


def _dequantized(held: Attributes, value: Array, others: Others) -> Array | None:
    """(value - zero point) scale: exactly zero where the stored value is the zero point."""
    steps = _along(held, value, others)
    return None if steps is None else (value.astype(np.float32) - steps[1]) * steps[0]


def _along(held: Attributes, value: Array, others: Others) -> tuple[Array, Array] | None:
    """Scale and zero point, one for the tensor or one for each index of the node's axis, ready to be broadcast."""
    scale = others[0].astype(np.float32) if others else np.zeros(1, np.float32)
    zero = others[1].astype(np.float32) if len(others) > 1 else np.zeros_like(scale)
    if held.get("block_size") or scale.ndim > 1 or zero.size != scale.size or not bool((scale > 0).all()):
        return None
    shape = [1] * value.ndim
    if scale.size > 1:
        axis = int(held.get("axis", 1))
        if not -value.ndim <= axis < value.ndim or value.shape[axis] != scale.size:
            return None
        shape[axis] = -1
    return scale.reshape(shape), zero.reshape(shape)


FORMS: dict[str, Callable[[Attributes, Array, Others], Array | None]] = {
    "Identity": lambda held, value, others: value,
    "Transpose": _transposed,
    "Cast": _cast,
    "Reshape": _reshaped,
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _dequantized,
}
"""Operators that hand a weight on in another form; what else they read is constant."""
