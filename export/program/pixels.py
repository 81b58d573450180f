"""Operators that make values larger: Pad with a constant, Resize by whole factors to the nearest pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from export.program.format import Array
from export.program.site import Site
from export.program.view import NOTHING, View, applied
from export.program.windows import Matrix


def resize(site: Site) -> View:
    """Resize to the nearest pixel by whole factors."""
    view = site.view()
    sizes = _sizes(site, view)
    if not view.is_image or len(sizes) != 4 or tuple(sizes[:2]) != (site.batch, view.shape[0]):
        raise site.refuse(f"it resizes {('N', *view.shape)} to {sizes}; only height and width are resized")
    found: View = view
    for axis in (1, 2):
        size, new = view.shape[axis], sizes[axis + 1]
        if new % size or not np.array_equal(_nearest(site, size, new), np.arange(new) // (new // size)):
            raise site.refuse(f"{size} pixels to {new} is not a repetition of each: only that is resized")
        found = site.known(applied(found, axis, _repeated(size, new // size)))
    return found


def pad(site: Site) -> View:
    """Pad of height and width by a constant, and of channels by zeros."""
    view = site.view()
    rank = len(view.shape) + 1
    if site.text("mode", "constant") != "constant":
        raise site.refuse(f"its mode is '{site.text('mode', '')}'; only a constant border is known")
    given = site.integers(1, "pads") or []
    axes = [axis % rank for axis in site.integers(3, "axes") or range(rank)]
    if len(given) != 2 * len(axes):
        raise site.refuse(f"{len(given)} sizes for {len(axes)} axes")
    sizes = {(axis, end): given[end * len(axes) + at] for at, axis in enumerate(axes) for end in (0, 1)}
    if not any(sizes.values()):
        return view
    value = site.number(2, "value", 0.0)
    more = (sizes.get((1, 0), 0), sizes.get((1, 1), 0))
    if min(sizes.values()) < 0 or rank != 4 or any(sizes.get((0, end), 0) for end in (0, 1)) or (any(more) and value):
        raise site.refuse(f"it pads by {given} with {value}; only borders of images and channels of zeros are known")
    if any(more):
        view = replace(view, channels=np.pad(view.channels, more, constant_values=NOTHING))
        if not any(size for (axis, _), size in sizes.items() if axis > 1):
            return view
    x = site.draft.image(view)
    channels, height, width = site.draft.tensors[x]
    top, left, bottom, right = (sizes.get(key, 0) for key in ((2, 0), (3, 0), (2, 1), (3, 1)))
    if not np.isfinite(value):
        raise site.refuse(f"its border is {value}")
    shape = (channels, height + top + bottom, width + left + right)
    padded = site.draft.emit("pad", [x], shape, padding=[top, left, bottom, right], value=value)
    return site.draft.seen(padded)


def _repeated(size: int, factor: int) -> Matrix:
    repeated: Matrix = np.repeat(np.eye(size), factor, axis=0)
    return repeated


def _sizes(site: Site, view: View) -> list[int]:
    if site.text("mode", "nearest") != "nearest" or site.attributes.get("axes"):
        raise site.refuse("it blends pixels, or states axes: only mode 'nearest' for all axes is known")
    sizes = site.integers(3, "-")
    if sizes:
        return sizes
    scales = site.needed(2) if len(site.inputs) > 2 else site.needed(1)  # opset 10 has no region
    return [int(np.floor(size * float(scale))) for size, scale in zip((site.batch, *view.shape), scales, strict=True)]


def _nearest(site: Site, size: int, new: int) -> Array:
    """The input pixel of each output pixel (ONNX, Resize)."""
    at = np.arange(new)
    scale = new / size
    word = site.text("coordinate_transformation_mode", "half_pixel" if site.opset > 10 else "asymmetric")
    if word in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and not (word[0] == "p" and new == 1):
        places = (at + 0.5) / scale - 0.5
    elif word == "asymmetric":
        places = at / scale
    elif word == "align_corners" and new > 1:
        places = at * (size - 1) / (new - 1)
    else:
        raise site.refuse(f"its coordinates are transformed by '{word}'")
    how: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
    word = site.text("nearest_mode", "round_prefer_floor" if site.opset > 10 else "floor")
    if word not in how:
        raise site.refuse(f"its nearest_mode is '{word}'")
    return np.clip(how[word](places), 0, size - 1)
