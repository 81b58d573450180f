"""What raw latencies come to. Pure functions of numbers."""

from typing import Dict, List, Sequence

import numpy as np

Rounds = Sequence[Sequence[int]]  # nanoseconds, one sequence for each round


def pooled(rounds: Rounds) -> np.ndarray:
    """All samples of all rounds in order, float64 nanoseconds."""
    return np.asarray([sample for samples in rounds for sample in samples], dtype=np.float64)


def summary_ms(rounds: Rounds) -> Dict[str, float]:
    """Median, p90, p99, mean, min and max in milliseconds over all rounds.

    Percentiles interpolate linearly between order statistics (Hyndman and Fan 1996, type 7): the p-th of n sorted
    samples lies at position p / 100 * (n - 1), counted from 0. That is numpy's default.
    """
    ms = pooled(rounds) / 1e6
    median, p90, p99 = (float(value) for value in np.percentile(ms, [50, 90, 99]))
    return {
        "median": median,
        "p90": p90,
        "p99": p99,
        "mean": float(ms.mean()),
        "min": float(ms.min()),
        "max": float(ms.max()),
    }


def throughput_ips(rounds: Rounds, batch: int) -> float:
    """Images per second of engine time: every sample answers `batch` images."""
    samples = pooled(rounds)
    return float(batch * len(samples) / (max(samples.sum(), 1.0) / 1e9))


def round_medians_ns(rounds: Rounds) -> List[float]:
    """The median of each round, in nanoseconds."""
    return [float(np.median(samples)) for samples in rounds]


def modified_z_scores(samples: np.ndarray) -> np.ndarray:
    """How far each sample lies from the median: M_i = 0.6745 (x_i - median) / MAD, MAD = median |x_i - median|.

    Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993), who call |M_i| > 3.5 an outlier. Where more than
    half of the samples are equal the MAD is 0; then 1.253314 times the mean absolute deviation takes the place of
    MAD / 0.6745, and where that is 0 too no sample is an outlier.
    """
    deviations = samples - np.median(samples)
    mad = float(np.median(np.abs(deviations)))
    scale = mad / 0.6745 if mad > 0 else 1.253314 * float(np.abs(deviations).mean())
    return deviations / scale if scale > 0 else np.zeros_like(deviations)
