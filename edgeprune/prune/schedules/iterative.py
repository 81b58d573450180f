"""Rounds of training and pruning: the lottery ticket (Frankle and Carbin 2019, arXiv 1803.03635, section 2), and IMP.

With `prune.rewind` each round trains under the mask so far, prunes, and sets what survives back to where it began: the
ticket, which the retraining then trains once more. Here that beginning is the dense student that the schedule is given.
Without it a round prunes and goes on training from there: iterative magnitude pruning (Han et al. 2015, arXiv
1506.02626), with the retraining for the last round's training, as in Zimmer et al. 2023 (arXiv 2111.00843).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace

from torch import Tensor

from edgeprune.learning_rate import norm_drop, retraining
from edgeprune.prune import masks as masking
from edgeprune.prune.schedules import Outcome, geometric
from edgeprune.prune.schedules.rounds import State, norm, resume, save, trained
from edgeprune.prune.score import shrink
from edgeprune.prune.task import Task, counting


def iterative(task: Task) -> Outcome:
    """The masks after `prune.rounds` rounds, s_j = 1 - (1 - s)^(j / J); trainings are those of `recipe.retrain`.

    With rewinding J trainings, without J - 1: the retraining is one more. The scoring batches (`prune.epochs`) are
    shared out among the rounds. The state is saved after every training and every pruning, so that a killed process
    goes on where it was and ends with the same bits.
    """
    settings = task.recipe.prune
    pieces = ([_train, _shrink] if settings.rewind else [_shrink, _train]) * settings.rounds
    pieces = pieces if settings.rewind else pieces[:-1]
    start = deepcopy(task.student.state_dict())
    with counting(task.student) as seen:
        state = resume(task)
        for number in range(state.done, len(pieces)):
            state = replace(pieces[number](task, state, start, number // 2), done=number + 1)
            save(task, state)
    return state.outcome(seen)


def _train(task: Task, state: State, start: Mapping[str, Tensor], number: int) -> State:
    """Training `number`, from 0, under the masks so far."""
    settings = task.recipe.prune
    learning = retraining(task.recipe, state.drop, state.taken) if state.masks else task.recipe.retrain
    name, count = f"round {number + 1} of {settings.rounds}", settings.rounds - (not settings.rewind)
    images = trained(task, learning, state.masks, name=name, piece=number, pieces=count)
    return replace(state, images=state.images + images)


def _shrink(task: Task, state: State, start: Mapping[str, Tensor], number: int) -> State:
    """Pruning `number`, from 0, and the rewinding to `start`."""
    settings = task.recipe.prune
    sparsity, before = geometric(settings.sparsity, number + 1, settings.rounds), norm(task.weights())
    with counting(task.student) as seen:
        outcome = shrink(task, sparsity, state.masks, stage=number, stages=settings.rounds)
    if settings.rewind:
        task.student.load_state_dict(start)
        before = norm(task.weights())
        masking.bake(task.student, outcome.masks)
    return replace(
        state,
        masks=outcome.masks,
        taken=sparsity if settings.rewind else geometric(settings.sparsity, 1, settings.rounds),
        drop=norm_drop(before, norm(task.weights())),
        guide_loss=state.guide_loss + outcome.guide_loss,
        warnings=outcome.warnings,
        images=state.images + seen.images,
    )
