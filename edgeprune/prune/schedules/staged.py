"""Stages: the mask grows geometrically, and the scores are computed anew at every stage; nothing is trained in between.

As in SynFlow (Tanaka et al. 2020, arXiv 2006.05467, algorithm 1) and in M-FAC's recomputations (Frantar et al. 2021,
arXiv 2107.03356): a local expansion of the loss does not hold over a jump to a high sparsity. In the methods'
sense nothing is trained with `prune.lr = 0`; another rate fine-tunes under the guide while the signals are gathered.
"""

from __future__ import annotations

from dataclasses import replace

from edgeprune.prune.schedules import Outcome, geometric
from edgeprune.prune.score import shrink
from edgeprune.prune.task import Task


def staged(task: Task) -> Outcome:
    """The masks after `prune.rounds` stages, s_k = 1 - (1 - s)^(k / K); one stage is one shot.

    The scoring batches (`prune.epochs`) are shared out among the stages. The warnings are those of the last stage.
    """
    settings = task.recipe.prune
    outcome = shrink(task, geometric(settings.sparsity, 1, settings.rounds), stages=settings.rounds)
    for stage in range(1, settings.rounds):
        sparsity = geometric(settings.sparsity, stage + 1, settings.rounds)
        after = shrink(task, sparsity, outcome.masks, stage=stage, stages=settings.rounds)
        outcome = replace(after, guide_loss=outcome.guide_loss + after.guide_loss)
    return outcome
