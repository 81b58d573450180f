"""What gates judge: each measured network of interest, and which runtime stands for it where a session timed several.

Of several runtimes in one session the quickest would be shipped. What is asked of speed and of zeros is asked of that
one, and its speed-up is that over the other network on the runtime that was quickest for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.comparing import Compared, Pair
from edgeprune.report import pairing, wording
from edgeprune.report.across import quoted_ms, turned
from edgeprune.report.pairing import baseline
from edgeprune.report.records import Across, Comparison, Report, Row
from edgeprune.report.rounds import paired
from edgeprune.report.uncertainty import verdict

Interval = tuple[float, float]


@dataclass(frozen=True)
class Subject:
    """A measured network, and how its latency compares where it was compared."""

    row: Row
    ratio_interval: Interval | None
    verdict: str
    reason: str
    quickest: bool = True  # of the runtimes that its session timed it on; also where it was the only one
    chosen: str = ""  # of several runtimes: which one this is, in words
    beside: str = ""  # of several runtimes: ` as ...`, what it is compared with


def reported(report: Report) -> list[Subject]:
    """The sparse networks of a report, each compared with the dense one."""
    found = {each.source: each for each in report.comparisons}
    groups = {source: each for each in report.across for source in each.sources}
    rows = [row for row in report.rows if row.role == "sparse" and row.runtime != "null"]
    return [_reported(row, found.get(row.source), groups.get(row.source), report.rows) for row in rows]


def compared(both: Compared) -> list[Subject]:
    """B of each pair, compared with A."""
    return [_compared(pair, [other for other in both.pairs if _place(other) == _place(pair)]) for pair in both.pairs]


def _reported(row: Row, found: Comparison | None, group: Across | None, rows: Sequence[Row]) -> Subject:
    if group is None:
        return Subject(row, *_within(row, found, rows))
    known = {each.source: each.runtime for each in rows}
    chosen = _chosen(row, [known[source] for source in group.sources])
    quickest, dense = row.source == group.sources[0], group.against_dense
    if dense is None or not quickest:
        return Subject(row, *_within(row, found, rows), quickest, chosen, _as("the dense network", row.runtime))
    seen, beside = turned(dense), _as("the dense network", dense.runtime)
    return Subject(row, seen.ratio_interval, seen.verdict, seen.reason or "", True, chosen, beside)


def _within(row: Row, found: Comparison | None, rows: Sequence[Row]) -> tuple[Interval | None, str, str]:
    """Interval, verdict and reason of the comparison with the dense network on the same runtime."""
    if found is not None:
        return found.latency_ratio_interval, found.verdict, found.reason or ""
    if row.stand_in:
        return None, "not known", f"{row.stand_in} stood in for the device"
    why = "in another call than the dense network" if baseline(row, rows) else "without the dense network"
    return None, "not known", f"measured {why}"


def _compared(pair: Pair, group: Sequence[Pair]) -> Subject:
    """`group` are the pairs that differ from `pair` in the runtime alone, with itself."""
    if pair.stand_in or len({other.runtime for other in group}) == 1:
        return Subject(pair.row, pair.latency_ratio_interval, pair.verdict, pair.reason or "")
    ordered = sorted(group, key=lambda other: quoted_ms(other.row))
    rival = min(group, key=lambda other: quoted_ms(other.baseline))
    chosen = _chosen(pair.row, [other.runtime for other in ordered])
    if pair is not ordered[0]:
        told = (pair.latency_ratio_interval, pair.verdict, pair.reason or "")
        return Subject(pair.row, *told, False, chosen, _as(pair.a, pair.runtime))
    return Subject(pair.row, *_over_runtimes(pair, rival), True, chosen, _as(rival.a, rival.runtime))


def _over_runtimes(pair: Pair, rival: Pair) -> tuple[Interval | None, str, str]:
    """Interval, verdict and reason of the pair's B against the rival's A, of which the noisier runtime's floor counts.

    Only within one session: measured apart, nothing tells what two runtimes on two days differ by.
    """
    if rival is pair:
        return pair.latency_ratio_interval, pair.verdict, pair.reason or ""
    if not pair.together or pairing.session(pair.row) != pairing.session(rival.baseline):
        where = f"{rival.a} is quickest with {wording.runtime(rival.runtime)}, {pair.b} with another runtime"
        return None, "not known", f"{where}, and they were measured apart"
    timed, why = paired(pair.row, rival.baseline), pair.reason or rival.reason
    if timed is None or why is not None:
        return None, "not known", why or "there are no latencies of both in every round"
    floor = max(pair.noise_floor or 0.0, rival.noise_floor or 0.0)
    return timed.interval, verdict(timed.interval, floor), ""


def _place(pair: Pair) -> tuple[Any, ...]:
    """What pairs share that differ in the runtime alone."""
    row = pair.row
    return pairing.session(row), pairing.in_a_path(row), row.name, row.precision, pair.a, pair.stand_in


def _chosen(row: Row, runtimes: Sequence[str]) -> str:
    names = ", ".join(dict.fromkeys(map(wording.runtime, runtimes)))
    return f"judged with {wording.runtime(row.runtime)}, which took least time of {names}"


def _as(network: str, runtime: str) -> str:
    return f" as {network} with {wording.runtime(runtime)}"
