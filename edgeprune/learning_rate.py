"""Learning-rate schedules: pure functions of a training's progress p, from 0 to 1, to a factor of its peak rate."""

import math
from collections.abc import Callable

Schedule = Callable[[float], float]


def constant(p: float) -> float:
    """The peak rate throughout."""
    return 1.0


def cosine(p: float) -> float:
    """(1 + cos(pi p)) / 2 (Loshchilov and Hutter 2017, SGDR, equation 5, without restarts)."""
    return 0.5 * (1.0 + math.cos(math.pi * p))


def linear(p: float) -> float:
    """1 - p: linear decay to zero, the LLR of Zimmer et al. 2023 ("Back to Basics")."""
    return 1.0 - p


def multistep(p: float) -> float:
    """x 0.2 after 40, 60 and 90 % of the training: epochs 20, 30 and 45 of 50 (COLT's recipe, arXiv 2212.12770)."""
    return float(0.2 ** sum(p >= milestone for milestone in (0.4, 0.6, 0.9)))


def rate(schedule: Schedule, step: int, steps: int, warmup: float) -> float:
    """The factor at `step` of `steps`: a linear rise over the first `warmup` share, then the schedule over the rest."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    return schedule((step - rising) / max(1, steps - rising))
