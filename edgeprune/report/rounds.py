"""The rounds of a row as the ratios take them: the quoted percentile of each, by passes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from edgeprune.report.bootstrap import Floor, Ratio, noise_floor, ratio
from edgeprune.report.pairing import in_turns
from edgeprune.report.records import Row

NO_TWIN = "no second process of the same engine was timed beside it"


def by_pass(row: Row, values: Sequence[float]) -> list[list[float]]:
    """`values`, one for each round of the row, as a list for each pass."""
    ends = list(accumulate(int(each["rounds"]) for each in row.passes))
    return [list(values[start:end]) for start, end in zip([0, *ends], ends, strict=False) if end > start]


def quoted(row: Row) -> list[list[float]]:
    """For each pass the rounds' latencies in ms: of each round the percentile that the workload quotes."""
    return by_pass(row, [timed[row.headline] for timed in row.rounds])


def floor_of(row: Row) -> Floor:
    """How far the row's engine lies from a second process of itself, by the same percentile."""
    twin = by_pass(row, [timed[row.headline] for timed in row.twin_ms]) if row.twin_ms else None
    return noise_floor(twin, quoted(row), row.reasons.get("twin_ns", NO_TWIN))


def paired(row: Row, baseline: Row) -> Ratio | None:
    """The ratio of two rows of one session; None where their rounds do not pair."""
    top, bottom = quoted(row), quoted(baseline)
    alike = [len(rounds) for rounds in top] == [len(rounds) for rounds in bottom]
    timed = [value for rounds in (*top, *bottom) for value in rounds]
    return ratio(top, bottom) if timed and alike and min(timed) > 0 else None


def witness(baseline: Row, rows: Sequence[Row]) -> Row:
    """The row whose engine ran twice: the baseline, or else another one that took turns with it."""
    twice = [row for row in (baseline, *rows) if row.twin_ms and in_turns(row, baseline)]
    return twice[0] if twice else baseline
