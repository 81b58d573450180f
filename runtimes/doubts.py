"""The ways in which a measurement may be wrong, one function each: the numbers go in, a sentence or None comes out."""

from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np

from runtimes.latency import Rounds, modified_z_scores, pooled, round_medians_ns, summary_ms
from runtimes.records import Doubt, Workload

_OUTLIER_Z = 3.5  # Iglewicz and Hoaglin (1993)
_OUTLIER_SHARE = 0.05  # latency always leans to the right; above this share p90 is no longer the engine's own
_APART = 0.10  # two numbers further apart than this are not the same
_ENQUEUE_SHARE = 0.8  # of the GPU's time; above, the GPU waits for the host between two kernels
_LITTLE_MB = 3 * 1024  # MiB


class Evidence(NamedTuple):
    """What the doubts look at. An empty list or mapping: it could not be read."""

    workload: Workload
    rounds: Rounds
    cores: int
    other_cores: Sequence[float]  # for each round, processors kept busy by anybody else
    clocks_mhz: Sequence[float]  # for each round, right after it
    throttling: Sequence[Mapping[str, int]]  # before and after
    non_finite: int = 0  # logits that are not a number
    engine: Mapping[str, Any] = {}  # of a compiled engine, see `Measurement.engine`
    gpu_rounds: Rounds = ()  # the GPU's own times


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


def little_memory(evidence: Evidence) -> Optional[str]:
    """The machine had little memory left when the engine was built."""
    left = evidence.engine.get("build", {}).get("available_mb")
    if left is None or left >= _LITTLE_MB:
        return None
    return (
        "only {} MiB were available when the engine was built, and TensorRT leaves kernels out without a word: free "
        "some, delete the engine and measure again".format(left)
    )


DOUBTS: Dict[str, Callable[[Evidence], Optional[str]]] = {
    "too_few_samples": too_few_samples,
    "outliers": outliers,
    "slow_first_run": slow_first_run,
    "drift": drift,
    "clock_change": clock_change,
    "throttled": throttled,
    "other_load": other_load,
    "non_finite": non_finite,
    "cuda_graph": cuda_graph,
    "enqueue-bound": enqueue_bound,  # as trtexec's, see `runtimes.trt_complaints`
    "little_memory": little_memory,
}


def doubts(evidence: Evidence) -> List[Doubt]:
    """All that apply, in the order of the table, then what the builder complained of when it made the engine."""
    said = [(code, doubt(evidence)) for code, doubt in DOUBTS.items()]
    of_build = evidence.engine.get("build", {}).get("warnings", [])
    return [Doubt(code, message) for code, message in said if message] + [
        Doubt(entry["code"], "when the engine was built: {}".format(entry["message"])) for entry in of_build
    ]
