"""What the cells of a study come to: mean and deviation over seeds, and differences of methods seed by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from edgeprune.report.uncertainty import LEVEL


@dataclass(frozen=True)
class Spread:
    """Values of one quantity over `n` seeds; `deviation` (n - 1 in the denominator) is None for a single one."""

    mean: float
    deviation: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """A mean of `n` paired differences; `interval` is None for a single pair, which says nothing of the spread."""

    mean: float
    interval: tuple[float, float] | None
    n: int


def spread(values: Sequence[float]) -> Spread | None:
    """Mean and standard deviation; None where there is no value."""
    if not values:
        return None
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def paired(one: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """`one - other` over the seeds that both have, with Student's 95 % interval of the mean; None without such a seed.

    mean +- t_{n-1} s / sqrt(n), s the deviation of the differences. Cells of one seed share data, start and teacher, so
    what these do to both methods alike cancels. The interval is about the seed's chance on this one data set.
    """
    differences = [one[seed] - other[seed] for seed in sorted(one.keys() & other.keys())]
    found = spread(differences)
    if found is None or found.deviation is None:
        return None if found is None else Difference(found.mean, None, found.n)
    half = t_quantile(found.n - 1) * found.deviation / math.sqrt(found.n)
    return Difference(found.mean, (found.mean - half, found.mean + half), found.n)


def t_quantile(degrees: int, level: float = LEVEL) -> float:
    """The t > 0 with P(|T| <= t) = `level` for Student's distribution with a whole number of degrees of freedom.

    Found by halving an interval of atan(t / sqrt(degrees)), in which the probability rises.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < level else (low, middle)
    return math.tan(low) * math.sqrt(degrees)


def _within(angle: float, degrees: int) -> float:
    """P(|T| <= sqrt(degrees) tan(angle)): the finite series of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4."""
    cosine, odd = math.cos(angle), degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for power in range(odd, degrees - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    inner = math.sin(angle) * total
    return 2 / math.pi * (angle + inner) if odd else inner
