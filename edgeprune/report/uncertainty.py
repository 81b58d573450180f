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
    """The binomial standard error of an accuracy `top1` (percent) seen on `images` images, in points."""
    p = top1 / 100
    return 100 * math.sqrt(p * (1 - p) / images)


def ratio(numerator: Sequence[float], denominator: Sequence[float], seed: int = 0) -> Ratio:
    """The ratio of two networks' latencies from their per-round medians (any one unit), with a bootstrap interval.

    Rounds of equal number are taken as interleaved: round i of one network ran beside round i of the other, so the
    ratio is formed within each round, where a drift of the clock cancels, and its median is reported. Otherwise it is
    the ratio of the two medians and the rounds are drawn independently. The interval is the percentile bootstrap
    (Efron, Ann. Statist. 7, 1979) over rounds, not over inferences: those within a round are not independent.
    """
    import numpy as np

    top, bottom = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    rounds = min(len(top), len(bottom))
    paired = len(top) == len(bottom)
    value = float(np.median(top / bottom)) if paired else float(np.median(top) / np.median(bottom))
    if rounds < LEAST_ROUNDS:
        return Ratio(value, None, rounds, f"{rounds} rounds; an interval needs at least {LEAST_ROUNDS}")
    generator = np.random.default_rng(seed)
    drawn = _medians(top / bottom, generator) if paired else _medians(top, generator) / _medians(bottom, generator)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Ratio(value, (float(low), float(high)), rounds, None)


def verdict(interval: tuple[float, float] | None) -> str:
    """`faster` or `slower` when the whole interval lies at least `LEAST_EFFECT` away from 1, else `within noise`."""
    if interval is not None and interval[1] <= 1 - LEAST_EFFECT:
        return "faster"
    if interval is not None and interval[0] >= 1 + LEAST_EFFECT:
        return "slower"
    return "within noise"


def quantiles(values: Sequence[float], levels: Sequence[float]) -> tuple[float, ...]:
    """The inverse of the empirical distribution function: the least observed value v with F(v) >= level, per level."""
    import numpy as np

    return tuple(float(v) for v in np.quantile(np.asarray(values, dtype=np.float64), levels, method="inverted_cdf"))


def _medians(values: NDArray[np.float64], generator: np.random.Generator) -> NDArray[np.float64]:
    """The medians of `RESAMPLES` samples drawn with replacement from `values`; shape (RESAMPLES,)."""
    import numpy as np

    drawn = generator.integers(0, len(values), size=(RESAMPLES, len(values)))
    return np.asarray(np.median(values[drawn], axis=1), dtype=np.float64)
