"""One pass of pruning: gather what the criterion needs under the guide, score, allocate, and set weights to zero.

mask = pattern(criterion(w, signals(model, batches, guide)), allocate(sparsity))
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from edgeprune.data.batches import Batch
from edgeprune.distill import Lesson, lesson_of
from edgeprune.optimise import backward, leading, sgd
from edgeprune.prune import masks as masking
from edgeprune.prune.allocate import Allocation, uniform, would_collapse
from edgeprune.prune.schedules import Outcome
from edgeprune.prune.signals import DATA_FREE, PASSES, STATISTICS, Criterion, MovingAverage, Signals, passes
from edgeprune.prune.task import Task
from edgeprune.recipe import fixed_sparsity
from edgeprune.tables import ALLOCATIONS, CRITERIA
from runtimes.errors import UserError
from runtimes.tables import pick, resolve


def shrink(
    task: Task, sparsity: float, keep: masking.Masks | None = None, *, stage: int = 0, stages: int = 1
) -> Outcome:
    """Prune `task.student` in place to `sparsity` (of all its prunable weights); what `keep` has pruned stays pruned.

    The scoring batches of the recipe are shared out among `stages`; this pass takes those of `stage`. While the signals
    are gathered the student is fine-tuned under the guide, by an optimiser whose momentum ends here.
    """
    criterion: Criterion = resolve(pick(CRITERIA, task.recipe.prune.criterion, "criterion"))
    signals, losses = gather(task, criterion, keep, stage, stages)
    masks, warnings = cut(task, criterion, signals, sparsity, keep)
    return Outcome(masks, tuple(losses), tuple(warnings))


def cut(
    task: Task, criterion: Criterion, signals: Mapping[str, Signals], sparsity: float, keep: masking.Masks | None
) -> tuple[dict[str, Tensor], list[str]]:
    """Score, choose, let the survivors make up for the others where the criterion does that, and set those to zero."""
    w = task.weights()
    scores = {name: criterion.score(w[name].detach(), signals[name]) for name in task.chosen}
    masks, warnings = choose_kept(scores, task, sparsity, keep)
    if criterion.update is not None:
        with torch.no_grad():
            for name, weight in w.items():
                weight.copy_(criterion.update(weight.detach(), masks[name].to(weight.device), signals[name]))
    masking.bake(task.student, masks)
    return masks, warnings


def choose_kept(
    scores: Mapping[str, Tensor], task: Task, sparsity: float, keep: masking.Masks | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Allocate and let the pattern choose among what `keep` left: masks by layer name on the CPU, and warnings."""
    settings = task.recipe.prune
    allocate: Allocation = resolve(pick(ALLOCATIONS, settings.allocation, "allocation"))
    if fixed_sparsity(settings.pattern) is not None:
        allocate = uniform  # N of M is the same share of every layer
    if keep is not None:
        scores = {name: score.masked_fill(~keep[name].to(score.device), -math.inf) for name, score in scores.items()}
    counts = allocate(scores, sparsity, settings.floor)
    chosen = {name: task.pattern.keep(score, counts[name]).cpu() for name, score in scores.items()}
    if keep is not None:
        chosen = {name: mask & keep[name].cpu() for name, mask in chosen.items()}
    saved = would_collapse(scores, allocate, sparsity) if settings.floor > 0 else []
    return chosen, [
        f"layer {name} would have lost all of its weights under {settings.criterion}; prune.floor keeps "
        f"{int(chosen[name].sum())} of {chosen[name].numel()}"
        for name in saved
    ]


def gather(
    task: Task, criterion: Criterion, keep: masking.Masks | None, stage: int, stages: int
) -> tuple[dict[str, Signals], list[float]]:
    """The signals that the criterion needs, by layer, and the guide's loss at each fine-tuning batch.

    Averages are taken while the student is fine-tuned without weight decay; signals with a pass of their own follow,
    over the same batches, at the weights where the fine-tuning ended.
    """
    steps = _steps(task, criterion, stages)
    statistics = criterion.needs & STATISTICS.keys()
    lesson, w = lesson_of(task.recipe.prune.guide, task.teacher), task.weights()
    start = {name: weight.detach().clone() for name, weight in w.items()}
    average, losses = MovingAverage(task.recipe.prune.beta), list[float]()
    task.student.train()
    torch.manual_seed(task.seed + stage)
    if statistics or task.recipe.prune.lr > 0:
        for loss in _fine_tune(task, lesson, keep, stage * steps, steps, steps * stages):
            average.update(w, statistics)
            losses.append(loss)
    return signals_of(
        task, criterion, average, start, leading(task.batches, max(1, steps), begun=stage * steps), lesson
    ), losses


def signals_of(
    task: Task,
    criterion: Criterion,
    average: MovingAverage,
    start: Mapping[str, Tensor],
    batches: Iterable[Batch],
    lesson: Lesson,
) -> dict[str, Signals]:
    """What the criterion may look at now, by layer: the averages so far, and passes of its own over `batches`."""
    names = criterion.needs & PASSES.keys()
    own = passes(names, task.student, task.chosen, batches, lambda model, batch: lesson(model, batch, 0.0))
    return {
        name: average.signals(name, task.seed + index, start=start[name], own={key: own[key][name] for key in own})
        for index, name in enumerate(task.chosen)
    }


def _fine_tune(
    task: Task, lesson: Lesson, keep: masking.Masks | None, begun: int, steps: int, total: int
) -> Iterator[float]:
    """Step by step under the guide; the gradients are in place whenever it yields the loss, the step follows."""
    settings = task.recipe.prune
    optimizer = sgd(task.student, settings.lr, task.recipe.train.model_copy(update={"weight_decay": 0.0}))
    if keep is not None:
        masking.hold(optimizer, task.student, keep)
    for step, batch in enumerate(leading(task.batches, steps, begun=begun), start=begun):
        optimizer.zero_grad(set_to_none=True)
        loss = backward(task.student, lesson, batch, step / total)
        yield loss
        optimizer.step()
        task.on_step(step + 1, total, f"guide loss {loss:.3f}")


def _steps(task: Task, criterion: Criterion, stages: int) -> int:
    """Batches of one stage: its share of `prune.epochs`, however little, at least one."""
    settings = task.recipe.prune
    steps = math.ceil(round(settings.epochs * len(task.batches)) / stages) or math.ceil(settings.epochs)
    if criterion.needs - DATA_FREE and not steps:
        raise UserError(f"criterion {settings.criterion} needs data, but prune.epochs = 0", "set prune.epochs=1")
    return steps
