"""Gates for continuous integration: limits that a measured sparse network has to keep, with exit codes of their own.

A number that is missing fails its gate, because what was not measured was not shown to be good enough; a stand-in's
withheld numbers are missing. Each device and setting is judged by itself, and one failure fails the whole; where one
session timed a network on several runtimes, the quickest is judged for speed and zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import PurePosixPath

from edgeprune.comparing import Compared
from edgeprune.report import wording
from edgeprune.report.collect import DAMAGED
from edgeprune.report.compare import uses_zeros
from edgeprune.report.records import Report, Row
from edgeprune.report.side_by_side import reason_of, value_of
from edgeprune.report.subjects import Subject, compared, reported
from runtimes.errors import UserError

CODES = {
    "min_top1": 10,
    "max_p99_ms": 11,
    "max_memory_mb": 12,
    "max_power_w": 13,
    "max_size_mb": 14,
    "require_sparse": 15,
    "min_speedup": 16,
}
LEAST_SAMPLES = 1000
"""Fewer say little of a 99th percentile: of 1,000 ten lie above it, of 100 a single one."""
_OF_THE_QUICKEST = ("max_p99_ms", "require_sparse", "min_speedup")  # the runtime that would be shipped answers for them
_SHARED_MEMORY = ("trt",)  # runtimes whose engines live in memory that is not the process's own


@dataclass(frozen=True)
class Gates:
    """What is asked for; None (False) asks for nothing. Numbers out of range are a `UserError`."""

    min_top1: float | None = None  # percent, 0 to 100
    max_p99_ms: float | None = None  # the 99th percentile of the latency, milliseconds, see `_p99`
    max_memory_mb: float | None = None  # MiB, see `_memory`
    max_power_w: float | None = None  # watts, mean over the network's own rounds, in the scope that its device reads
    max_size_mb: float | None = None  # MB (10^6 bytes) of the ONNX file as it is
    require_sparse: bool = False  # the runtime computes at least one layer by its zeros, and says so
    min_speedup: float | None = None  # times as fast as the baseline, above 0, see `_speedup`

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None or isinstance(value, bool):
                continue
            option, top = option_of(field.name), 100 if field.name == "min_top1" else math.inf
            if not 0 <= value <= top or not math.isfinite(value) or (field.name == "min_speedup" and value == 0):
                wanted = "0 to 100 percent" if top == 100 else "a positive number"
                raise UserError(f"{option} is {value:g}", f"give {wanted}")

    def asked(self) -> list[str]:
        """The names of the gates that ask for something, in the order of their exit codes."""
        values = {name: getattr(self, name) for name in CODES}
        return [name for name, value in values.items() if value is not None and value is not False]


@dataclass(frozen=True)
class Verdict:
    """One gate on one device and setting."""

    run: str  # the run folder, or the network of a comparison
    gate: str  # its option, as --max-p99-ms
    code: int  # the exit code of its failure
    device: str
    setting: str  # the network and how it was measured
    asked: str  # the limit, in words
    found: str  # the value in words, or `not measured: ` and why
    passed: bool


def check(judged: Report | Compared, gates: Gates, run: str | None = None) -> list[Verdict]:
    """Every gate that asks for something, on every device and setting: of the sparse networks, in a comparison of B.

    Of several runtimes that one session timed, the quickest answers for speed and zeros (`_OF_THE_QUICKEST`).
    `run` is what the verdicts call what was judged: by default the run folder's name, or what B was named by.
    """
    if isinstance(judged, Compared):
        subjects, told = compared(judged), run or judged.b
    else:
        subjects, told = reported(judged), run or judged.folder
    names, lost = gates.asked(), _lost(judged)
    if not subjects and not lost:
        lost = [("no device", "sparse", "no measurement of a sparse network")]
    missing = [
        Verdict(told, option_of(name), CODES[name], device, what, _limit(name, gates), f"not measured: {why}", False)
        for device, what, why in lost
        for name in names
    ]
    judges = [(each, name) for each in subjects for name in names if each.quickest or name not in _OF_THE_QUICKEST]
    return [_judge(subject, name, gates, told) for subject, name in judges] + missing


def _lost(judged: Report | Compared) -> list[tuple[str, str, str]]:
    """Device and file of each damaged measurement that was to be judged: being left out, it passes nothing."""
    if isinstance(judged, Compared):
        found = [PurePosixPath(remark.source) for remark in judged.left_out]
    else:
        damaged = [PurePosixPath(remark.source) for remark in judged.warnings if remark.code == DAMAGED]
        found = [place for place in damaged if "-sparse" in place.name]
    return [(place.parent.name, place.name, "the file is damaged") for place in found]


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 where every gate is passed; else the lowest code of those that are not."""
    return min((verdict.code for verdict in verdicts if not verdict.passed), default=0)


def lines(verdicts: Sequence[Verdict]) -> list[str]:
    """A line for each verdict, for a terminal; failures first. The run is named where there are several."""
    ordered = sorted(verdicts, key=lambda verdict: verdict.passed)
    several = len({verdict.run for verdict in verdicts}) > 1
    return [
        f"{'passed' if v.passed else 'FAILED'}  {v.gate}: {f'{v.run}, ' if several else ''}{v.device}, {v.setting}: "
        f"{v.found} (asked: {v.asked})"
        for v in ordered
    ]


