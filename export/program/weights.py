"""A weight matrix as the program stores it: dense, or its non-zeros with the gaps between them.

The sparse form is the non-zeros of each row by ascending column. A gap is the column less that of the non-zero before
it in the row, less 1 (the first: its column): one byte up to 254; a gap of 255 or more is as many bytes of 255 as fit
into it, then the rest.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from export.program.format import Array

_ESCAPE = 255


def stored(weight: NDArray[np.float32]) -> dict[str, Array]:
    """The arrays of `weight` (rows, columns): sparse where that is smaller before compression, else dense."""
    if 5 * np.count_nonzero(weight) < 4 * weight.size:  # a non-zero takes four bytes and at least one of gaps
        sparse = to_sparse(weight)
        if 4 * sparse["values"].size + sparse["gaps"].size < 4 * weight.size:
            return sparse
    return {"weight": np.ascontiguousarray(weight, dtype=np.float32)}


def dense(arrays: dict[str, Array], columns: int) -> NDArray[np.float32]:
    """The (rows, columns) matrix of either form.

    :raises ValueError: counts, gaps and values that do not belong together.
    """
    if "weight" in arrays:
        return np.asarray(arrays["weight"], dtype=np.float32)
    counts = np.asarray(arrays["counts"], dtype=np.int64)
    rows = np.repeat(np.arange(counts.size), counts)
    steps = _gaps_of(np.asarray(arrays["gaps"])) + 1
    if steps.size != rows.size or rows.size != arrays["values"].size:
        raise ValueError(f"{steps.size} gaps, {rows.size} counted, {arrays['values'].size} values")
    reached = np.cumsum(steps)
    before = np.concatenate([[0], reached])[np.cumsum(counts) - counts]
    matrix = np.zeros((counts.size, columns), np.float32)
    at = reached - before[rows] - 1
    if at.size and int(at.max()) >= columns:
        raise ValueError(f"column {at.max()} of {columns}")
    matrix[rows, at] = arrays["values"]
    return matrix


def to_sparse(weight: NDArray[np.float32]) -> dict[str, Array]:
    """`values`, `gaps` and `counts` of `weight` (rows, columns); -0.0 counts as zero, NaN as a value."""
    at = np.flatnonzero(weight)
    rows, columns = np.divmod(at, weight.shape[1])
    counts = np.bincount(rows, minlength=weight.shape[0])
    gaps = np.diff(columns, prepend=-1) - 1
    starts = (np.cumsum(counts) - counts)[counts > 0]
    gaps[starts] = columns[starts]
    return {
        "values": weight.ravel()[at].astype(np.float32),
        "gaps": _bytes_of(gaps),
        "counts": counts.astype(np.uint32),
    }


def _bytes_of(gaps: NDArray[np.int64]) -> NDArray[np.uint8]:
    whole = gaps // _ESCAPE
    coded = np.full(int(whole.sum()) + gaps.size, _ESCAPE, np.uint8)
    coded[np.cumsum(whole + 1) - 1] = gaps % _ESCAPE
    return coded


def _gaps_of(coded: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The gaps that `coded` stands for; bytes of 255 that no smaller one follows are not counted."""
    ends = np.flatnonzero(coded != _ESCAPE)
    sums = np.cumsum(coded.astype(np.int64))[ends]
    return np.diff(sums, prepend=0)
