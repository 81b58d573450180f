"""The ways in which a measurement may be wrong, one function each: the numbers go in, a sentence or None comes out."""

from typing import Callable, Dict, List, Optional

import numpy as np

from runtimes.evidence import APART, Evidence
from runtimes.latency import modified_z_scores, pooled, round_medians_ns, summary_ms
from runtimes.machine_doubts import (
    clock_change,
    little_memory,
    not_restored,
    other_load,
    settings_left,
    slowed_down,
    stand_in,
    swapping,
    throttled,
    unpinned,
)
from runtimes.records import Doubt

_OUTLIER_Z = 3.5  # Iglewicz and Hoaglin (1993)
_OUTLIER_SHARE = 0.05  # latency always leans to the right; above this share p90 is no longer the engine's own
_ENQUEUE_SHARE = 0.8  # of the GPU's time; above, the GPU waits for the host between two kernels
_MLPERF_S = 600.0  # min_duration of SingleStream in MLPerf's loadgen/mlperf.conf


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
    """In some pass the first round is slower than all the others."""
    most = 1.0
    for first, *later in _medians_of_passes(evidence):
        if len(later) >= 2:
            most = max(most, first / max(later))
    if most <= 1 + APART:
        return None
    return "the first round's median is {:.0%} above that of every later one: warm up for longer than {} s".format(
        most - 1, evidence.workload.warmup_s
    )


def drift(evidence: Evidence) -> Optional[str]:
    """In some pass the medians of the rounds after the first are not the same."""
    passes = [later for _, *later in _medians_of_passes(evidence) if len(later) >= 2]
    apart = max(passes, key=lambda later: max(later) / min(later), default=[1.0])
    if max(apart) <= (1 + APART) * min(apart):
        return None
    return "the medians of the rounds range from {:.3f} to {:.3f} ms: something changed while it was measured".format(
        min(apart) / 1e6, max(apart) / 1e6
    )


def passes_differ(evidence: Evidence) -> Optional[str]:
    """The medians of the passes are not the same."""
    size = evidence.workload.rounds
    parts = [evidence.rounds[start : start + size] for start in range(0, len(evidence.rounds), size)]
    medians = [summary_ms(part)["median"] for part in parts]
    if max(medians) <= (1 + APART) * min(medians):
        return None
    return (
        "the medians of the passes range from {:.3f} to {:.3f} ms: each process of this engine is as fast as chance "
        "has it: take more passes".format(min(medians), max(medians))
    )


def _medians_of_passes(evidence: Evidence) -> List[List[float]]:
    medians, size = round_medians_ns(evidence.rounds), evidence.workload.rounds
    return [medians[start : start + size] for start in range(0, len(medians), size)]


def non_finite(evidence: Evidence) -> Optional[str]:
    """Some logits are not numbers."""
    if not evidence.non_finite:
        return None
    return "{} logits are infinite or not a number: the network overflows on this runtime".format(evidence.non_finite)


def cuda_graph(evidence: Evidence) -> Optional[str]:
    """A CUDA graph was asked for, and the engine ran without."""
    asked = evidence.workload.options.get("cuda_graph") == "1"
    how = evidence.engine.get("cuda_graph", "used")
    return "measured without the CUDA graph that was asked for: {}".format(how) if asked and how != "used" else None


def enqueue_bound(evidence: Evidence) -> Optional[str]:
    """Handing a run over takes the host nearly as long as the run takes the GPU, whose time then has gaps in it."""
    handed = evidence.engine.get("enqueue_ms")
    if not handed or not evidence.gpu_rounds:
        return None
    on_gpu = summary_ms(evidence.gpu_rounds)["median"]
    if handed["median"] <= _ENQUEUE_SHARE * on_gpu:
        return None
    advice = "a larger batch" if evidence.engine.get("cuda_graph") == "used" else "--option cuda_graph=1"
    return "the host takes {:.3f} ms to hand over a run of {:.3f} ms on the GPU, which waits for it: use {}".format(
        handed["median"], on_gpu, advice
    )


def builds_differ(evidence: Evidence) -> Optional[str]:
    """Engines of one network, and not all of them run layers sparse."""
    if len(set(evidence.verdicts)) <= 1:
        return None
    return "whether layers run sparse differs from engine to engine ({}): the receipt is of the first".format(
        ", ".join(evidence.verdicts)
    )


def short(evidence: Evidence) -> Optional[str]:
    """Not timed for the time that MLPerf asks for."""
    work = evidence.workload
    if work.protocol != "mlperf-like" or evidence.timed_s >= _MLPERF_S:
        return None
    rounds = work.passes * work.rounds
    full = sum(map(len, evidence.rounds)) >= work.max_samples // rounds * rounds
    return "timed for {:.0f} s, not for the {:.0f} s of MLPerf's single stream: {}".format(
        evidence.timed_s,
        _MLPERF_S,
        "the {} samples that are kept were full".format(work.max_samples) if full else "the rounds were shortened",
    )


def watch_stopped(evidence: Evidence) -> Optional[str]:
    """The watch ended before the measurement."""
    why = evidence.watch_stopped
    return "power, clocks and temperatures are not of all rounds: {}".format(why) if why else None


def not_answered(evidence: Evidence) -> Optional[str]:
    """The engine was timed, and then did not answer the images."""
    why = evidence.unanswered
    return "the images were not answered, so that the accuracy is not known: {}".format(why) if why else None


DOUBTS: Dict[str, Callable[[Evidence], Optional[str]]] = {
    "too_few_samples": too_few_samples,
    "outliers": outliers,
    "slow_first_run": slow_first_run,
    "drift": drift,
    "passes_differ": passes_differ,
    "builds_differ": builds_differ,
    "short": short,
    "clock_change": clock_change,
    "throttled": throttled,
    "slowed_down": slowed_down,
    "other_load": other_load,
    "non_finite": non_finite,
    "cuda_graph": cuda_graph,
    "enqueue-bound": enqueue_bound,  # as trtexec's, see `runtimes.trt_complaints`
    "little_memory": little_memory,
    "stand_in": stand_in,
    "unpinned": unpinned,
    "swapping": swapping,
    "watch_stopped": watch_stopped,
    "not_answered": not_answered,
    "not_restored": not_restored,
    "settings_left": settings_left,
}


def doubts(evidence: Evidence) -> List[Doubt]:
    """All that apply, in the order of the table, then what the builder complained of when it made the engines."""
    said = [(code, doubt(evidence)) for code, doubt in DOUBTS.items()]
    of_builds = dict.fromkeys((entry["code"], entry["message"]) for entry in evidence.complaints)
    return [Doubt(code, message) for code, message in said if message] + [
        Doubt(code, "when the engine was built: {}".format(message)) for code, message in of_builds
    ]
