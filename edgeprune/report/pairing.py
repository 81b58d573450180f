"""Which measurements belong together: one notion of conditions, session and baseline for all of the report.

Two rows are compared under equal **conditions**: device, runtime, the whole workload (with the processors used), and
what the board was set to. They pair round by round where they are of one **session**, one call that timed them in
turns. Everything that follows from a row finds it by its `source`, the measurement's file, which no two rows share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgeprune.report import wording
from edgeprune.report.records import NETWORKS, Row
from runtimes.records import PRECISIONS

Conditions = tuple[str, str, Mapping[str, Any], tuple[str | None, bool]]


def workplace(row: Row) -> tuple[str, str, Mapping[str, Any]]:
    """Device, runtime and workload: without these in common no latencies are compared at all."""
    return row.device, row.runtime, row.workload


def state(row: Row) -> tuple[str | None, bool]:
    """What the device was set to: the power mode that it named, and whether its clocks were locked for this."""
    return row.power_mode, bool((row.settings or {}).get("clocks"))


def conditions(row: Row) -> Conditions:
    """What the rows of one report share where one is compared with another."""
    return (*workplace(row), state(row))


def session(row: Row) -> tuple[str, str, str]:
    """The call that measured it: only within one did the engines take turns, so that their rounds pair."""
    return row.device, row.bundle, row.started_at


def in_turns(row: Row, other: Row) -> bool:
    """Whether the two were timed in turns: one session, under the same conditions."""
    return session(row) == session(other) and conditions(row) == conditions(other)


def baseline(sparse: Row, rows: Sequence[Row]) -> Row | None:
    """The dense row under the conditions of a sparse one: of its session first, then of its precision."""
    same = [row for row in rows if row.role == "dense" and conditions(row) == conditions(sparse)]
    return min(same, key=lambda row: _distance(row, sparse), default=None)


def counterpart(row: Row, candidates: Sequence[Row], own: Sequence[Row]) -> Row | None:
    """The row of another run (or network) that `row` is to be compared with; `own` are all rows like it.

    Of the same precision, or the only one in that place; of the same session first. Under other settings of the board
    only where each side was measured under a single one, so that there is nothing to mix up.
    """
    there = [other for other in candidates if workplace(other) == workplace(row)]
    here = [other for other in own if workplace(other) == workplace(row)]
    several = len(set(map(state, there))) > 1 or len(set(map(state, here))) > 1
    fitting = [other for other in there if state(other) == state(row) or not several]
    rivals = [other for other in here if state(other) == state(row) or not several]
    exact = [other for other in fitting if other.precision == row.precision]
    if not exact:
        return fitting[0] if len(fitting) == 1 and len(rivals) == 1 else None
    return min(exact, key=lambda other: (_distance(other, row), state(other) != state(row)))


def _distance(other: Row, row: Row) -> tuple[bool, bool]:
    return session(other) != session(row), other.precision != row.precision


def place(name: str) -> tuple[int, str, str]:
    """The networks in their order everywhere, each followed by itself in lower precisions."""
    role, _, precision = name.partition("-")
    return (NETWORKS.index(role) if role in NETWORKS else len(NETWORKS)), role, precision


def table(row: Row) -> tuple[Any, ...]:
    """What tells one table of rows from the next, in the order in which a report lists them."""
    exact_first = PRECISIONS.index(row.precision) if row.precision in PRECISIONS else len(PRECISIONS)
    protocol, cpus = str(row.workload.get("protocol", "")), _cpus(row)
    mode, locked = state(row)
    setting = (row.device, row.runtime, row.batch, row.threads, protocol, cpus, mode or "", locked)
    return (row.stand_in is not None, row.device != "local", *setting, exact_first, row.precision, session(row))


def ordered(rows: Sequence[Row]) -> list[Row]:
    """The rows as a report lists them: this machine first, stand-ins last, tables after each other, then networks.

    Where the words of a setting do not tell two sessions apart, the time at which they began is added to them.
    """
    found = sorted(rows, key=lambda row: (*table(row), place(row.name)))
    sessions = {(row.device, row.setting, session(row)) for row in found}
    alike = Counter((device, words) for device, words, _ in sessions)
    return [_dated(row) if alike[row.device, row.setting] > 1 else row for row in found]


def _dated(row: Row) -> Row:
    return replace(row, setting=f"{row.setting}, measured {row.started_at}")


def setting(row: Row) -> str:
    """Runtime, precision, batch, threads, protocol, processors, power mode and locked clocks, in words."""
    mode, locked = state(row)
    parts = [
        wording.runtime(row.runtime, row.runtime_version),
        row.precision,
        f"batch {row.batch}",
        wording.plural(row.threads, "thread"),
        str(row.workload.get("protocol", "")),
        f"processors {spans(_cpus(row))}" if _cpus(row) else "",
        mode or "",
        "clocks locked" if locked else "",
    ]
    return ", ".join(part for part in parts if part)


def in_a_path(row: Row) -> str:
    """The same as a part of a path: `b1-t1-quick`, `b1-t1-standard-cpus0_1-15W-locked`."""
    mode, locked = state(row)
    parts = [f"b{row.batch}", f"t{row.threads}", str(row.workload.get("protocol", ""))]
    parts += [f"cpus{'_'.join(map(str, _cpus(row)))}"] if _cpus(row) else []
    parts += [mode.replace("/", "_").replace(" ", "_")] if mode else []
    return "-".join([*parts, "locked"] if locked else parts)


def spans(numbers: Sequence[int]) -> str:
    """`0-3, 6` for 0, 1, 2, 3 and 6."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in found)


def _cpus(row: Row) -> tuple[int, ...]:
    return tuple(row.workload.get("cpus") or ())
