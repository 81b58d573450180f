"""The warnings of a report in few lines: what several networks of a device have in common is told once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.report.records import Remark, Report


@dataclass(frozen=True)
class Line:
    """One warning as it is shown: its code, a sentence, and who raised it."""

    code: str
    message: str
    sources: tuple[str, ...]


def grouped(report: Report) -> list[Line]:
    """A line for each code and device, and only one for devices that say the very same.

    Where the networks of a device say it with other numbers, the first one's sentence stands for all, with how many of
    the device's networks say it. `Report.warnings` has every sentence.
    """
    lines: dict[tuple[str, str], list[str]] = {}
    for alike in _by_device(report.warnings):
        texts = list(dict.fromkeys(remark.message for remark in alike))
        first = alike[0]
        message = texts[0] if len(texts) == 1 else f"{_of(alike, report)} networks: {first.source} says: {texts[0]}"
        lines.setdefault((first.code, message), []).extend(dict.fromkeys(remark.source for remark in alike))
    return [Line(code, message, tuple(sources)) for (code, message), sources in lines.items()]


def _by_device(remarks: Sequence[Remark]) -> list[list[Remark]]:
    """Remarks of one code and device together, each group where its first one stood."""
    found: dict[tuple[str, str], list[Remark]] = {}
    for remark in remarks:
        found.setdefault((remark.code, _device(remark.source)), []).append(remark)
    return list(found.values())


def _of(alike: Sequence[Remark], report: Report) -> str:
    """`3 of 4`: how many of a device's measurements say it."""
    device = _device(alike[0].source)
    measured = {row.source for row in report.rows if row.source.split("/")[1] == device}
    said = len({remark.source for remark in alike})
    return f"{said} of {max(said, len(measured))}"


def _device(source: str) -> str:
    """The device's folder of `device/runtime-network`; a step names itself."""
    return source.partition("/")[0]
