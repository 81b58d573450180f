"""Power and energy of one network, from the samples that were taken while it was at work. Pure functions."""

import bisect
import statistics
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.board.rails import Power, total
from runtimes.readings import Reading
from runtimes.watch_sources import Sample

Span = Tuple[float, float]  # begin and end, time.monotonic
_COLUMNS = ("gpu_percent", "gpu_mhz", "emc_mhz", "cpu_mhz", "temperature_c", "ram_used_mb")


class Spent(NamedTuple):
    """When a network was at work, and how long one inference took."""

    rounds: Sequence[Span]
    inference_s: float  # mean latency


def within(samples: Sequence[Sample], spans: Sequence[Span]) -> List[Sample]:
    """The samples after the begin of a span and not after its end, in their order.

    Args:
        samples: by time. A reading that closes a span, and is a mean since its begin, belongs to it.
        spans: none overlaps another.
    """
    times = [sample.at_s for sample in samples]
    found: List[Sample] = []
    for begin, end in sorted(spans):
        found.extend(samples[bisect.bisect_right(times, begin) : bisect.bisect_right(times, end)])
    return found


def covered(samples: Sequence[Sample], spans: Sequence[Span], reach_s: float) -> float:
    """The share of the spans' seconds in which power was watched: those up to `reach_s` after a sample of it."""
    times = [sample.at_s for sample in samples if sample.rails_mw]
    watched = [(at_s, min(at_s + reach_s, later)) for at_s, later in zip(times, [*times[1:], float("inf")])]
    seconds = sum(max(0.0, min(end, until) - max(begin, since)) for begin, end in spans for since, until in watched)
    return seconds / max(sum(end - begin for begin, end in spans), 1e-9)


def median_of_each(samples: Sequence[Sample], spans: Sequence[Span], column: str) -> List[float]:
    """The median of a column in each span, without the spans in which nothing was read and without zeros (off)."""
    values = [[getattr(sample, column) or 0.0 for sample in within(samples, [span])] for span in spans]
    known = [[value for value in members if value > 0] for members in values]
    return [statistics.median(members) for members in known if members]


def mean_rails(samples: Sequence[Sample]) -> Dict[str, float]:
    """The mean of each rail in milliwatts, each sample weighted with the seconds that it stands for."""
    weights: Dict[str, float] = {}
    sums: Dict[str, float] = {}
    for sample in samples:
        for rail, milliwatts in sample.rails_mw.items():
            weights[rail] = weights.get(rail, 0.0) + sample.seconds
            sums[rail] = sums.get(rail, 0.0) + sample.seconds * milliwatts
    return {rail: round(sums[rail] / weight, 6) for rail, weight in weights.items() if weight > 0}


def power(source: Reading, samples: Sequence[Sample], spent: Spent, idle: Sequence[Span]) -> Reading:
    """What `Measurement.power` holds, or None with the reason.

    An inference takes the mean power of the network's rounds for the mean latency. The idle power, with all engines
    loaded and none at work, is that of the `idle` spans.

    Args:
        source: name of what the rails are read from, or None and why there is none.
        samples: of the whole watch, by time.
    """
    if source.value is None:
        return source
    own = [sample for sample in within(samples, spent.rounds) if sample.rails_mw]
    at_work = total(mean_rails(own))
    if at_work is None:
        return Reading(None, _why_not(own))
    at_rest = _at_rest(samples, idle, at_work)
    return Reading(
        {
            "source": source.value,
            "scope": at_work.scope,
            "rails": mean_rails(own),
            "note": at_work.note,
            "mean_mw": at_work.milliwatts,
            "idle_mw": at_rest,
            "samples": len(own),
            "energy_mj": at_work.milliwatts * spent.inference_s,
            "net_energy_mj": None if at_rest is None else (at_work.milliwatts - at_rest) * spent.inference_s,
        }
    )


def _at_rest(samples: Sequence[Sample], idle: Sequence[Span], at_work: Power) -> Optional[float]:
    """Milliwatts of the same rails."""
    found = total(mean_rails(within(samples, idle)))
    return found.milliwatts if found and (found.scope, found.rails) == (at_work.scope, at_work.rails) else None


def _why_not(own: Sequence[Sample]) -> str:
    if not own:
        return "no sample of power fell into its rounds: they are too short, or too few"
    return "it is not known how the power rails {} add up".format(", ".join(sorted(mean_rails(own))))


def columns(samples: Sequence[Sample], started_s: float) -> Dict[str, List[Any]]:
    """The samples by column, each as long as the others; `at_s` is from the begin of the watch."""
    totals = [total(sample.rails_mw) for sample in samples]
    table: Dict[str, List[Any]] = {
        "at_s": [round(sample.at_s - started_s, 4) for sample in samples],
        "power_mw": [None if found is None else found.milliwatts for found in totals],
    }
    table.update({name: [_short(getattr(sample, name)) for sample in samples] for name in _COLUMNS})
    return table


def _short(value: Optional[float]) -> Optional[float]:
    return None if value is None else round(value, 3)
