"""The same network on several runtimes, timed in turns in one session: which of them is to be used there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from edgeprune.report import pairing, wording
from edgeprune.report.judging import together
from edgeprune.report.records import Across, Contender, Row
from edgeprune.report.rounds import floor_of, witness
from edgeprune.report.sentences import interval
from edgeprune.report.uncertainty import verdict

_TOLD = ("dense", "sparse")  # of these a report has a sentence; of the others it has the numbers
_NOTHING = "null"  # answers nothing, so that it is no choice


def across(rows: Sequence[Row]) -> list[Across]:
    """For each network, session and setting with several runtimes: the quickest of them, and the others against it.

    The noise floor of a comparison is the larger one of both runtimes'. A stand-in's times are compared with nothing.
    """
    timed = [row for row in rows if row.runtime != _NOTHING and not row.stand_in]
    groups = [list(group) for _, group in groupby(sorted(timed, key=_key), key=_key)]
    found = [_across(group, rows) for group in groups if len({row.runtime for row in group}) > 1]
    return sorted(found, key=lambda each: (each.device, pairing.place(each.name), each.sources))


def sentences(found: Sequence[Across]) -> list[str]:
    """What is to be told of the networks that a run is about."""
    return [each.sentence for each in found if each.role in _TOLD]


def quoted_ms(row: Row) -> tuple[float, str]:
    """What runtimes are ordered by: the latency that the workload quotes, infinite where there is none."""
    return row.latency_ms.get(row.headline) or float("inf"), row.runtime


def turned(other: Contender) -> Contender:
    """The same comparison seen from the quickest: its latency / the other's, and its verdict."""
    ends, said = other.ratio_interval, {"slower": "faster", "faster": "slower"}
    return replace(
        other,
        ratio=1 / other.ratio if other.ratio else None,
        ratio_interval=(1 / ends[1], 1 / ends[0]) if ends else None,
        verdict=said.get(other.verdict, other.verdict),
    )


def _key(row: Row) -> tuple[Any, ...]:
    """What rows share that differ in the runtime alone."""
    return pairing.session(row), pairing.in_a_path(row), row.name, row.precision


def _across(group: Sequence[Row], rows: Sequence[Row]) -> Across:
    quickest, *rest = sorted(group, key=quoted_ms)
    others = tuple(_against(quickest, other, rows) for other in rest)
    won = all(other.verdict == "slower" for other in others)
    dense = _best_dense(quickest, rows)
    beside = _against(quickest, dense, rows) if dense is not None else None
    return Across(
        name=quickest.name,
        role=quickest.role,
        device=quickest.device,
        headline=quickest.headline,
        quickest=quickest.runtime,
        fastest=quickest.runtime if won else None,
        sources=tuple(row.source for row in (quickest, *rest)),
        others=others,
        against_dense=beside,
        sentence=_sentence(quickest, others, won, beside),
    )


def _best_dense(sparse: Row, rows: Sequence[Row]) -> Row | None:
    """The dense network of the same session and setting on the runtime that is quickest for it."""
    if sparse.role != "sparse":
        return None
    place = pairing.session(sparse), pairing.in_a_path(sparse), sparse.precision
    same = [row for row in rows if row.role == "dense" and row.runtime != _NOTHING and not row.stand_in]
    fitting = [row for row in same if (pairing.session(row), pairing.in_a_path(row), row.precision) == place]
    return min(fitting, key=quoted_ms, default=None)


def _against(quickest: Row, other: Row, rows: Sequence[Row]) -> Contender:
    """How many times as long `other` takes; its verdict is that of `other`: slower, faster, within noise, not known."""
    judged = together(other, quickest, rows)
    floors = [judged.floor.value, floor_of(witness(other, rows)).value]
    known = [floor for floor in floors if floor is not None]
    reason = judged.reason
    if reason is None and len(known) < len(floors):
        reason = f"the noise floor of {wording.runtime(other.runtime)} is not known"
    timed = judged.timed
    return Contender(
        name=other.name,
        runtime=other.runtime,
        source=other.source,
        ratio=timed.value if timed else None,
        ratio_interval=timed.interval if timed else None,
        passes=timed.passes if timed else 0,
        rounds=timed.rounds if timed else 0,
        noise_floor=max(known) if len(known) == len(floors) else None,
        verdict="not known" if timed is None or reason else verdict(timed.interval, max(known)),
        reason=reason,
    )


def _sentence(quickest: Row, others: Sequence[Contender], won: bool, beside: Contender | None) -> str:
    runtime = wording.runtime(quickest.runtime)
    time = wording.milliseconds(quickest.latency_ms.get(quickest.headline))
    where = f"On {quickest.device}, {pairing.in_a_path(quickest)}, the {quickest.name} network"
    least = f"took least with {runtime} ({time}), not shown to be fastest"
    start = f"{where} is fastest with {runtime} ({time})" if won else f"{where} {least}"
    told = [f"{wording.runtime(other.runtime)} {_relation(other, runtime)}" for other in others]
    if beside is not None:
        told.append(f"the dense network with {wording.runtime(beside.runtime)} {_relation(beside, 'this')}")
    return f"{start}: {'; '.join(told)}."


def _relation(other: Contender, to: str) -> str:
    if other.verdict == "not known" or other.ratio is None:
        return f"cannot be told from {to}, {other.reason}"
    spread = "" if other.ratio_interval is None else f" ({interval(other.ratio_interval, other.passes, other.rounds)})"
    said = {"slower": "takes", "faster": "takes only", "within noise": "is within noise,"}[other.verdict]
    return f"{said} {other.ratio:.3f} times the time{spread}"
