"""How far a file's logits may be from the torch module's, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UserError

TOLERANCES: Mapping[str, float] = {"fp32": 1e-4, "fp16": 1e-2, "int8": 0.25}
"""Largest accepted error of a logit, as a share of the largest logit of all images.

Of the largest, because an untrained network gives every image nearly the same answer, and an error that is small beside
the logits is then large beside their differences. In fp32 rounding stays 10 times below. Worst of the tests' networks,
16 torchvision classifiers with random weights, and ResNet-20 and -56 on the CIFAR-10 test set: 1.6e-3 in fp16, 0.12 in
int8. Calibrations that cost points of accuracy on the latter were off by 0.37 and more. How much accuracy is left, the
measurement on all test images says.
"""

AT_ONCE = 32
"""Images that are answered in one batch."""

Array = NDArray[np.float32]


def difference(expected: Array, found: Array, what: str) -> tuple[float, float]:
    """Largest absolute difference, and the largest absolute logit of torch; (NaN, ...) where the file gives NaN.

    :param expected: the torch module's logits, (N, classes).
    :param what: what gave `found`, for messages.
    :raises UserError: torch's logits are not finite, or the shapes differ.
    """
    if not np.isfinite(expected).all():
        raise UserError("the torch module gives logits that are not finite", "the training diverged: train it again")
    if expected.shape != found.shape:
        raise UserError(
            f"{what} gives logits {found.shape}, the torch module {expected.shape}", "export the network again"
        )
    apart = np.abs(expected.astype(np.float64) - found.astype(np.float64))
    return float(apart.max()), float(np.abs(expected).max())
