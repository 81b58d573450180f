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
_MLPERF_S = 600.0  # min_duration of SingleStream in MLPerf's loadgen/mlperf.conf
_SWAPPED = 1 << 20  # bytes


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
    timed_s: float = 0.0  # of all rounds together, by the worker's clock
    verdicts: Sequence[str] = ()  # of each pass's receipt
    complaints: Sequence[Mapping[str, str]] = ()  # code and message: what the builder said of each engine
    facts: Mapping[str, Any] = {}  # about the machine, see `Measurement.facts`
    settings: Optional[Mapping[str, Any]] = None  # see `Measurement.settings`


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
    if most <= 1 + _APART:
        return None
    return "the first round's median is {:.0%} above that of every later one: warm up for longer than {} s".format(
        most - 1, evidence.workload.warmup_s
    )


def drift(evidence: Evidence) -> Optional[str]:
    """In some pass the medians of the rounds after the first are not the same."""
    passes = [later for _, *later in _medians_of_passes(evidence) if len(later) >= 2]
    apart = max(passes, key=lambda later: max(later) / min(later), default=[1.0])
    if max(apart) <= (1 + _APART) * min(apart):
        return None
    return "the medians of the rounds range from {:.3f} to {:.3f} ms: something changed while it was measured".format(
        min(apart) / 1e6, max(apart) / 1e6
    )


def passes_differ(evidence: Evidence) -> Optional[str]:
    """The medians of the passes are not the same."""
    size = evidence.workload.rounds
    parts = [evidence.rounds[start : start + size] for start in range(0, len(evidence.rounds), size)]
    medians = [summary_ms(part)["median"] for part in parts]
    if max(medians) <= (1 + _APART) * min(medians):
        return None
    return (
        "the medians of the passes range from {:.3f} to {:.3f} ms: each process of this engine is as fast as chance "
        "has it: take more passes".format(min(medians), max(medians))
    )


def _medians_of_passes(evidence: Evidence) -> List[List[float]]:
    medians, size = round_medians_ns(evidence.rounds), evidence.workload.rounds
    return [medians[start : start + size] for start in range(0, len(medians), size)]


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
    if after.get("over_current_events", 0) > before.get("over_current_events", 0):
        return "the board slowed itself down for the current it drew: choose a lower power mode or a better supply"
    return None


def slowed_down(evidence: Evidence) -> Optional[str]:
    """The kernel holds a clock down to cool something, before or after."""
    told = evidence.facts.get("throttled")
    states = [told.get(moment) or {} for moment in ("before", "after")] if isinstance(told, Mapping) else []
    marks = evidence.throttling[-1] if evidence.throttling else {}
    by = next((state["now"] for state in states if state.get("now") not in (None, "no")), None)
    if by is None or marks.get("get_throttled", 0) & 0xF:  # that has been told
        return None
    return "it was slowed down by {}: let it cool down and measure again".format(by)


def other_load(evidence: Evidence) -> Optional[str]:
    """Somebody else used a good part of the processors."""
    busy = float(np.mean(evidence.other_cores)) if evidence.other_cores else 0.0
    if busy <= _APART * evidence.cores:
        return None
    names = _at_last(evidence, "busy_programs")
    return "other work{} kept {:.1f} of {} cores busy during the rounds: stop it and measure again".format(
        " ({} at the end)".format(", ".join(names)) if names else "", busy, evidence.cores
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


def stand_in(evidence: Evidence) -> Optional[str]:
    """What was measured is not the machine that it says it is."""
    what = evidence.facts.get("stand_in")
    return "no property of a real board: this is {}".format(what) if what else None


def unpinned(evidence: Evidence) -> Optional[str]:
    """A Jetson's GPU may choose its clock."""
    pinned = _at_last(evidence, "clocks_pinned")
    if not isinstance(pinned, Mapping) or pinned.get("gpu") is not False or not evidence.facts.get("l4t"):
        return None
    clock = _at_last(evidence, "gpu_clock_mhz")
    may = " from {min:.0f} to {max:.0f} MHz".format(**clock) if _has_range(clock) else ""
    return "the GPU's clock may range{}: measure with --lock-clocks, or run `sudo jetson_clocks` first".format(may)


def swapping(evidence: Evidence) -> Optional[str]:
    """Memory was moved to the swap meanwhile."""
    used = evidence.facts.get("swap_used_bytes")
    if not isinstance(used, Mapping) or None in (used["before"], used["after"]):
        return None
    grown = used["after"] - used["before"]
    if grown < _SWAPPED:
        return None
    return "{:.0f} MiB went to the swap while it was measured: free some memory and measure again".format(grown / 2**20)


def not_restored(evidence: Evidence) -> Optional[str]:
    """A setting of the board is not what it was before."""
    problems = (evidence.settings or {}).get("problems")
    return "the board is not as it was before: {}".format("; ".join(problems)) if problems else None


def _at_last(evidence: Evidence, name: str) -> Any:
    """A fact that is read before and after, as it was after."""
    found = evidence.facts.get(name)
    return found.get("after") if isinstance(found, Mapping) and "after" in found else found


def _has_range(clock: Any) -> bool:
    return isinstance(clock, Mapping) and all(clock.get(name) is not None for name in ("min", "max"))


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
    "not_restored": not_restored,
}


def doubts(evidence: Evidence) -> List[Doubt]:
    """All that apply, in the order of the table, then what the builder complained of when it made the engines."""
    said = [(code, doubt(evidence)) for code, doubt in DOUBTS.items()]
    of_builds = dict.fromkeys((entry["code"], entry["message"]) for entry in evidence.complaints)
    return [Doubt(code, message) for code, message in said if message] + [
        Doubt(code, "when the engine was built: {}".format(message)) for code, message in of_builds
    ]
