"""The ways in which a measurement may be wrong, one function each: the numbers go in, a sentence or None comes out."""

from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from runtimes.latency import Rounds, modified_z_scores, pooled, round_medians_ns
from runtimes.records import Doubt, Workload

_OUTLIER_Z = 3.5  # Iglewicz and Hoaglin (1993)
_OUTLIER_SHARE = 0.05  # latency always leans to the right; above this share p90 is no longer the engine's own
_APART = 0.10  # two numbers further apart than this are not the same


class Evidence(NamedTuple):
    """What the doubts look at. An empty list or mapping: it could not be read."""

    workload: Workload
    rounds: Rounds
    cores: int
    other_cores: Sequence[float]  # for each round, processors kept busy by anybody else
    clocks_mhz: Sequence[float]  # for each round, right after it
    throttling: Sequence[Mapping[str, int]]  # before and after
    non_finite: int = 0  # logits that are not a number


def too_few_samples(evidence: Evidence) -> Optional[str]:
    """Fewer than the workload asks for."""
    n = sum(map(len, evidence.rounds))
    if n >= evidence.workload.min_samples:
        return None
    return (
        "{} latencies, fewer than the {} asked for: give it more or longer rounds; p99 is close to the maximum".format(
            n, evidence.workload.min_samples
        )
    )


def outliers(evidence: Evidence) -> Optional[str]:
    """More than one in twenty samples has a modified Z-score above 3.5."""
    scores = modified_z_scores(pooled(evidence.rounds))
    found = int((np.abs(scores) > _OUTLIER_Z).sum())
    if found <= _OUTLIER_SHARE * len(scores):
        return None
    return "{} of {} latencies are outliers (modified Z-score above {}): compare medians, not means".format(
        found, len(scores), _OUTLIER_Z
    )


def slow_first_run(evidence: Evidence) -> Optional[str]:
    """The first round is slower than all the others."""
    first, *later = round_medians_ns(evidence.rounds)
    if len(later) < 2 or first <= (1 + _APART) * max(later):
        return None
    return "the first round's median is {:.0%} above that of every later one: warm up for longer than {} s".format(
        first / max(later) - 1, evidence.workload.warmup_s
    )


def drift(evidence: Evidence) -> Optional[str]:
    """The medians of the rounds after the first are not the same."""
    later = round_medians_ns(evidence.rounds)[1:]
    if len(later) < 2 or max(later) <= (1 + _APART) * min(later):
        return None
    return "the medians of the rounds range from {:.3f} to {:.3f} ms: something changed while it was measured".format(
        min(later) / 1e6, max(later) / 1e6
    )


def clock_change(evidence: Evidence) -> Optional[str]:
    """The clock was not the same after each round."""
    clocks = evidence.clocks_mhz
    if not clocks or max(clocks) <= (1 + _APART) * min(clocks):
        return None
    return "the clock ranged from {:.0f} to {:.0f} MHz: fix it (governor 'performance') before comparing".format(
        min(clocks), max(clocks)
    )


def throttled(evidence: Evidence) -> Optional[str]:
    """The machine slowed itself down in the meantime, or had already."""
    if len(evidence.throttling) != 2:
        return None
    before, after = evidence.throttling
    if after.get("core_throttle_count", 0) > before.get("core_throttle_count", 0):
        return "the processor throttled itself while it was measured: let it cool down and measure again"
    if any(marks.get("get_throttled", 0) & 0xF for marks in (before, after)):  # bits 0 to 3: now; 16 to 19: since boot
        return "the firmware reports under-voltage or throttling: check the power supply and the cooling"
    return None


def other_load(evidence: Evidence) -> Optional[str]:
    """Somebody else used a good part of the processors."""
    busy = float(np.mean(evidence.other_cores)) if evidence.other_cores else 0.0
    if busy <= _APART * evidence.cores:
        return None
    return "other work kept {:.1f} of {} cores busy during the rounds: stop it and measure again".format(
        busy, evidence.cores
    )


def non_finite(evidence: Evidence) -> Optional[str]:
    """Some logits are not numbers."""
    if not evidence.non_finite:
        return None
    return "{} logits are infinite or not a number: the network overflows on this runtime".format(evidence.non_finite)


DOUBTS: Dict[str, Callable[[Evidence], Optional[str]]] = {
    "too_few_samples": too_few_samples,
    "outliers": outliers,
    "slow_first_run": slow_first_run,
    "drift": drift,
    "clock_change": clock_change,
    "throttled": throttled,
    "other_load": other_load,
    "non_finite": non_finite,
}


def doubts(evidence: Evidence) -> List[Doubt]:
    """All that apply, in the order of the table."""
    said = [(code, doubt(evidence)) for code, doubt in DOUBTS.items()]
    return [Doubt(code, message) for code, message in said if message]