def option_of(name: str) -> str:
    """The command line's option of a gate."""
    return f"--{name.replace('_', '-')}"


def _judge(subject: Subject, name: str, gates: Gates, run: str) -> Verdict:
    passed, found = _RULES[name](subject, gates)
    row = subject.row
    found += f"; {subject.chosen}" if subject.chosen and name in _OF_THE_QUICKEST else ""
    setting = f"{row.name}, {row.setting}".replace(wording.SPACE, " ")
    text = found.replace(wording.SPACE, " ")
    return Verdict(run, option_of(name), CODES[name], row.device, setting, _limit(name, gates), text, passed)


def _limit(name: str, gates: Gates) -> str:
    value = getattr(gates, name)
    return {
        "min_top1": "at least {:g} %",
        "max_p99_ms": "at most {:g} ms",
        "max_memory_mb": "at most {:g} MiB",
        "max_power_w": "at most {:g} W",
        "max_size_mb": "at most {:g} MB",
        "require_sparse": "at least one layer runs sparse",
        "min_speedup": "at least {:g} times as fast",
    }[name].format(value)


def _number(row: Row, key: str) -> tuple[float | None, str]:
    """A number of the row, and what is to be said where it has none."""
    value = value_of(row, key)
    return value, "" if value is not None else f"not measured: {reason_of(row, key)}"


def _top1(subject: Subject, gates: Gates) -> tuple[bool, str]:
    value, missing = _number(subject.row, "top1")
    if value is None:
        return False, missing
    return value >= (gates.min_top1 or 0.0), f"{value:.2f} % of {subject.row.images or 0:,} images"


def _p99(subject: Subject, gates: Gates) -> tuple[bool, str]:
    """Fewer than `LEAST_SAMPLES` inferences show no 99th percentile, so that the gate fails whatever they come to."""
    value, missing = _number(subject.row, "latency_ms.p99")
    if value is None:
        return False, missing
    n = subject.row.n
    told = f"{value:.4g} ms of {n:,} inferences"
    if n < LEAST_SAMPLES:
        return False, f"not measured well enough: {told}, and a 99th percentile takes {LEAST_SAMPLES:,}"
    return value <= (gates.max_p99_ms or 0.0), told


def _memory(subject: Subject, gates: Gates) -> tuple[bool, str]:
    """The peak of the process; where the engine lives on a GPU also what the whole machine had less, if that is more.

    On a unified-memory board the GPU's memory is in no process's peak, and both have to be known.
    """
    keys = ["memory_mb.peak_rss"]
    if subject.row.runtime in _SHARED_MEMORY:
        keys.append("memory_mb.available_delta")
    found = [(key, *_number(subject.row, key)) for key in keys]
    for _, value, missing in found:
        if value is None:
            return False, missing
    key, most = max(((key, value or 0.0) for key, value, _ in found), key=lambda each: each[1])
    return most <= (gates.max_memory_mb or 0.0), f"{most:.4g} MiB ({key.partition('.')[2].replace('_', ' ')})"


def _power(subject: Subject, gates: Gates) -> tuple[bool, str]:
    value, missing = _number(subject.row, "power_mw")
    if value is None:
        return False, missing
    scope = (subject.row.power or {}).get("scope")
    covers = f" ({str(scope).replace('_', ' ')})" if scope else ""
    return value / 1000 <= (gates.max_power_w or 0.0), f"{value / 1000:.4g} W{covers}"


def _size(subject: Subject, gates: Gates) -> tuple[bool, str]:
    value, missing = _number(subject.row, "size_bytes.onnx")
    return (False, missing) if value is None else (value / 1e6 <= (gates.max_size_mb or 0.0), f"{value / 1e6:.4g} MB")


def _sparse(subject: Subject, gates: Gates) -> tuple[bool, str]:
    """Only the runtime's own receipt counts; a stand-in has none that is the device's."""
    row, used = subject.row, uses_zeros(subject.row)
    if row.stand_in:
        return False, f"not measured: {row.stand_in} stood in for the device"
    runtime = wording.runtime(row.runtime)
    if used == "yes":
        return True, f"{runtime} runs layers sparse"
    return False, f"{runtime} runs no layer sparse" if used == "no" else f"not measured: {runtime} does not say"


def _speedup(subject: Subject, gates: Gates) -> tuple[bool, str]:
    """The lower end of the speed-up's 95 % interval has to reach what is asked.

    A speed-up above 1 also has to be one: where the report says `within noise`, or `not known`, the gate fails.
    """
    if subject.ratio_interval is None:
        return False, f"not measured: {subject.reason or 'there is no interval'}"
    if subject.verdict == "not known":
        return False, f"not known: {subject.reason}"
    least, most = 1 / subject.ratio_interval[1], 1 / subject.ratio_interval[0]
    wanted = gates.min_speedup or 0.0
    real = wanted <= 1 or subject.verdict == "faster"
    return least >= wanted and real, f"{least:.3f} to {most:.3f} times as fast{subject.beside}, {subject.verdict}"


_RULES: dict[str, Callable[[Subject, Gates], tuple[bool, str]]] = {
    "min_top1": _top1,
    "max_p99_ms": _p99,
    "max_memory_mb": _memory,
    "max_power_w": _power,
    "max_size_mb": _size,
    "require_sparse": _sparse,
    "min_speedup": _speedup,
}
