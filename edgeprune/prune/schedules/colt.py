"""COLT, cyclic overlapping lottery tickets (Hossain et al. 2025, IEEE TAI, arXiv 2212.12770, algorithm 1).

The classes are split into parts. In every round a copy of the student is trained on each part, from the same start;
each is pruned, and only what all of them kept is kept. What survives is rewound to the start. With one part that is the
lottery ticket of `iterative`. The published method prunes by magnitude over all layers together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from edgeprune.data.batches import Batch
from edgeprune.distill import Teacher
from edgeprune.learning_rate import norm_drop, retraining
from edgeprune.optimise import Batches
from edgeprune.prune import masks as masking
from edgeprune.prune.schedules import Outcome, geometric
from edgeprune.prune.schedules.rounds import State, norm, resume, save, trained
from edgeprune.prune.score import choose_kept, gather
from edgeprune.prune.signals import Criterion
from edgeprune.prune.task import Task, counting
from edgeprune.tables import CRITERIA
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

Masks = dict[str, Tensor]
Scores = Mapping[str, Tensor]


def colt(task: Task) -> Outcome:
    """The masks when the recipe's sparsity is reached, after at most `prune.rounds` rounds; the student is rewound.

    Each round takes the share of what is left from every copy that `rounds` such rounds would need to take; the copies
    disagree, so that fewer are needed. The last round takes just so much that the total is exact. The state is saved
    after every round and every epoch of a training.
    """
    parts = split(_outputs(task), task.recipe.prune.parts)
    start = deepcopy(task.student.state_dict())
    with counting(task.student) as seen:
        state = resume(task)
        while state.position < task.recipe.prune.rounds:
            state = _round(task, parts, state, start)
            save(task, state)
    return state.outcome(seen)


def split(classes: int, parts: int) -> list[range]:
    """Consecutive classes, as in the authors' code: the same for every seed, the first parts larger by at most one.

    `UserError` unless every part has two classes to tell apart.
    """
    if classes < 2 * parts:
        hint = f"set prune.parts={max(1, classes // 2)}"
        raise UserError(f"{classes} classes make no {parts} parts of at least two", hint)
    ends = [(part * classes + parts - 1) // parts for part in range(parts + 1)]
    return [range(first, end) for first, end in pairwise(ends)]


def _outputs(task: Task) -> int:
    images = next(iter(task.validation.epoch(0))).images[:1]
    task.student.eval()
    with torch.no_grad():
        return int(task.student(images).shape[1])


def _round(task: Task, parts: Sequence[range], state: State, start: Mapping[str, Tensor]) -> State:
    """Train, score and prune a copy on each part; keep what all keep, rewound to `start`."""
    settings = task.recipe.prune
    task.student.load_state_dict(start)
    before = norm(task.weights())
    masking.bake(task.student, state.masks or {})
    scores = list[Scores]()
    for number, classes in enumerate(parts):
        score, losses, images = _scores(_on(task, classes), state, number, len(parts))
        scores.append(score)
        state = replace(state, guide_loss=state.guide_loss + losses, images=state.images + images)
    masks, warnings, position = _agree(task, scores, state)
    masking.bake(task.student, masks)
    return replace(
        state,
        masks=masks,
        done=state.done + 1,
        position=position,
        taken=geometric(settings.sparsity, position, settings.rounds),
        drop=norm_drop(before, norm(task.weights())),
        warnings=tuple(warnings),
    )


def _scores(task: Task, state: State, part: int, parts: int) -> tuple[Scores, tuple[float, ...], int]:
    """Train a copy on its part; the scores of its weights, the guide's losses, and how many images it has seen."""
    settings = task.recipe.prune
    learning = retraining(task.recipe, state.drop, state.taken) if state.masks else task.recipe.retrain
    name = f"round {state.done + 1} of at most {settings.rounds}, part {part + 1} of {parts}"
    piece, pieces = state.done * parts + part, settings.rounds * parts
    images = trained(task, learning, state.masks, name=name, piece=piece, pieces=pieces)
    with counting(task.student) as seen:
        criterion: Criterion = resolve(pick(CRITERIA, settings.criterion, "criterion"))
        signals, losses = gather(task, criterion, state.masks, state.done, settings.rounds)
    score = {name: criterion.score(w.detach(), signals[name]) for name, w in task.weights().items()}
    return score, tuple(losses), images + seen.images


def _agree(task: Task, scores: Sequence[Scores], state: State) -> tuple[Masks, list[str], float]:
    """The new masks, warnings, and how many rounds' worth of pruning that makes in all."""
    settings = task.recipe.prune
    ahead = min(state.position + 1.0, settings.rounds)
    planned = geometric(settings.sparsity, ahead, settings.rounds)
    chosen = [choose_kept(score, task, planned, state.masks) for score in scores]
    masks = {name: torch.stack([mask[name] for mask, _ in chosen]).all(dim=0) for name in task.chosen}
    total = sum(mask.numel() for mask in masks.values())
    zeros = total - sum(int(mask.sum()) for mask in masks.values())
    if all(torch.equal(mask[name], masks[name]) for mask, _ in chosen for name in masks):
        # All chose the same: the lottery ticket, to the last bit.
        return masks, [warning for _, warned in chosen for warning in warned], ahead
    # As many as they have in common, but in the last round as many as the sparsity leaves. Those are the same weights
    # where one ranking decides; an allocation or a pattern with rules of its own must be asked once more.
    reached = min(zeros / total, settings.sparsity)
    masks, warnings = choose_kept(_common_places(scores, state.masks), task, reached, state.masks)
    if zeros >= round(settings.sparsity * total):
        return masks, warnings, float(settings.rounds)
    return masks, warnings, settings.rounds * math.log1p(-reached) / math.log1p(-settings.sparsity)


def _common_places(scores: Sequence[Scores], keep: Masks | None) -> dict[str, Tensor]:
    """Each weight's worst place among the copies' rankings, counted from the end, 1 being the last.

    What is in every copy's k best are exactly the weights whose worst place is among the first k.
    """
    places = torch.stack([_places(score, keep) for score in scores]).amax(dim=0)
    layers = torch.split((len(places) - places).double(), [score.numel() for score in scores[0].values()])
    return {name: layer.view_as(score) for layer, (name, score) in zip(layers, scores[0].items(), strict=True)}


def _places(scores: Scores, keep: Masks | None) -> Tensor:
    alive = scores if keep is None else {n: s.masked_fill(~keep[n].to(s.device), -math.inf) for n, s in scores.items()}
    order = torch.cat([score.flatten() for score in alive.values()]).argsort(descending=True, stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))


def _on(task: Task, classes: range) -> Task:
    """The task for a copy of the student that knows these classes only: logits cut, labels counted from 0.

    The other classes' rows of the head get no gradient. No loss needs to know.
    """
    student = deepcopy(task.student)
    student.register_forward_hook(lambda module, inputs, logits: logits[:, classes.start : classes.stop])
    teacher, (batches, validation) = task.teacher, task.part(classes)
    return replace(
        task,
        student=student,
        teacher=None if teacher is None else _cut(teacher, classes),
        batches=_Renumbered(batches, classes.start),
        validation=_Renumbered(validation, classes.start),
    )


def _cut(teacher: Teacher, classes: range) -> Teacher:
    return lambda batch: teacher(batch)[:, classes.start : classes.stop]


@dataclass(frozen=True)
class _Renumbered:
    """Batches whose labels begin at 0."""

    batches: Batches
    first: int

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int) -> Iterator[Batch]:
        return (replace(batch, labels=batch.labels - self.first) for batch in self.batches.epoch(number))
