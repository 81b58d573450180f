"""One shot: the signals are gathered once and every weight that goes, goes at once (Alim et al. 2025)."""

from edgeprune.prune.schedules import Outcome
from edgeprune.prune.score import shrink
from edgeprune.prune.task import Task


def one_shot(task: Task) -> Outcome:
    """The mask of a single pass."""
    return shrink(task, task.recipe.prune.sparsity)
