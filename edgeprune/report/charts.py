"""The report's plots: latency as distribution functions and round by round, the ratio's interval, training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from edgeprune.report import wording
from edgeprune.report.records import Comparison, Layer, Row
from edgeprune.report.svg import Frame, Point, axes, dot, drawing, line, steps, text, ticks, whisker
from edgeprune.report.uncertainty import claimable


def distribution(rows: Sequence[Row]) -> str:
    """The empirical distribution functions of the latencies of `rows`, to soon after the slower 95th percentile."""
    shown = [row for row in rows if row.quantiles_ms]
    low, high = min(row.quantiles_ms[0] for row in shown), max(row.quantiles_ms[95] for row in shown)
    factor, unit = _unit(high)
    span = _padded(low * factor, (high + 0.15 * (high - low)) * factor)
    frame = Frame(460, 280, span, (0.0, 100.0), top=26)
    marks = axes(frame, ticks(*span), [0, 25, 50, 75, 100], f"latency, {unit}", "% of inferences at most so slow")
    for row in shown:
        points = [(value * factor, float(level)) for level, value in enumerate(row.quantiles_ms)]
        seen = [point for point in points if point[0] <= span[1]]
        marks.append(steps(frame, [(span[0], 0.0), *seen, (span[1], seen[-1][1])], row.role))
    medians = ", ".join(f"{row.role} {wording.milliseconds(row.latency_ms['median'])}" for row in shown)
    return drawing(frame, marks, f"Distribution of latencies; medians: {medians}")


def rounds(rows: Sequence[Row]) -> str:
    """Each round's median with the range from its 10th to its 90th percentile; rows stand side by side in a round."""
    shown = [row for row in rows if row.rounds]
    factor, unit = _unit(max(timed["p90"] for row in shown for timed in row.rounds))
    lowest = min(timed["p10"] for row in shown for timed in row.rounds) * factor
    span = _padded(lowest, max(timed["p90"] for row in shown for timed in row.rounds) * factor)
    last = max(len(row.rounds) for row in shown)
    frame = Frame(460, 280, (0.4, last + 0.6), span, top=26)
    numbers = [n for n in ticks(1, last, 9) if n == int(n)] if last > 1 else [1.0]
    marks = axes(frame, numbers, ticks(*span), "round", f"latency, {unit}: median, 10th to 90th percentile")
    for position, row in enumerate(shown):
        offset = (position - (len(shown) - 1) / 2) * 0.34
        for number, timed in enumerate(row.rounds, start=1):
            low, middle, high = (timed[key] * factor for key in ("p10", "median", "p90"))
            marks.append(whisker(frame, number + offset, low, high, row.role))
            marks.append(dot(frame, number + offset, middle, row.role))
    return drawing(frame, marks, f"Median latency of each of {last} rounds, dense beside sparse")


def interval(found: Comparison, reach: float) -> str:
    """The ratio with its interval on a logarithmic scale around 1, as far as `reach` and 1 / `reach` (reach > 1).

    Faster is to the right, so the axis is the speed-up. Within a band around 1, the noise floor or one percent, nothing
    is claimed. Places are percentages: the drawing stretches, its strokes do not.
    """

    def place(speed: float) -> float:
        return 50 + 46 * max(-1.0, min(1.0, math.log(speed) / math.log(reach)))

    marks = []
    if found.noise_floor is not None:
        least = 1 + claimable(found.noise_floor)
        left, right = place(1 / least), place(least)
        marks.append(f'<rect class="floor" x="{left:.2f}%" width="{right - left:.2f}%" y="1" height="24"/>')
    marks.append('<line class="axis" x1="50%" x2="50%" y1="0" y2="26"/>')
    kind = found.verdict.replace(" ", "-")
    if found.latency_ratio_interval is not None:
        low, high = found.latency_ratio_interval
        ends = f'x1="{place(1 / high):.2f}%" x2="{place(1 / low):.2f}%"'
        marks.append(f'<line class="span {kind}" {ends} y1="13" y2="13"/>')
    if found.latency_ratio:
        marks.append(f'<circle class="mark {kind}" cx="{place(1 / found.latency_ratio):.2f}%" cy="13" r="5"/>')
    speed = wording.ratio(1 / found.latency_ratio) if found.latency_ratio else "not known"
    label = f"{found.verdict}: speed-up {speed}"
    return f'<svg class="interval" height="26" role="img" aria-label="{label}">{"".join(marks)}</svg>'


