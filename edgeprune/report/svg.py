"""Drawing: a frame that maps data to a drawing's units, and the marks on it, as SVG text.

Colours and fonts are the page's: marks carry classes (`dense`, `sparse`, `axis`) and the style sheet does the rest, so
a drawing follows the page into dark mode and onto paper. Equal input gives equal text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A drawing of `width` by `height` units; its plot area shows `x` from left to right and `y` from bottom to top."""

    width: float
    height: float
    x: tuple[float, float]
    y: tuple[float, float]
    left: float = 46
    right: float = 12
    top: float = 12
    bottom: float = 40

    def px(self, value: float) -> float:
        """The horizontal place of a data value."""
        return self.left + (self.width - self.left - self.right) * _part(value, self.x)

    def py(self, value: float) -> float:
        """The vertical place of a data value."""
        return self.height - self.bottom - (self.height - self.top - self.bottom) * _part(value, self.y)


def drawing(frame: Frame, marks: Sequence[str], label: str) -> str:
    """The marks as one SVG element; `label` is what a screen reader says."""
    size = f'viewBox="0 0 {frame.width:g} {frame.height:g}"'
    return f'<svg class="plot" {size} role="img" aria-label="{escape(label)}">{"".join(marks)}</svg>'


def ticks(low: float, high: float, target: int = 5) -> list[float]:
    """About `target` round numbers (1, 2 or 5 times a power of ten apart) within [low, high]."""
    if not high > low:
        return [low]
    rough = (high - low) / max(target, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def axes(frame: Frame, xticks: Sequence[float], yticks: Sequence[float], xlabel: str, ylabel: str) -> list[str]:
    """Grid lines for y, ticks for both, and the two labels; the y label stands above its axis, to be read upright."""
    bottom, right = frame.height - frame.bottom, frame.width - frame.right
    marks = []
    for value in yticks:
        y = frame.py(value)
        marks.append(f'<line class="grid" x1="{frame.left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        marks.append(text(frame.left - 7, y + 4, _number(value, yticks), "tick end"))
    for value in xticks:
        x = frame.px(value)
        marks.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom:g}" y2="{bottom + 4:g}"/>')
        marks.append(text(x, bottom + 17, _number(value, xticks), "tick middle"))
    marks.append(f'<line class="axis" x1="{frame.left:g}" x2="{right:g}" y1="{bottom:g}" y2="{bottom:g}"/>')
    return [*marks, text(right, frame.height - 5, xlabel, "label end"), text(2, 11, ylabel, "label")]


def text(x: float, y: float, content: str, classes: str) -> str:
    """One line of text, escaped."""
    return f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def line(frame: Frame, points: Sequence[Point], classes: str) -> str:
    """A line through data points."""
    path = " ".join(f"{frame.px(x):.1f},{frame.py(y):.1f}" for x, y in points)
    return f'<polyline class="line {classes}" points="{path}"/>'


def steps(frame: Frame, points: Sequence[Point], classes: str) -> str:
    """A staircase that holds each y until the next x, as a distribution function does."""
    corners: list[Point] = []
    for x, y in points:
        if corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return line(frame, corners, classes)


def dot(frame: Frame, x: float, y: float, classes: str) -> str:
    """A point: round for the dense network, a diamond for the sparse one, so that colour is not needed."""
    cx, cy = frame.px(x), frame.py(y)
    if "sparse" in classes:
        return f'<path class="dot {classes}" d="M{cx:.1f} {cy - 5:.1f}l5 5l-5 5l-5 -5z"/>'
    return f'<circle class="dot {classes}" cx="{cx:.1f}" cy="{cy:.1f}" r="3.8"/>'


def whisker(frame: Frame, x: float, low: float, high: float, classes: str) -> str:
    """A vertical range."""
    cx, y1, y2 = frame.px(x), frame.py(low), frame.py(high)
    return f'<line class="whisker {classes}" x1="{cx:.1f}" x2="{cx:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _part(value: float, span: tuple[float, float]) -> float:
    return (value - span[0]) / (span[1] - span[0]) if span[1] > span[0] else 0.5


def _number(value: float, among: Sequence[float]) -> str:
    """A tick's number with as many decimals as its neighbours need."""
    decimals = next(d for d in range(13) if d == 12 or all(math.isclose(v, round(v, d), abs_tol=1e-12) for v in among))
    return f"{value:,.{decimals}f}"
