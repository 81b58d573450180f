"""Schedules: when weights are removed, and what is learnt in between. One paper, one file, `(task) -> Outcome`.

A schedule leaves `task.student` with the weights at which the retraining begins, every pruned one at zero. What to
prune for (`prune.criterion` under `prune.guide`) and how the layers share it (`prune.allocation`) is not its business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from edgeprune.prune.task import Task


@dataclass(frozen=True)
class Outcome:
    """Masks by layer name, on the CPU (True keeps), the guide's loss at each scoring batch, and what to be wary of.

    `earlier_images` went forward and backward through the student in processes before this one, which was resumed.
    """

    masks: dict[str, Tensor]
    guide_loss: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    earlier_images: int = 0


Schedule = Callable[["Task"], Outcome]


def geometric(sparsity: float, k: float, rounds: int) -> float:
    """s_k = 1 - (1 - s)^(k / K): the sparsity after `k` of `rounds` that take the same share of what is left.

    Exactly `sparsity` at the end, where the power would be off by rounding.
    """
    return sparsity if k >= rounds else 1.0 - (1.0 - sparsity) ** (k / rounds)
