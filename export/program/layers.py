"""Operators that multiply by weights or slide a window: Conv, Gemm, MatMul and the pools."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from export.program.draft import Draft
from export.program.format import Array, Shape
from export.program.site import Result, Site, per_channel
from export.program.view import View


def conv(site: Site) -> View:
    """Conv; one of 1x1 on one pixel is a linear layer."""
    x, weight = site.image(), site.needed(1)
    shape = site.draft.tensors[x]
    groups = int(site.attributes.get("group", 1))
    if weight.ndim != 4:
        raise site.refuse(f"its weight has {weight.ndim} dimensions; only images are convolved, with 4")
    out = weight.shape[0]
    if groups < 1 or out % groups or weight.shape[1] * groups != shape[0]:
        raise site.refuse(f"a weight of {weight.shape} in {groups} groups does not fit {shape[0]} channels")
    found = site.constant(2)
    bias = np.zeros(out) if found is None else found
    if bias.shape != (out,):
        raise site.refuse(f"its bias has the shape {bias.shape}, for {out} output channels")
    window = _window(site, shape, weight.shape[2:])
    flat = weight.reshape(out, -1)
    if shape[1:] == (1, 1) and prod(weight.shape[2:]) == 1 and groups == 1 and not any(window["padding"]):
        return site.draft.seen(_linear(site.draft, x, flat, bias))
    x, window = _bordered(site.draft, x, window)
    rest = {"groups": groups, "add": None, "activation": None, "weight": flat, "bias": bias}
    return site.draft.seen(site.draft.emit("conv", [x], _after(window, site.draft.tensors[x], out), **window, **rest))


def gemm(site: Site) -> View:
    """Gemm of a vector with a constant matrix: alpha A B + beta C."""
    weight = site.needed(1)
    if site.attributes.get("transA", 0):
        raise site.refuse("it transposes the value that is computed from the image")
    matrix = weight if site.attributes.get("transB", 0) else weight.T
    given = site.constant(2)
    beta = float(site.attributes.get("beta", 1.0))
    scaled = _scaled(matrix, float(site.attributes.get("alpha", 1.0)))
    return _product(site, scaled, None if given is None else _scaled(given, beta))


def matmul(site: Site) -> View:
    """MatMul of a vector with a constant matrix on the right; a bias is added by the Add behind it."""
    weight = site.needed(1)
    if weight.ndim != 2:
        raise site.refuse(f"it multiplies by a constant of shape {weight.shape}, not by a matrix")
    return _product(site, weight.T, None)


def max_pool(site: Site) -> View:
    """MaxPool on images; what ceil_mode lets hang over becomes padding."""
    if site.outputs > 1:
        raise site.refuse("its indices are read")
    return _pool(site, "max_pool", {})


def average_pool(site: Site) -> View:
    """AveragePool on images; what ceil_mode lets hang over is padding that does not count."""
    counted = bool(site.attributes.get("count_include_pad", 0))
    window = _window(site, site.draft.tensors[site.image()], _kernel(site))
    over = _hangs_over(site, window)
    if counted and over and any(window["padding"]):
        raise site.refuse("it counts padding but not what ceil_mode lets hang over")
    return _pool(site, "average_pool", {"count_padding": counted and not over and any(window["padding"])})


def global_max(site: Site) -> View:
    """GlobalMaxPool: one window that is the image."""
    x = site.image()
    channels, height, width = site.draft.tensors[x]
    if height * width == 1:
        return site.draft.seen(x)
    plain = {"stride": [1, 1], "padding": [0, 0, 0, 0], "dilation": [1, 1]}
    return site.draft.seen(site.draft.emit("max_pool", [x], (channels, 1, 1), kernel=[height, width], **plain))


def batch_norm(site: Site) -> View:
    """BatchNormalization by its stored statistics: a scale and a shift for each channel."""
    if site.attributes.get("training_mode", 0) or site.outputs > 1:
        raise site.refuse("it normalizes by the statistics of the batch")
    gamma, beta, mean, variance = (site.needed(at).astype(np.float64) for at in (1, 2, 3, 4))
    view = site.view()
    if gamma.shape != view.shape[:1] or view.channels.ndim != 1:
        raise site.refuse(f"{gamma.size} statistics do not fit a value of shape {('N', *view.shape)}")
    with np.errstate(invalid="ignore", divide="ignore"):  # told below
        scale = gamma / np.sqrt(variance + float(np.float32(site.attributes.get("epsilon", 1e-5))))
    return affine(site, view, scale, beta - mean * scale)


def affine(site: Site, view: View, scale: Array, shift: Array) -> View:
    """x * scale + shift for each channel of the view; the same view where that changes nothing."""
    if not bool(np.isfinite(scale).all() and np.isfinite(shift).all()):
        raise site.refuse("it scales or shifts by numbers that are not finite")
    if bool(np.all(scale == 1)) and bool(np.all(shift == 0)):
        return view
    x = site.draft.brought(view)
    return site.draft.like(view, site.draft.emit("affine", [x], site.draft.tensors[x], scale=scale, shift=shift))


def _scaled(values: Array, factor: float) -> Array:
    """Untouched, in float32, where the factor is 1."""
    return values if factor == 1 else np.where(values == 0, 0.0, values.astype(np.float64) * factor)


def _product(site: Site, matrix: Array, bias: Array | None) -> View:
    view = site.view()
    if len(view.shape) != 1:
        raise site.refuse(f"it multiplies a value of shape {('N', *view.shape)}; only vectors (N, n) are multiplied")
    x = site.draft.vector(view)
    if matrix.ndim != 2 or matrix.shape[1] != site.draft.tensors[x][0]:
        raise site.refuse(f"a matrix of {matrix.shape} does not fit {site.draft.tensors[x][0]} inputs")
    out = site.draft.seen(_linear(site.draft, x, matrix, np.zeros(len(matrix))))
    out = View(out.tensor, out.channels, out.grid, ())
    return out if bias is None else affine(site, out, np.ones(len(matrix)), per_channel(site, out, bias))


def _linear(draft: Draft, x: int, matrix: Array, bias: Array) -> int:
    return draft.emit("linear", [x], (len(matrix), 1, 1), activation=None, weight=np.array(matrix), bias=bias)


def _pool(site: Site, op: str, rest: dict[str, Any]) -> View:
    x = site.image()
    window = _window(site, site.draft.tensors[x], _kernel(site))
    if window["dilation"] != [1, 1]:
        raise site.refuse("its window has gaps (dilations)")
    if any(given >= size for given, size in zip(window["padding"], window["kernel"] * 2, strict=True)):
        raise site.refuse(f"its padding {window['padding']} is as wide as its window {window['kernel']}")
    if window["kernel"] == [1, 1] and window["stride"] == [1, 1] and not any(window["padding"]):
        return site.draft.seen(x)
    shape = _after(window, site.draft.tensors[x], site.draft.tensors[x][0])
    return site.draft.seen(site.draft.emit(op, [x], shape, **window, **rest))


def _kernel(site: Site) -> list[int]:
    kernel = [int(size) for size in site.attributes.get("kernel_shape", ())]
    if len(kernel) != 2:
        raise site.refuse(f"its window {kernel} is not one of two axes")
    return kernel


def _hangs_over(site: Site, window: dict[str, Any]) -> bool:
    """Whether ceil_mode made the padding larger than the node says."""
    said = [int(one) for one in site.attributes.get("pads", (0, 0, 0, 0))]
    exact = site.text("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return not exact and any(new > old for new, old in zip(window["padding"], said, strict=True))


def _window(site: Site, shape: Shape, kernel: Sequence[int]) -> dict[str, Any]:
    """Kernel, stride, padding and dilation as a program has them: the padding says what auto_pad and ceil_mode mean."""
    held = site.attributes
    stride, dilation = (_two(site, name) for name in ("strides", "dilations"))
    if min(*stride, *dilation, *kernel) < 1:
        raise site.refuse("a kernel, stride or dilation is not positive")
    pads = [int(one) for one in held.get("pads", (0, 0, 0, 0))]
    if len(pads) != 4 or min(pads) < 0:
        raise site.refuse(f"its padding {pads} is not four sizes")
    padding = [0, 0, 0, 0]
    for axis in (0, 1):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        before, after = _auto(site, shape[axis + 1], reach, stride[axis], (pads[axis], pads[axis + 2]))
        if held.get("ceil_mode", 0):
            after = _ceiled(shape[axis + 1], reach, stride[axis], before, after)
        padding[axis], padding[axis + 2] = before, after
    return {"kernel": [int(size) for size in kernel], "stride": stride, "padding": padding, "dilation": dilation}


def _two(site: Site, name: str) -> list[int]:
    found = [int(one) for one in site.attributes.get(name, (1, 1))]
    if len(found) != 2:
        raise site.refuse(f"its {name} {found} are not of two axes")
    return found


def _auto(site: Site, size: int, reach: int, stride: int, pads: tuple[int, int]) -> tuple[int, int]:
    word = site.text("auto_pad", "NOTSET")
    if word == "NOTSET":
        return pads
    if word == "VALID":
        return 0, 0
    if word not in ("SAME_UPPER", "SAME_LOWER"):
        raise site.refuse(f"its auto_pad is {word}")
    total = max(0, (-(-size // stride) - 1) * stride + reach - size)
    less, more = total // 2, total - total // 2
    return (less, more) if word == "SAME_UPPER" else (more, less)


def _ceiled(size: int, reach: int, stride: int, before: int, after: int) -> int:
    """The padding behind the image with which rounding down gives as many windows as ceil_mode; none begins there."""
    windows = -(-(size + before + after - reach) // stride) + 1
    if (windows - 1) * stride >= size + before:
        windows -= 1
    return max(0, (windows - 1) * stride + reach - size - before)


def _after(window: dict[str, Any], shape: Shape, channels: int) -> Shape:
    top, left, bottom, right = window["padding"]
    sizes = []
    for axis, padding in enumerate((top + bottom, left + right)):
        reach = (window["kernel"][axis] - 1) * window["dilation"][axis] + 1
        sizes.append((shape[axis + 1] + padding - reach) // window["stride"][axis] + 1)
    return channels, sizes[0], sizes[1]


def _bordered(draft: Draft, x: int, window: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Padding that no window of the kernel's size needs, more than its reach less one, becomes a pad of its own."""
    reach = [(size - 1) * step for size, step in zip(window["kernel"], window["dilation"], strict=True)] * 2
    inside = [min(given, most) for given, most in zip(window["padding"], reach, strict=True)]
    outside = [given - kept for given, kept in zip(window["padding"], inside, strict=True)]
    if not any(outside):
        return x, window
    channels, height, width = draft.tensors[x]
    shape = (channels, height + outside[0] + outside[2], width + outside[1] + outside[3])
    return draft.emit("pad", [x], shape, padding=outside, value=0.0), {**window, "padding": inside}


LAYERS: dict[str, Any] = {
    "Conv": conv,
    "Gemm": gemm,
    "MatMul": matmul,
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalMaxPool": global_max,
    "BatchNormalization": batch_norm,
}
"""The operators of this file."""

__all__ = ["LAYERS", "Result", "affine"]
