"""Ratios of two latencies with their intervals: resampled by passes and by rounds, in turns or measured apart.

A *pass* is one set of fresh processes, one for each engine; a *round* is an engine's turn in it. Rounds of one pass
share their processes, hence the layout of their memory and the luck of their start, so passes are the clusters that are
resampled first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeprune.report.uncertainty import LEAST_ROUNDS, LEVEL, Z

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
SEED = 0
Passes = Sequence[Sequence[float]]
"""For each pass the medians of its rounds, in order, in any one unit."""

_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)  # 97.5 %, df 1 to 10


@dataclass(frozen=True)
class Ratio:
    """A ratio of latencies; `interval` is None when there are too few rounds, and `reason` says so."""

    value: float
    interval: tuple[float, float] | None
    rounds: int
    passes: int
    reason: str | None


@dataclass(frozen=True)
class Floor:
    """How far an engine lies from itself: `value` is a share (0.02: 2 %), None with a `reason`."""

    value: float | None
    reason: str | None
    ratio: Ratio | None = None  # of the same engine's second process to the first


def ratio(numerator: Passes, denominator: Passes, *, expand: bool = True) -> Ratio:
    """The ratio of two engines that took turns: round i of one ran beside round i of the other, in every pass.

    The ratio is formed within each round, where a drift of the clock cancels. Its median is a pass's ratio, and the
    geometric mean of the passes' ratios is reported. The interval is the percentile bootstrap (Efron, Ann. Statist. 7,
    1979) over passes and, within each, over rounds (10,000 resamples, seed 0); never over inferences, which are not
    independent. One pass: over its rounds alone, so that what a new process changes is not in it.
    (Simulated, an engine against itself with processes that differ by 3 %: 73 in 100 such intervals lie beyond one
    percent, and 36 beyond the noise floor too; with two or three passes it is fewer than one.)

    The spread of two or three resampled passes is too small by far: simulated, with processes that differ, such a 95 %
    interval covers 53 to 84 %. So the passes' deviations are expanded by sqrt(P / (P - 1)) t / z, with Student's t at
    P - 1 degrees of freedom (Hesterberg, Am. Stat. 69, 2015), after which it covers 93 % and more. `expand=False`
    leaves that out.
    """
    import numpy as np

    pairs = zip(numerator, denominator, strict=True)
    ratios = [np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64) for top, bottom in pairs]
    return _finished([ratios], [1.0], expand)


def apart(numerator: Passes, denominator: Passes, *, expand: bool = True) -> Ratio:
    """The ratio of two engines that were measured in two sessions: nothing pairs, nothing cancels.

    Each side is the geometric mean of its passes' medians and is resampled by itself, as in `ratio`. What differs from
    session to session (temperature, a reboot, other settings) is in no resample: see `comparing`.
    """
    import numpy as np

    sides = [[np.asarray(rounds, dtype=np.float64) for rounds in side] for side in (numerator, denominator)]
    return _finished(sides, [1.0, -1.0], expand)


def noise_floor(twin: Passes | None, own: Passes, missing: str) -> Floor:
    """The spread of an engine against a second process of itself (`twin`), which took its turns in the same rounds.

    The resampling is that of `ratio`, not expanded for few passes: this is what was seen, not what may be. The floor is
    the end of the interval that lies further from 1, on a logarithmic scale, as a share. `missing` is the reason where
    there is no twin.
    """
    if twin is None:
        return Floor(None, missing)
    if [len(rounds) for rounds in twin] != [len(rounds) for rounds in own]:
        return Floor(None, "the second process did not run in every round")
    found = ratio(twin, own, expand=False)
    return Floor(reach(found), found.reason, found)


def reach(found: Ratio) -> float | None:
    """How far the further end of an interval lies from 1, as a share (1 / 1.25 and 1.25 are both 0.25), or None."""
    if found.interval is None:
        return None
    return math.exp(max(abs(math.log(edge)) for edge in found.interval)) - 1


def expansion(passes: int) -> float:
    """What the deviations of so many passes are multiplied by: sqrt(P / (P - 1)) t / z; 1 for a single one."""
    return math.sqrt(passes / (passes - 1)) * student(passes - 1) / Z if passes > 1 else 1.0


def student(df: int) -> float:
    """The 97.5 % quantile of Student's t: tabled to 10 degrees of freedom, above by its Cornish-Fisher series."""
    if df <= len(_STUDENT):
        return _STUDENT[df - 1]
    terms = (Z**3 + Z) / 4, (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96, (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384
    return Z + sum(term / float(df) ** power for power, term in enumerate(terms, start=1))


def _finished(sides: Sequence[Sequence[NDArray[np.float64]]], signs: Sequence[float], expand: bool) -> Ratio:
    """The product of the sides' locations, each to the power of its sign, with its resampled interval."""
    import numpy as np

    locations = [_location(side) for side in sides]
    value = math.exp(sum(sign * location for sign, location in zip(signs, locations, strict=True)))
    rounds, passes = min(sum(map(len, side)) for side in sides), min(map(len, sides))
    if rounds < LEAST_ROUNDS:
        return Ratio(value, None, rounds, passes, f"{rounds} rounds; an interval needs at least {LEAST_ROUNDS}")
    generator = np.random.default_rng(SEED)
    drawn = np.zeros(RESAMPLES)
    for sign, side in zip(signs, sides, strict=True):
        drawn += sign * _resampled(side, expand, generator)
    low, high = np.exp(np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    return Ratio(value, (float(low), float(high)), rounds, passes, None)


def _location(side: Sequence[NDArray[np.float64]]) -> float:
    """The mean over passes of the logarithm of the median over rounds."""
    import numpy as np

    return float(np.mean([math.log(np.median(rounds)) for rounds in side]))


def _resampled(
    side: Sequence[NDArray[np.float64]], expand: bool, generator: np.random.Generator
) -> NDArray[np.float64]:
    """`RESAMPLES` locations of one side: as many passes as it has, drawn with replacement, and rounds within each."""
    import numpy as np

    passes, center = len(side), _location(side)
    more = expansion(passes) - 1 if expand else 0.0
    total = np.zeros(RESAMPLES)
    for _ in range(passes):
        picked = generator.integers(0, passes, RESAMPLES)
        for number, rounds in enumerate(side):
            chosen = np.flatnonzero(picked == number)
            indices = generator.integers(0, len(rounds), (len(chosen), len(rounds)))
            moved = more * (math.log(np.median(rounds)) - center)
            total[chosen] += np.log(np.median(rounds[indices], axis=1)) + moved
    return total / passes
