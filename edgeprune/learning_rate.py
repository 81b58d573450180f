"""Learning-rate schedules: functions of a training's progress p, from 0 to 1, to a factor of its peak rate.

The ones for retraining a pruned network (SLR, LLR, ALLR) bring a warm-up of their own, as they were published with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.recipe import Recipe, Training
from edgeprune.tables import LR_SCHEDULES
from runtimes.tables import pick, resolve

_WARMUP = 0.1  # share of the retraining; Le and Hua 2021, Zimmer et al. 2023


@dataclass(frozen=True)
class Schedule:
    """`factor(p)` of the peak once warmed up; `warmup` is the share in which the rate rises, None leaves it to others.

    With `adaptive` the peak itself is to be lowered first, by what the pruning took: see `adapted_peak`. `note` is what
    a person is told.
    """

    note: str
    factor: Callable[[float], float]
    warmup: float | None = None
    adaptive: bool = False


def constant(p: float) -> float:
    """The peak rate throughout."""
    return 1.0


def cosine(p: float) -> float:
    """(1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * p))


def linear(p: float) -> float:
    """1 - p."""
    return 1.0 - p


def multistep(p: float) -> float:
    """x 0.2 after 40, 60 and 90 % of the training: epochs 20, 30 and 45 of 50 (COLT's recipe, arXiv 2212.12770)."""
    return float(0.2 ** sum(p >= milestone for milestone in (0.4, 0.6, 0.9)))


CONSTANT = Schedule("the peak rate throughout", constant)
COSINE = Schedule("(1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, SGDR, arXiv 1608.03983, without restarts)", cosine)
LINEAR = Schedule("1 - p", linear)
MULTISTEP = Schedule("x 0.2 after 40, 60 and 90 %: the steps of COLT's recipe (arXiv 2212.12770)", multistep)
SLR = Schedule(
    "scaled learning-rate restarting (Le and Hua 2021, arXiv 2105.03193): the steps of a whole training, here those of "
    "`multistep`, compressed into the retraining, after 10 % of warm-up",
    multistep,
    _WARMUP,
)
LLR = Schedule(
    "linear learning-rate restarting (Zimmer et al. 2023, arXiv 2111.00843): 1 - p after 10 % of warm-up",
    linear,
    _WARMUP,
)
ALLR = Schedule(
    "adaptive linear learning-rate restarting (Zimmer et al. 2023, arXiv 2111.00843): LLR from a peak that is lower "
    "the less of the weights' norm pruning took, and for a shorter retraining",
    linear,
    _WARMUP,
    adaptive=True,
)


def rate(schedule: Schedule, step: int, steps: int, warmup: float) -> float:
    """The factor at `step` of `steps`: a linear rise over a share of the steps, then the schedule over the rest.

    That share is the schedule's own where it has one, else `warmup`.
    """
    rising = round((warmup if schedule.warmup is None else schedule.warmup) * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return schedule.factor((step - rising) / max(1, steps - rising))


def retraining(recipe: Recipe, drop: float, sparsity: float) -> Training:
    """The recipe's retraining after `sparsity` was pruned, at the peak that its schedule sets: see `adapted_peak`."""
    settings = recipe.retrain
    schedule: Schedule = resolve(pick(LR_SCHEDULES, settings.lr_schedule, "learning-rate schedule"))
    if not schedule.adaptive:
        return settings
    share = settings.epochs / max(settings.epochs, recipe.student.epochs, 1e-9)
    return settings.model_copy(update={"lr": adapted_peak(settings.lr, drop, sparsity, share)})


def adapted_peak(lr: float, drop: float, sparsity: float, share: float) -> float:
    """ALLR's peak: clip(lr * drop / sqrt(sparsity), lr * share, lr) (Zimmer et al. 2023, arXiv 2111.00843).

    `drop` is what pruning took, see `norm_drop`; at random it takes sqrt(sparsity). `share` is the retraining's length
    over the original training's, of which at most 1 counts.
    """
    taken = drop / math.sqrt(sparsity) if sparsity > 0 else 0.0
    return lr * min(max(taken, min(share, 1.0)), 1.0)


def norm_drop(before: float, after: float) -> float:
    """|w - w_pruned| / |w| from the weights' two norms; pruning is a projection, so that is sqrt(1 - (after/before)^2).

    Where the weights moved besides, it is the same with the difference's absolute value, as in the authors' code.
    """
    return math.sqrt(abs(1.0 - (after / before) ** 2)) if before > 0 else 0.0
