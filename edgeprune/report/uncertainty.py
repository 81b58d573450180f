"""How sure the numbers are: intervals for accuracies and for ratios of latencies, and the verdict drawn from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LEVEL = 0.95
Z = 1.959963984540054  # the normal quantile at (1 + LEVEL) / 2
LEAST_ROUNDS = 6  # n rounds agree by chance on one direction with 2 / 2^n: six are the fewest below 1 - LEVEL
LEAST_EFFECT = 0.01  # below one percent a difference is not worth a claim, however often it repeats
RESAMPLES = 10_000


@dataclass(frozen=True)
class Ratio:
    """A ratio of latencies; `interval` is None when there are too few rounds, and `reason` says so."""

    value: float
    interval: tuple[float, float] | None
    rounds: int
    reason: str | None


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


def ratio(numerator: Sequence[float], denominator: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of two networks' latencies from their per-round medians (any one unit), with a bootstrap interval.

    Both are of one session, so as many: round i of one network ran beside round i of the other. The ratio is formed
    within each round, where a drift of the clock cancels, and its median is reported. The interval is the percentile
    bootstrap (Efron, Ann. Statist. 7, 1979) over rounds, not over inferences: those within a round are not independent.
    """
    import numpy as np

    ratios = np.asarray(numerator, dtype=np.float64) / np.asarray(denominator, dtype=np.float64)
    value, rounds = float(np.median(ratios)), len(ratios)
    if rounds < LEAST_ROUNDS:
        return Ratio(value, None, rounds, f"{rounds} rounds; an interval needs at least {LEAST_ROUNDS}")
    drawn = _medians(ratios, np.random.default_rng(seed))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(value, (float(low), float(high)), rounds, None)


def verdict(interval: tuple[float, float] | None) -> str:
    """`faster` or `slower` when the whole interval lies at least `LEAST_EFFECT` away from 1, else `within noise`.

    Without an interval it is `not known`: too little was measured to say even that.
    """
    if interval is None:
        return "not known"
    if interval[1] <= 1 - LEAST_EFFECT:
        return "faster"
    return "slower" if interval[0] >= 1 + LEAST_EFFECT else "within noise"


def quantiles(values: Sequence[float], levels: Sequence[float]) -> tuple[float, ...]:
    """The inverse of the empirical distribution function: the least observed value v with F(v) >= level, per level."""
    import numpy as np

    return tuple(float(v) for v in np.quantile(np.asarray(values, dtype=np.float64), levels, method="inverted_cdf"))


def _medians(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """The medians of `RESAMPLES` samples drawn with replacement from `values`; shape (RESAMPLES,)."""
    import numpy as np

    drawn = generator.integers(0, len(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(values[drawn], axis=1), dtype=np.float64)
