"""How sure the numbers are: intervals for accuracies and for ratios of latencies, and the verdict drawn from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

LEVEL = 0.95
Z = 1.959963984540054  # the normal quantile at (1 + LEVEL) / 2
LEAST_ROUNDS = 6  # n rounds agree by chance on one direction with 2 / 2^n: six are the fewest below 1 - LEVEL
LEAST_EFFECT = 0.01  # below one percent a difference is not worth a claim, however often it repeats


def wilson(top1: float, images: int) -> tuple[float, float]:
    """The 95 % score interval of an accuracy `top1` (percent) seen on `images` images, in percent.

    Wilson, JASA 22 (1927): unlike the normal interval it stays within 0 to 100 and has a width at 100 %.
    """
    p = top1 / 100
    shrink = 1 + Z * Z / images
    center = (p + Z * Z / (2 * images)) / shrink
    half = Z * math.sqrt(p * (1 - p) / images + Z * Z / (4 * images * images)) / shrink
    return 100 * max(0.0, min(p, center - half)), 100 * min(1.0, max(p, center + half))


def standard_error(top1: float, images: int) -> float:
    """The standard error of an accuracy `top1` (percent) seen on `images` images, in points; never zero.

    The larger of the binomial error of what was seen and of what Agresti and Coull (Am. Stat. 52, 1998) put in its
    place, where Z^2 images are added of which half are right: 100 % of ten images is not known without error.
    """
    p, more = top1 / 100, images + Z * Z
    adjusted = (p * images + Z * Z / 2) / more
    return 100 * math.sqrt(max(p * (1 - p) / images, adjusted * (1 - adjusted) / more))


def verdict(interval: tuple[float, float] | None, floor: float | None = None) -> str:
    """`faster` or `slower` when the whole interval of a ratio lies further from 1 than a claim takes.

    How far is `claimable`, a share: 0.25 asks for an interval below 1 / 1.25 or above 1.25. Else `within noise`;
    `not known` without an interval.
    """
    if interval is None:
        return "not known"
    least = 1 + claimable(floor)
    if interval[1] <= 1 / least:
        return "faster"
    return "slower" if interval[0] >= least else "within noise"


def claimable(floor: float | None) -> float:
    """The least difference that is claimed: what an engine lies from itself, or `LEAST_EFFECT` where that is more."""
    return max(LEAST_EFFECT, floor or 0.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two networks are as often right, from the images that only one of them got.

    McNemar, Psychometrika 12 (1947), by the binomial distribution: of the images that one alone answers rightly, each
    is as likely to be either's.
    """
    n, few = only_first + only_second, min(only_first, only_second)
    tail = ways = 1  # of k of n images, for k = 0
    for k in range(few):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return float(min(Fraction(1), Fraction(2 * tail, 2**n)))


def mcnemar_at_most(differing: int, difference: int) -> float:
    """An upper bound of `mcnemar` without labels: `differing` answers differ, and one has `difference` more right.

    Of the answers that differ some may be wrong in both. The p-value grows with the images that only one got right, so
    the bound takes all of them (less one where the parities disagree). More of a difference than differing answers is a
    `ValueError`.
    """
    gap = abs(difference)
    if gap > differing:
        raise ValueError(f"{differing} answers differ, which does not make a difference of {gap}")
    most = differing - (differing - gap) % 2
    return mcnemar((most + gap) // 2, (most - gap) // 2)


def paired_error(differing: int, difference: int, images: int) -> float:
    """The standard error (points) of a difference of accuracies on the same images; an upper bound, and never zero.

    With b and c images that only one network got right it is sqrt(b + c - (b - c)^2 / n) / n (Agresti, Categorical Data
    Analysis, 2013, 11.1); b + c is at most `differing`, b - c is `difference`. One image is added to each of b and c.
    """
    return 100 * math.sqrt(differing + 2 - difference**2 / images) / images


def quantiles(values: Sequence[float], levels: Sequence[float]) -> tuple[float, ...]:
    """The inverse of the empirical distribution function: the least observed value v with F(v) >= level, per level."""
    import numpy as np

    return tuple(float(v) for v in np.quantile(np.asarray(values, dtype=np.float64), levels, method="inverted_cdf"))