def reach(comparisons: Sequence[Comparison]) -> float:
    """How far from 1 the axis of all intervals has to go, at least 1.25."""
    edges = [edge for c in comparisons for edge in (c.latency_ratio_interval or ()) if edge > 0]
    edges += [c.latency_ratio for c in comparisons if c.latency_ratio]
    edges += [1 + claimable(c.noise_floor) for c in comparisons]
    return max([1.25, *(max(edge, 1 / edge) * 1.05 for edge in edges)])


def bar(layer: Layer) -> str:
    """A layer's share of zeros as a bar on a track of full width."""
    fill = f'<rect class="fill" width="{100 * layer.sparsity:.2f}%" height="12" rx="2"/>' if layer.zeros else ""
    track = f'<rect class="{"track" if layer.pruned else "track whole"}" width="100%" height="12" rx="2"/>'
    label = f"{layer.name}: {wording.share(layer.sparsity)} zeros"
    return f'<svg class="bar" height="12" role="img" aria-label="{escape(label)}">{track}{fill}</svg>'


def training(epochs: Sequence[Mapping[str, Any]], key: str, name: str, span: tuple[float, float]) -> str:
    """One quantity (`validation_top1` or `loss`) over the epochs, with its last value; all plots share `span`."""
    points: list[Point] = [(float(e["epoch"]), float(e[key])) for e in epochs if e.get(key) is not None]
    first, last = points[0][0], points[-1][0]
    reach = (first, last) if last > first else (first - 1, last + 1)
    frame = Frame(330, 170 if key == "loss" else 210, reach, span, right=16, top=26)
    label = {"validation_top1": "validation top-1, %", "loss": "training loss"}[key]
    numbers = [n for n in ticks(first, last) if n == int(n)]
    marks = axes(frame, numbers, ticks(*span, 4), "epoch", label)
    marks += [line(frame, points, name), dot(frame, *points[-1], name)]
    end = f"{points[-1][1]:.1f}" if key == "validation_top1" else f"{points[-1][1]:.3f}"
    below = frame.py(points[-1][1]) < 40
    marks.append(text(frame.px(last), frame.py(points[-1][1]) + (20 if below else -10), end, f"value end {name}"))
    return drawing(frame, marks, f"{label} of {name} over {len(points)} epochs, {end} at the end")


def span(histories: Mapping[str, Sequence[Mapping[str, Any]]], key: str) -> tuple[float, float] | None:
    """The range that all trainings share in one quantity; accuracies end at 100, losses begin at 0. None: no values."""
    values = [float(e[key]) for epochs in histories.values() for e in epochs if e.get(key) is not None]
    if not values:
        return None
    if key == "loss":
        return 0.0, max(values) * 1.05 or 1.0
    low = min(values)
    return max(0.0, low - max(1.0, 0.08 * (100 - low))), 100.0


def _padded(low: float, high: float) -> tuple[float, float]:
    """A range with room at both ends, and some even where all values are equal."""
    room = max((high - low) * 0.06, abs(high) * 0.01, 1e-9)
    return max(0.0, low - room), high + room


def _unit(milliseconds: float) -> tuple[float, str]:
    """The factor and the name of the unit in which numbers up to `milliseconds` read well."""
    return (1000.0, "\N{GREEK SMALL LETTER MU}s") if milliseconds < 1 else (1.0, "ms")
