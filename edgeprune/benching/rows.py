"""From what was timed to the rows of the table: medians, ratios with their intervals, and whether the answers agree."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.benching.asked import REFERENCE
from edgeprune.benching.entrants import Entrant
from edgeprune.benching.judging import sameness
from edgeprune.report.bootstrap import Floor, Ratio, noise_floor, ratio
from runtimes.latency import pooled, summary_ms

TOLERANCE = 1e-4
"""Largest accepted max|a - b| / max|b| of the answers a to those b of the reference on the same file."""


def rows(entrants: Sequence[Entrant], threads: int) -> list[dict[str, Any]]:
    """A row for each entrant but the twin, in order.

    The ratios are formed round by round, because rounds of equal number ran beside each other, and resampled by passes
    and rounds, see `edgeprune.report.bootstrap`. Above 1 means that the row's engine is the faster one.
    """
    own = [entrant for entrant in entrants if not entrant.is_twin]
    return [_row(entrant, own, threads) for entrant in own]


def floor_of(entrants: Sequence[Entrant]) -> Floor:
    """How far the reference's dense network lies from a second process of itself in the same turns."""
    twin = next((entrant for entrant in entrants if entrant.is_twin), None)
    return noise_floor(twin.medians if twin else None, _dense(entrants).medians, "there was no twin")


def alone(entrants: Sequence[Entrant], by_itself: Entrant, floor: Floor) -> dict[str, Any]:
    """The reference's dense network with no other engine on the machine, and what being in the benchmark does to it.

    `ratio` is its latency in the benchmark over that alone, pass by pass, since it was timed alone before and after
    each; the verdict is one of `judging.sameness`.
    """
    found = ratio(_dense(entrants).medians, by_itself.medians)
    return {
        "runtime": REFERENCE,
        "latency_ms": _latency_ms(by_itself),
        "ratio": found.value,
        "interval": _edges(found),
        "reason": found.reason or floor.reason,
        "verdict": sameness(found.interval, floor.value),
    }


def difference(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """max|a - b| / max|b|; infinite where an answer is not finite, or where all of `expected` is 0 and `found` not."""
    if found.shape != expected.shape or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    away = float(np.abs(found.astype(np.float64) - expected.astype(np.float64)).max())
    largest = float(np.abs(expected).max())
    return away / largest if largest else 0.0 if away == 0 else float("inf")


def _row(entrant: Entrant, own: Sequence[Entrant], threads: int) -> dict[str, Any]:
    subject, dense = entrant.subject, _dense(own)
    speedup = ratio(dense.medians, entrant.medians) if entrant is not dense else None
    alike = [one for one in own if one.subject is subject and one is not entrant]
    return {
        "network": subject.network,
        "sparsity": subject.sparsity,
        "zeros": subject.zeros,
        "macs": subject.macs,
        "nonzero_macs": subject.nonzero_macs,
        "threads": threads,
        "runtime": entrant.runtime,
        "runtime_version": entrant.version,
        "kernels": entrant.kernels,
        "latency_ms": _latency_ms(entrant),
        "round_medians_ms": entrant.medians,
        "load_ms": float(np.median([loaded["load_ms"] for loaded in entrant.loaded])),
        "peak_memory_mb": entrant.peak_mb,
        "idle_cpu": entrant.idle_cpu,
        "other_cores": float(np.median(entrant.other_cores)) if entrant.other_cores else None,
        "speedup": speedup.value if speedup else 1.0,
        "speedup_interval": _edges(speedup) if speedup else None,
        "speedup_reason": speedup.reason if speedup else "it is what the others are compared with",
        "against": {one.runtime: _against(one, entrant) for one in alike},
        "agreement": _agreement(entrant, own),
    }


def _dense(entrants: Sequence[Entrant]) -> Entrant:
    """The reference's own first network: the dense one, or the only file."""
    return next(entrant for entrant in entrants if entrant.runtime == REFERENCE and not entrant.is_twin)


def _against(other: Entrant, entrant: Entrant) -> dict[str, Any]:
    """How many times as long `other` takes for the same file."""
    found = ratio(other.medians, entrant.medians)
    return {"ratio": found.value, "interval": _edges(found), "reason": found.reason}


def _edges(found: Ratio) -> list[float] | None:
    return list(found.interval) if found.interval else None


def _latency_ms(entrant: Entrant) -> dict[str, Any]:
    """The summary of all samples, their quartiles, how many there are, and the least and largest median of a round."""
    samples = pooled(entrant.samples) / 1e6
    low, high = (float(value) for value in np.percentile(samples, [25, 75]))
    medians = [value for one in entrant.medians for value in one]
    return {
        **summary_ms(entrant.samples),
        "p25": low,
        "p75": high,
        "n": len(samples),
        "rounds": len(medians),
        "least_round": min(medians),
        "largest_round": max(medians),
    }


def _agreement(entrant: Entrant, own: Sequence[Entrant]) -> dict[str, Any]:
    """How far its answers are from the reference's on the same file; None with a reason where there is nothing."""
    like = next(one for one in own if one.runtime == REFERENCE and one.subject is entrant.subject)
    if entrant is like or entrant.answers is None or like.answers is None:
        why = "it is what the others are compared with" if entrant is like else "it answers nothing"
        return {"difference": None, "tolerance": TOLERANCE, "images": 0, "agrees": None, "reason": why}
    found, expected = np.load(entrant.answers), np.load(like.answers)
    away = difference(found, expected)
    finite = away if np.isfinite(away) else None
    return {
        "difference": finite,
        "tolerance": TOLERANCE,
        "images": len(found),
        "agrees": away <= TOLERANCE,
        "reason": None if finite is not None else "an answer is not finite, or has another shape",
    }
