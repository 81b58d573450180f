"""Whether one measured network is faster than another: what the rounds of one session, or of two, can carry.

**Measured together** (one bundle, one call): the engines took turns, so the ratio is formed round by round, and the
noise floor is that of the session (`bootstrap`). In a single pass nothing shows what a new process changes, and
without a floor nothing shows how far an engine lies from itself: the verdict is then `not known`, and the ratio is
given all the same. (Simulated, an engine against itself with processes that differ by 3 %: one pass with a floor would
call it different in 36 of 100 comparisons, and without one in 73; two or three passes without a floor in 5, with one in
1.)

**Measured apart** (two runs, or two calls): nothing pairs. Each side is resampled by itself, and the interval holds
what differs between the rounds and processes of one session, not what differs between sessions: another temperature, a
reboot, other neighbours. No amount of data from two sessions tells that apart from the networks, except where both
sessions measured some other network from the same file with the same runtime: its ratio across the sessions should be
1, and how far the interval of that lies from 1 is what the sessions differ by. So

- the noise floor is the largest of both twins' floors, of each side's drift (the span of its passes' medians), and of
  what such a witness was seen to lie from itself; of several witnesses the worst;
- without a witness, or where a side has a single pass, so that nothing shows what a new process changes, the verdict is
  `not known` with the reason. The ratio and its interval are given all the same. (Simulated with processes that differ
  by 3 % and sessions by 5 %, one pass and one witness would call the same network different in every fifth comparison;
  two passes in fewer than one of a hundred.)

A stand-in's times are compared with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from edgeprune.report.bootstrap import Floor, Ratio, apart, reach
from edgeprune.report.pairing import in_turns
from edgeprune.report.records import Row
from edgeprune.report.rounds import floor_of, paired, quoted, witness
from edgeprune.report.uncertainty import verdict

LEAST_PASSES = 2  # of one pass nothing tells what a new process changes
NO_WITNESS = (
    "they were measured apart, and no other network was measured in both sessions, so nothing tells how far the "
    "sessions differ"
)
NO_PROCESSES = "they were measured apart, and not both in several passes, so nothing tells what a new process changes"
ONE_PROCESS_EACH = "they were measured in one pass, so nothing tells what a new process changes"


@dataclass(frozen=True)
class Judged:
    """The ratio of two rows' latencies, what it has to exceed, and what follows."""

    timed: Ratio | None
    floor: Floor
    floor_of: tuple[str, ...]  # the networks that tell the floor
    reason: str | None  # why the verdict is not known

    @property
    def verdict(self) -> str:
        """Faster, slower or within noise; not known where there is a reason why not."""
        if self.timed is None or self.reason is not None:
            return "not known"
        return verdict(self.timed.interval, self.floor.value)


def judge(row: Row, baseline: Row, rows: Sequence[Row], baseline_rows: Sequence[Row]) -> Judged:
    """`row` relative to `baseline`; the other two are all rows of their reports, where twins and witnesses are."""
    stand_in = row.stand_in or baseline.stand_in
    if stand_in:
        why = f"{stand_in} stood in for the device"
        return Judged(None, Floor(None, why), (), why)
    if in_turns(row, baseline):
        return together(row, baseline, rows)
    return _apart(row, baseline, rows, baseline_rows)


def together(row: Row, baseline: Row, rows: Sequence[Row]) -> Judged:
    """The two were timed in turns; `rows` are all of their report, where another engine may have run twice."""
    seen = witness(baseline, rows)
    timed, floor = paired(row, baseline), floor_of(seen)
    told = (seen.name,) if floor.value is not None else ()
    if timed is None:
        return Judged(None, floor, told, "there are no latencies of both in every round")
    why = timed.reason
    if why is None and timed.passes < LEAST_PASSES:
        why = ONE_PROCESS_EACH
    if why is None and floor.value is None:
        why = f"the noise floor is not known ({floor.reason})"
    return Judged(timed, floor, told, why)


def _apart(row: Row, baseline: Row, rows: Sequence[Row], baseline_rows: Sequence[Row]) -> Judged:
    sides = [quoted(each) for each in (row, baseline)]
    if not all(sides) or min(value for side in sides for rounds in side for value in rounds) <= 0:
        missing = "there are no latencies of both"
        return Judged(None, Floor(None, missing), (), missing)
    timed = apart(*sides)
    twins = [floor_of(witness(row, rows)), floor_of(witness(baseline, baseline_rows))]
    common = _witnesses(row, baseline, rows, baseline_rows)
    twin_floors = [floor.value for floor in twins if floor.value is not None]
    why = timed.reason
    if why is None and min(map(len, sides)) < LEAST_PASSES:
        why = NO_PROCESSES
    if why is None and not common:
        why = NO_WITNESS
    if why is not None:
        return Judged(timed, Floor(None, why), (), why)
    floor = max([*twin_floors, *map(_drift, sides), *common.values()])
    return Judged(timed, Floor(floor, None), tuple(common), None)


def _witnesses(row: Row, baseline: Row, rows: Sequence[Row], baseline_rows: Sequence[Row]) -> dict[str, float]:
    """Other networks that both sessions measured from the same file: how far each lies from itself, as a share."""
    here = {each.network_sha256: each for each in rows if _beside(each, row)}
    there = {each.network_sha256: each for each in baseline_rows if _beside(each, baseline)}
    found: dict[str, float] = {}
    for sha in sorted(here.keys() & there.keys(), key=lambda sha: here[sha].name):
        away = reach(apart(quoted(here[sha]), quoted(there[sha]), expand=False))
        if away is not None:
            found[here[sha].name] = away
    return found


def _beside(other: Row, row: Row) -> bool:
    """Whether `other` is another network of the row's conditions and session, with latencies."""
    return in_turns(other, row) and other.name != row.name and bool(other.rounds)


def _drift(side: Sequence[Sequence[float]]) -> float:
    """By what share the slowest pass's median lies above the fastest's."""
    medians = sorted(median(rounds) for rounds in side)
    return medians[-1] / medians[0] - 1
