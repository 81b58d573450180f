"""What a benchmark shows, judged by the numbers in its document, so that older documents are judged alike.

The rules are those of a run's report (`edgeprune.report.across`): a runtime is the fastest where every other one is
slower by an interval beyond the noise floor, not where its median is the least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeprune.benching.asked import REFERENCE
from edgeprune.report.uncertainty import claimable, verdict

SAME, DIFFERENT, NOT_SHOWN, NOT_KNOWN = "same", "different", "not shown", "not known"

_BUSY = 0.1  # of the machine's processors, kept busy by others
_IDLE = 0.05  # of a processor, kept busy by an engine that waits: its threads spin
Row = Mapping[str, Any]


def sameness(interval: Sequence[float] | None, floor: float | None) -> str:
    """Whether a ratio of two latencies is 1 within the noise: the whole interval lies inside, outside, or neither.

    `not shown` is neither: too few rounds, or too much noise, for either answer. `not known`: no interval or no floor.
    """
    if interval is None or floor is None:
        return NOT_KNOWN
    far, (low, high) = 1 + claimable(floor), interval
    if low >= 1 / far and high <= far:
        return SAME
    return DIFFERENT if high < 1 / far or low > far else NOT_SHOWN


def standings(rows: Sequence[Row], floor: float | None) -> list[dict[str, Any]]:
    """For each sparsity the runtime of the least median, and how long the others take for the same file.

    Runtimes with wrong answers or none are no choice. `fastest` is None where another one is within the noise; a
    sparsity at which only one runtime answers rightly has no entry.
    """
    found = []
    for sparsity in dict.fromkeys(row["sparsity"] for row in rows):
        fitting = [row for row in rows if row["sparsity"] == sparsity and _answers(row)]
        quickest, *rest = sorted(fitting, key=lambda row: float(row["latency_ms"]["median"]))
        others = [_beside(quickest, row["runtime"], floor) for row in rest]
        if others:
            won = all(other["verdict"] == "slower" for other in others)
            name = quickest["runtime"]
            found.append({"sparsity": sparsity, "quickest": name, "fastest": name if won else None, "others": others})
    return found


def doubts(document: Mapping[str, Any]) -> Iterator[str]:
    """Why the times may not be what they seem: others were at work, or an engine does not rest while it waits."""
    busy = max((row["other_cores"] or 0.0 for row in document["rows"]), default=0.0)
    if busy > _BUSY * (document["machine"]["cores"] or 1):
        yield f"Doubtful: other processes kept up to {busy:.1f} processors busy in the rounds."
    for runtime in dict.fromkeys(row["runtime"] for row in document["rows"]):
        idle = max(row["idle_cpu"] or 0.0 for row in document["rows"] if row["runtime"] == runtime)
        if idle > _IDLE:
            yield f"Doubtful: {runtime} keeps {idle:.2f} processors busy while it waits, which slows the others."


def _answers(row: Row) -> bool:
    return row["runtime"] == REFERENCE or row["agreement"]["agrees"] is True


def _beside(quickest: Row, other: str, floor: float | None) -> dict[str, Any]:
    """How many times as long `other` takes; its verdict is that of `other`: slower, faster, within noise, not known."""
    found = quickest["against"][other]
    known = found["interval"] is not None and floor is not None
    return {
        "runtime": other,
        "ratio": found["ratio"],
        "interval": found["interval"],
        "verdict": verdict(tuple(found["interval"]), floor) if known else NOT_KNOWN,
        "reason": found["reason"] or (None if known else "the noise floor is not known"),
    }
