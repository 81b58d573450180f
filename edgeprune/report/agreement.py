"""Whether two networks answer alike, from their logits: what can be said of their accuracies without any label."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeprune.report.records import Row
from edgeprune.report.uncertainty import mcnemar_at_most, paired_error
from runtimes.files import sha256

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """Two networks on the same images: how many answers differ, and what follows for the difference of their top-1."""

    differing: int
    p_value_at_most: float
    standard_error: float  # points, an upper bound


def agreement(first: Row, first_run: Path, second: Row, second_run: Path) -> Agreement | None:
    """What the logits of both rows say; None where one has none or has others than it was scored by.

    The caller knows that both saw the same images in the same order.
    """
    a, b = _classes(first, first_run), _classes(second, second_run)
    if a is None or b is None or len(a) != len(b) or first.top1 is None or second.top1 is None:
        return None
    differing = int((a != b).sum())
    difference = round((first.top1 - second.top1) * len(a) / 100)
    if abs(difference) > differing:
        return None  # the accuracies are not those of these answers
    p_value = mcnemar_at_most(differing, difference)
    return Agreement(differing, p_value, paired_error(differing, difference, len(a)))


def _classes(row: Row, run: Path) -> NDArray[np.intp] | None:
    """The answered class of each image, from a file that is what the measurement wrote."""
    import numpy as np

    if row.answers is None or row.images != row.answers["n"]:
        return None
    path = run / str(row.answers["file"])
    if not path.is_file() or sha256(path) != row.answers["sha256"]:
        return None
    return np.asarray(np.load(path, allow_pickle=False).argmax(axis=1), dtype=np.intp)
