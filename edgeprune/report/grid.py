"""The table of all devices as texts: heads, rows of cells, and the reasons of what is missing as lettered notes."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.report import wording
from edgeprune.report.facts import SWITCHED
from edgeprune.report.records import Column, Figure

VERDICT = "Speed against dense"


@dataclass(frozen=True)
class Cell:
    """One device's value: the sparse network's, what stands below it in small print, and the letter of a note."""

    text: str
    small: str = ""
    note: str = ""
    kind: str = ""  # of a verdict


@dataclass(frozen=True)
class Grid:
    """All of the table. `unknown` are quantities that no device knows, together where they share the reason."""

    heads: tuple[Column, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    notes: tuple[tuple[str, str], ...]
    unknown: tuple[tuple[str, str], ...]


def grid(columns: Sequence[Column]) -> Grid | None:
    """The table of `columns`; None where there are none."""
    if not columns:
        return None
    lettered: dict[str, str] = {}
    lines: list[tuple[str, tuple[Cell, ...]]] = []
    unknown: dict[str, list[str]] = {}  # by reason
    for key in dict.fromkeys(figure.key for column in columns for figure in column.figures):
        figures = [next(figure for figure in column.figures if figure.key == key) for column in columns]
        if all(figure.value is None and figure.baseline is None for figure in figures):
            reason = "; ".join(dict.fromkeys(figure.reason or "" for figure in figures))
            unknown.setdefault(reason, []).append(figures[0].label)
        else:
            lines.append((_label(figures[0], columns), tuple(_cell(figure, lettered) for figure in figures)))
        if key == "top1":
            lines.append((VERDICT, tuple(_verdict(column, lettered) for column in columns)))
    lines += _conditions(columns)
    notes = tuple((mark, why) for why, mark in lettered.items())
    return Grid(tuple(columns), tuple(lines), notes, tuple((", ".join(labels), why) for why, labels in unknown.items()))


def _label(figure: Figure, columns: Sequence[Column]) -> str:
    """The quantity; a latency is marked as the quoted one where all devices quote it."""
    quoted = {f"latency_ms.{column.headline}" for column in columns}
    return f"{figure.label} (quoted)" if quoted == {figure.key} and figure.key != "latency_ms.median" else figure.label


def _cell(figure: Figure, lettered: dict[str, str]) -> Cell:
    small = f"{wording.figure(figure.baseline, figure.unit)} dense" if figure.baseline is not None else ""
    if figure.value is None:
        return Cell(wording.NONE, small, _letter(figure.reason or "not known", lettered))
    scope = _letter(f"covers the {figure.scope}", lettered) if figure.scope else ""
    return Cell(wording.figure(figure.value, figure.unit), small, scope)


def _verdict(column: Column, lettered: dict[str, str]) -> Cell:
    if column.ratio is None:
        return Cell("not compared", "", _letter(column.reason or "not known", lettered))
    kind = column.verdict.replace(" ", "-")
    if column.verdict == "not known" or column.ratio_interval is None:
        return Cell("not known", "", _letter(column.reason or "not known", lettered), kind)
    low, high = (1 / edge for edge in reversed(column.ratio_interval))
    floor = f", noise floor {wording.share(column.noise_floor)}" if column.noise_floor is not None else ""
    text = f"{wording.ratio(1 / column.ratio)}{wording.SPACE}{wording.TIMES}, {column.verdict}"
    return Cell(text, f"{low:.3f} to {high:.3f}{floor}", "", kind)


def _conditions(columns: Sequence[Column]) -> list[tuple[str, tuple[Cell, ...]]]:
    """Power mode, clocks and what was switched, where at least one device told."""
    labels = dict.fromkeys(label for column in columns for label, _ in column.conditions)
    told = [dict(column.conditions) for column in columns]
    unread = {label: "nothing" if label.startswith(SWITCHED) else "not read" for label in labels}
    return [(label, tuple(Cell(each.get(label, unread[label]), kind="plain") for each in told)) for label in labels]


def _letter(reason: str, lettered: dict[str, str]) -> str:
    """The mark of a note: a, b, ..., z, aa, ab, ...; the same reason has the same one."""
    letters, number = string.ascii_lowercase, len(lettered)
    mark = letters[number % 26] if number < 26 else letters[number // 26 - 1] + letters[number % 26]
    return lettered.setdefault(reason, mark)
