"""Which comparisons the headline and the tiles tell of, where a session timed the networks on several runtimes.

There everybody would take the runtime that suits a network best. So the sparse network on its quickest one is held to
the dense network on its own quickest one: against a runtime's own dense network alone a runtime that is slow for dense
networks would look best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.report import wording
from edgeprune.report.across import turned
from edgeprune.report.records import Across, Comparison, Contender


@dataclass(frozen=True)
class Contest(Comparison):
    """A comparison in a session of several runtimes: what the dense network ran on is to be said."""

    dense_runtime: str
    each_quickest: bool  # either network on the runtime that was quickest for it; else both on the same one


def contests(comparisons: Sequence[Comparison], runtimes: Sequence[Across]) -> list[Comparison]:
    """Of each session with several runtimes one comparison, of either network's quickest runtime; the others as given.

    Where that one is not known (no dense network, no noise floor), those within one runtime stay, as contests that say
    so. Verdict, interval and noise floor are those of `across`.
    """
    groups = {source: each for each in runtimes for source in each.sources}
    compared = {found.source for found in comparisons}
    told: list[Comparison] = []
    for found in comparisons:
        group = groups.get(found.source)
        if group is None:
            told.append(found)
        elif group.sources[0] not in compared or (dense := _known_dense(group)) is None:
            told.append(Contest(**vars(found), dense_runtime=found.runtime, each_quickest=False))
        elif found.source == group.sources[0]:
            told.append(_of_the_quickest(found, dense))
    return told


def beside(found: Comparison, word: str = "as") -> str:
    """` as the dense network with ...`, to follow a number; empty where there was one runtime, which is named then."""
    if not isinstance(found, Contest):
        return ""
    if not found.each_quickest:
        return f" {word} the dense network with the same runtime"
    return f" {word} the dense network with {wording.runtime(found.dense_runtime)}, each with its quickest runtime"


def beside_several(some: Sequence[Comparison]) -> str:
    """The same for a range over several settings."""
    kinds = {found.each_quickest for found in some if isinstance(found, Contest)}
    if not kinds:
        return ""
    if kinds == {True}:
        return ", each network with the quickest runtime timed there"
    return ", both networks with the same runtime" + (" or each with its quickest one" if True in kinds else "")


def _known_dense(group: Across) -> Contender | None:
    """The dense network on its quickest runtime, where it is known how it compares."""
    dense = group.against_dense
    return None if dense is None or dense.ratio is None or dense.verdict == "not known" else dense


def _of_the_quickest(found: Comparison, dense: Contender) -> Contest:
    """`found`, which has the quickest runtime, with the times compared to those of the `dense` contender."""
    seen = turned(dense)
    changed: dict[str, Any] = {
        "baseline": dense.name,
        "baseline_source": dense.source,
        "latency_ratio": seen.ratio,
        "latency_ratio_interval": seen.ratio_interval,
        "passes": seen.passes,
        "rounds": seen.rounds,
        "noise_floor": seen.noise_floor,
        "verdict": seen.verdict,
        "reason": seen.reason,
        "sentence": "",
    }
    return Contest(**{**vars(found), **changed}, dense_runtime=dense.runtime, each_quickest=True)
