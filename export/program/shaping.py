"""Operators that only say where a value lies: they become views, and operations where no view can say it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from export.program.draft import Draft
from export.program.site import Result, Site
from export.program.view import View, applied, joined, reshaped, taken, transposed


def reshape(site: Site) -> View:
    """Reshape to a constant shape that keeps the images apart."""
    asked = site.integers(1, "shape")
    if asked is None:
        raise site.refuse("its shape is computed when the network runs")
    view = site.view()
    before = (site.batch, *view.shape)
    if not site.attributes.get("allowzero", 0):
        asked = [before[at] if size == 0 and at < len(before) else size for at, size in enumerate(asked)]
    known = prod(size for size in asked if size != -1)
    total = prod(before)
    if asked.count(-1) > 1 or known < 1 or total % known:
        raise site.refuse(f"{before} does not fit into the shape {asked}")
    shape = [total // known if size == -1 else size for size in asked]
    if prod(shape) != total or not shape or shape[0] != site.batch:
        raise site.refuse(f"from {before} to {shape}, it mixes the images of a batch")
    return _as(site, view, shape[1:])


def flatten(site: Site) -> View:
    """Flatten behind the batch."""
    rank = len(site.view().shape) + 1
    if int(site.attributes.get("axis", 1)) not in (1, 1 - rank):
        raise site.refuse("it mixes the images of a batch: its axis is not 1")
    return _as(site, site.view(), [prod(site.view().shape)])


def squeeze(site: Site) -> View:
    """Squeeze of axes of size 1."""
    view = site.view()
    given = site.integers(1, "axes")
    if given is None and site.batch == 1:
        raise site.refuse("it states no axes, so that one image alone would lose its batch axis")
    axes = range(len(view.shape)) if given is None else [site.axis(axis) for axis in given]
    dropped = {axis for axis in axes if view.shape[axis] == 1}
    if given is not None and len(dropped) < len(set(axes)):
        raise site.refuse(f"an axis of {('N', *view.shape)} that it drops is not of size 1")
    return _as(site, view, [size for axis, size in enumerate(view.shape) if axis not in dropped])


def unsqueeze(site: Site) -> View:
    """Unsqueeze behind the batch."""
    given = site.integers(1, "axes") or []
    rank = len(site.view().shape) + 1 + len(given)
    axes = sorted(axis % rank for axis in given)
    shape = [site.batch, *site.view().shape]
    for axis in axes:
        shape.insert(axis, 1)
    if 0 in axes:
        raise site.refuse("it puts an axis before the batch")
    return _as(site, site.view(), shape[1:])


def transpose(site: Site) -> View:
    """Transpose of channels among themselves."""
    rank = len(site.view().shape) + 1
    order = [int(axis) % rank for axis in site.attributes.get("perm", range(rank)[::-1])]
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise site.refuse(f"its order {order} moves the batch")
    return site.known(transposed(site.view(), [axis - 1 for axis in order[1:]]))


def slices(site: Site) -> View:
    """Slice of channels or pixels, forwards or backwards."""
    starts, ends, axes, steps = (
        site.integers(at, name) for at, name in enumerate(("starts", "ends", "axes", "steps"), start=1)
    )
    if starts is None or ends is None:
        raise site.refuse("where it cuts is computed when the network runs")
    view, found = site.view(), site.view()
    for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis = index if axes is None else axes[index]
        step = 1 if steps is None else steps[index]
        if axis % (len(view.shape) + 1) == 0 and _all_of(site.batch, start, end, step):
            continue
        at = site.axis(axis, view)
        found = site.known(taken(found, at, range(view.shape[at])[_python_slice(start, end, step)]))
    if 0 in found.shape:
        raise site.refuse("nothing is left of the value")
    return found


def split(site: Site) -> list[View]:
    """Split into parts of stated or equal sizes."""
    view = site.view()
    axis = site.axis(int(site.attributes.get("axis", 0)))
    size = view.shape[axis]
    each = -(-size // site.outputs)
    sizes = site.integers(1, "split") or [min(each, size - at) for at in range(0, size, each)]
    if sum(sizes) != size or min(sizes) < 1 or len(sizes) != site.outputs:
        raise site.refuse(f"{size} entries do not split into {sizes}")
    starts = np.cumsum([0, *sizes[:-1]])
    return [site.known(taken(view, axis, range(at, at + part))) for at, part in zip(starts, sizes, strict=True)]


def gather(site: Site) -> View:
    """Gather by constant indices along one axis."""
    indices = site.needed(1).astype(np.int64)
    axis = site.axis(int(site.attributes.get("axis", 0)))
    size = site.view().shape[axis]
    if indices.ndim > 1 or not indices.size or indices.min() < -size or indices.max() >= size:
        raise site.refuse(f"its indices are no list of entries of an axis of {size}")
    found = site.known(taken(site.view(), axis, [int(at) % size for at in indices.ravel()]))
    if indices.ndim == 1:
        return found
    return _as(site, found, [*found.shape[:axis], *found.shape[axis + 1 :]])


def concat(site: Site) -> View:
    """Concat: one view where all parts are of one tensor, else an operation along the channels."""
    views = [site.view(at) for at in range(len(site.inputs))]
    axis = site.axis(int(site.attributes["axis"]))
    rest = {(*view.shape[:axis], *view.shape[axis + 1 :]) for view in views}
    if len(rest) != 1 or len({len(view.shape) for view in views}) != 1:
        raise site.refuse(f"its inputs do not fit together: {', '.join(str(('N', *view.shape)) for view in views)}")
    one = joined(views, axis)
    if one is not None:
        return one
    if axis >= views[0].channels.ndim or len({view.channels.ndim for view in views}) != 1:
        raise site.refuse("it joins values of different tensors along an axis of pixels")
    return _side_by_side(site.draft, views, axis)


def reduce_mean(site: Site) -> View:
    """ReduceMean over pixels."""
    view = site.view()
    given = site.integers(1, "axes")
    if given is None and site.attributes.get("noop_with_empty_axes", 0):
        return view
    axes = sorted(site.axis(axis) for axis in (range(len(view.shape) + 1) if given is None else given))
    found = site.known(_averaged(view, axes))
    if site.attributes.get("keepdims", 1):
        return found
    return _as(site, found, [size for axis, size in enumerate(found.shape) if axis not in axes])


def global_average(site: Site) -> View:
    """GlobalAveragePool: the mean over all pixels."""
    view = site.view()
    if not view.is_image:
        raise site.refuse(f"it reads a value of shape {('N', *view.shape)} that is no image")
    return site.known(_averaged(view, [1, 2]))


def dropout(site: Site) -> View:
    """Dropout in inference mode: nothing."""
    if site.number(2, "training_mode", 0.0) or site.outputs > 1:
        raise site.refuse("it drops at random, or its mask is read")
    return site.view()


def _averaged(view: View, axes: Sequence[int]) -> View | None:
    """The mean over `axes`, each kept with size 1; None for a mean over channels or over half of a row of pixels."""
    leading = view.channels.ndim
    if any(axis < leading and view.shape[axis] != 1 for axis in axes):
        return None
    over = [axis for axis in axes if axis >= leading]
    if view.tail == view.grid or not over:
        return _means(view, over)
    if len(over) < len(view.tail):
        return None
    found = _means(replace(view, tail=view.grid), [leading, leading + 1])
    return None if found is None else reshaped(found, (*view.channels.shape, *(1 for _ in view.tail)))


def _means(view: View, axes: Sequence[int]) -> View | None:
    found: View | None = view
    for axis in axes:
        size = view.shape[axis]
        found = None if found is None else applied(found, axis, np.full((1, size), 1 / size))
    return found


def _as(site: Site, view: View, shape: Sequence[int]) -> View:
    """The view in another shape; where no view can say it, its flattened vector in that shape."""
    if not shape:
        raise site.refuse("no axis is left beside the batch")
    found = reshaped(view, shape)
    if found is not None:
        return found
    channels = np.arange(prod(shape)).reshape(tuple(shape))
    return View(site.draft.flat(view), channels, (1, 1), ())


def _side_by_side(draft: Draft, views: Sequence[View], axis: int) -> View:
    tensor = draft.concatenated([draft.brought(view) for view in views])
    starts = np.cumsum([0, *(view.channels.size for view in views[:-1])])
    parts = [
        start + np.arange(view.channels.size).reshape(view.channels.shape)
        for start, view in zip(starts, views, strict=True)
    ]
    return View(tensor, np.concatenate(parts, axis=axis), views[0].grid, views[0].tail)


def _python_slice(start: int, end: int, step: int) -> slice:
    """ONNX's ends beyond the axis mean its end, and a backwards slice reaches the first entry by an end below it."""
    return slice(start, None if step < 0 and end < -(2**30) else end, step)


def _all_of(size: int, start: int, end: int, step: int) -> bool:
    return list(range(size)[_python_slice(start, end, step)]) == list(range(size))


SHAPING: dict[str, Callable[[Site], Result]] = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Slice": slices,
    "Split": split,
    "Gather": gather,
    "Concat": concat,
    "ReduceMean": reduce_mean,
    "GlobalAveragePool": global_average,
    "Dropout": dropout,
    "Identity": lambda site: site.view(),
}
"""The operators of this file."""
