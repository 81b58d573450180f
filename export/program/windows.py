"""Sums over rows or columns of an image as matrices (new size, size), and which operation computes one.

A slice, a mean and a concatenation along the height are each such a matrix, and so is adaptive pooling, which torch
writes as many of them. What they come to is seen in their product: a plain pooling, a crop, a repetition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_SAME = 1e-6
"""Means are written in float32."""


@dataclass(frozen=True)
class Sliding:
    """One window that slides: output i is the sum of `weights` over the inputs from i * stride on."""

    weights: NDArray[np.float64]
    stride: int

    @property
    def is_mean(self) -> bool:
        """Whether every input of the window counts alike, as in average pooling."""
        return bool(np.allclose(self.weights, 1 / len(self.weights), rtol=0, atol=_SAME))


ONE = Sliding(np.ones(1), 1)
"""Every input as it is."""


def sliding(matrix: Matrix) -> Sliding | None:
    """The window whose sliding is `matrix`; None where there is no such window."""
    rows, size = matrix.shape
    starts = [int(np.flatnonzero(row)[0]) if row.any() else 0 for row in matrix]
    stride = starts[1] - starts[0] if rows > 1 else 1
    if stride < 1 or (rows - 1) * stride >= size:
        return None
    reach = int(np.flatnonzero(matrix[0])[-1]) + 1 if matrix[0].any() else 1
    length = max(reach, size - rows * stride + 1)  # so that there is no room for one output more
    if (rows - 1) * stride + length > size:
        return None
    again = np.zeros_like(matrix)
    for index in range(rows):
        again[index, index * stride : index * stride + length] = matrix[0, :length]
    return Sliding(matrix[0, :length], stride) if np.allclose(again, matrix, rtol=0, atol=_SAME) else None


def repeats(matrix: Matrix) -> int | None:
    """How often in a row `matrix` repeats each input, all of them equally often; None where it does anything else."""
    rows, size = matrix.shape
    factor = rows // size
    if factor * size != rows:
        return None
    return factor if np.array_equal(matrix, np.repeat(np.eye(size), factor, axis=0)) else None


def together(rows: Matrix, columns: Matrix) -> Matrix:
    """What two matrices do to an image in C order: (new height * new width, height * width)."""
    return np.asarray(np.kron(rows, columns), dtype=np.float64)
