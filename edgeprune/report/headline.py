"""The report in one sentence, and the comparison that it and the tiles tell of."""

from __future__ import annotations

from collections.abc import Sequence

from edgeprune.report import wording
from edgeprune.report.contests import Contest, beside, beside_several
from edgeprune.report.records import Comparison, Network, Row
from edgeprune.report.sentences import BLIND_TO_ZEROS, cause, within_error
from edgeprune.report.stand_ins import ANSWERED

ALIKE = 0.02  # two shares of zeros this close are told as one


def headline(sparse: Network | None, comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    """What was gained and what it cost, in one sentence; `comparisons` as `contests` chooses them."""
    if sparse is None:
        return "Nothing has been exported yet, so there is nothing to compare."
    return f"{_zeros(sparse)}{_accuracy(comparisons, rows)}; {_latency(comparisons)}."


def foremost(comparisons: Sequence[Comparison]) -> Comparison | None:
    """The comparison that headline and tiles tell of, so that an accuracy and a speed are those of one file.

    Where something was faster: what its zeros made faster before the rest, then the fastest. Else the slowest of what
    was slower, else the first within noise, else the first one.
    """
    by_verdict = {verdict: [c for c in comparisons if c.verdict == verdict] for verdict in ("faster", "slower")}
    if by_verdict["faster"]:
        return min(by_verdict["faster"], key=lambda found: (found.uses_zeros != "yes", found.latency_ratio or 1.0))
    if by_verdict["slower"]:
        return max(by_verdict["slower"], key=lambda found: found.latency_ratio or 1.0)
    known = [found for found in comparisons if found.verdict != "not known"]
    return next(iter([*known, *comparisons]), None)


def accuracy(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> tuple[Row | None, Comparison | None]:
    """The row whose top-1 is told and its comparison with the dense network, each None where there is none.

    It is the accuracy of the very file whose speed is told; where that device did not score it, any other that did.
    """
    told = foremost(comparisons)
    by_source = {row.source: row for row in rows}
    same = [told, *(found for found in comparisons if found.name == told.name)] if told else []
    for found in same:
        if found.top1_difference is not None:
            return by_source[found.source], found
    name = told.name if told else "sparse"
    scored = [row for row in rows if row.name == name and row.top1 is not None]
    own = [row for row in scored if told and row.source == told.source]
    return next(iter([*own, *scored]), None), None


def _zeros(sparse: Network) -> str:
    """The share of zeros; where only part of the network is prunable, of what, and the share of all beside it."""
    if sparse.sparsity is None:
        return "The share of zero weights is not known"
    share, of_all = wording.share(sparse.sparsity), sparse.sparsity_paper
    if of_all is None:
        return f"{share} of the prunable weights are zero"
    if abs(sparse.sparsity - of_all) > ALIKE:
        return f"{share} of the prunable weights are zero ({wording.share(of_all)} of all, as papers count)"
    return f"{share} of the weights are zero"


def _accuracy(comparisons: Sequence[Comparison], rows: Sequence[Row]) -> str:
    row, found = accuracy(comparisons, rows)
    if row is None:
        return ", with an accuracy that has not been measured"
    answered = f" ({ANSWERED})" if row.stand_in else ""
    return f" at {wording.percent(row.top1)} top-1{answered}" + (f", {_distance(found)}" if found else "")


def _distance(found: Comparison) -> str:
    """`3.1 points below the dense network`; no side is named where the difference lies within its error."""
    difference = found.top1_difference or 0.0
    text = wording.points(abs(difference)).lstrip("+")
    if text.startswith("0.0"):
        return "the same as the dense network"
    if within_error(found):
        return "within the error of the dense network"
    return f"{text} {'below' if difference < 0 else 'above'} the dense network"


def _latency(comparisons: Sequence[Comparison]) -> str:
    told = foremost([found for found in comparisons if found.latency_ratio])
    if told is None:
        return "its speed has not been compared with the dense network"
    if told.verdict == "not known":
        return f"whether it is faster is not known: {told.reason}"
    timed = [found for found in comparisons if found.verdict != "not known"]
    unknown = len(comparisons) - len(timed)
    return _known(told, timed) + (f"; not known in {wording.plural(unknown, 'other setting')}" if unknown else "")


def _known(told: Comparison, timed: Sequence[Comparison]) -> str:
    if told.verdict == "faster":
        return _faster(told, timed)
    if told.verdict == "slower":
        return _slower(told, timed)
    if all(found.runtime in BLIND_TO_ZEROS for found in timed):
        return f"it is no faster here{_blind(timed)}"
    if len(timed) > 1:
        return f"no difference in speed could be measured on any device{beside_several(timed)}"
    return f"no difference in speed could be measured on {_place_beside(told, timed, 'against')}"


def _blind(timed: Sequence[Comparison]) -> str:
    """Why nothing is gained on runtimes that use no zeros; others may have been timed, and taken longer."""
    names = list(dict.fromkeys(wording.runtime(found.runtime) for found in timed))
    do_not = f"{' and '.join(names)} {'does' if len(names) == 1 else 'do'} not use zeros"
    if any(isinstance(found, Contest) and found.each_quickest for found in timed):
        return f"{beside_several(timed)}: {do_not}"
    return f", because {do_not}"


def _faster(told: Comparison, timed: Sequence[Comparison]) -> str:
    """By how much the file of `told` is faster where it is, on how many settings, and what is to be said of zeros."""
    own = [found for found in timed if found.name == told.name]
    faster = [found for found in own if found.verdict == "faster"]
    elsewhere = [found for found in timed if found.verdict != "faster" and (len(faster) == 1 or found not in own)]
    rest = f" (not so in {wording.plural(len(elsewhere), 'other setting')})" if elsewhere else ""
    if len(faster) == 1:
        return f"it runs {_times([told])} times as fast on {_place_beside(told, timed)}{rest}{cause(told)}"
    causes = list(dict.fromkeys(map(cause, faster)))
    of_told = ", by its zeros" if told.uses_zeros == "yes" else cause(told)
    why = causes[0] if len(causes) == 1 else f"; {_times([told])} times on {place(told, timed)}{of_told}"
    return f"it runs {_times(faster)} times as fast on {_of(faster, own)}{beside_several(faster)}{rest}{why}"


def _slower(told: Comparison, timed: Sequence[Comparison]) -> str:
    slower = [found for found in timed if found.verdict == "slower"]
    longer = sorted({f"{found.latency_ratio or 1.0:.2f}" for found in slower}, key=float)
    if len(slower) == 1:
        return f"it is not faster: on {place(told, timed)} it takes {longer[0]} times as long{beside(told)}"
    return f"it is not faster: on {_of(slower, timed)} it takes {_range(longer)} times as long{beside_several(slower)}"


def _place_beside(told: Comparison, timed: Sequence[Comparison], word: str = "as") -> str:
    """Where the sparse network ran, and what it is held to where that is not told by the same words."""
    where, against = place(told, timed), beside(told, word)
    return f"{where},{against}" if against and ", " in where else f"{where}{against}"


def _of(some: Sequence[Comparison], all_of_them: Sequence[Comparison]) -> str:
    if len(some) == len(all_of_them):
        return f"all {len(some)} settings"
    return f"{len(some)} of {len(all_of_them)} settings"


def _times(faster: Sequence[Comparison]) -> str:
    return _range(sorted({f"{1 / (found.latency_ratio or 1.0):.2f}" for found in faster}, key=float))


def _range(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{texts[0]} to {texts[-1]}"


def place(found: Comparison, among: Sequence[Comparison]) -> str:
    """Device, runtime and precision, and what of the setting tells it from those `among` which share these."""
    same = (found.device, found.runtime, found.name, found.precision)
    alike = [c for c in among if (c.device, c.runtime, c.name, c.precision) == same]
    parts = found.setting.split(", ")
    own = [part for part in parts if any(part not in other.setting.split(", ") for other in alike)]
    if len(alike) > 1 and not own:  # what tells them apart is only that the others have more
        own = parts[2:]
    precision = "" if found.precision == "fp32" else f" in {found.precision}"
    precision += ", compacted" if wording.compacted(found.name) else ""
    return ", ".join([f"{found.device} with {wording.runtime(found.runtime)}{precision}", *own])
