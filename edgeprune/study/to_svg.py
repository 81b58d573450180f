"""accuracy.svg: test accuracy over sparsity, a line a method, with deviations over seeds. Equal cells, equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.study.plan import Plan
from edgeprune.study.results import Row
from edgeprune.study.summary import Spread
from edgeprune.study.to_json import finished, shared_top1, tables

# Okabe and Ito (2008), which colour-blind readers can tell apart; beyond eight methods dash and marker tell more.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
_DASHES, _MARKERS = ("-", "--", ":"), "osD^vP*X"
_DODGE = 0.01  # of the axis, between neighbouring methods: their error bars would hide each other
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "edgeprune",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Curve = Mapping[float, Spread]  # sparsity -> test top-1


def render(plan: Plan, rows: Sequence[Row]) -> bytes:
    """The plot as SVG. A method without a finished cell stands in the legend as "not run"."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        height = max(4.6, 0.2 * (len(plan.study.methods) + 3))  # the legend has a line a method
        figure = Figure(figsize=(8.4, height), layout="constrained")
        axes = figure.add_subplot()
        _draw(axes, plan, rows)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def curves(plan: Plan, rows: Sequence[Row]) -> dict[str, Curve]:
    """Of each method what is known at each sparsity."""
    found: dict[str, dict[float, Spread]] = {name: {} for name in plan.study.methods}
    for table in tables(plan.study, rows):
        for line in table.lines:
            if line.test_top1 is not None:
                found[line.method][table.sparsity] = line.test_top1
    return dict(found)


def _place(sparsity: float) -> float:
    """Equal steps for equal ratios of what is left: 90, 99 and 99.9 % stand as far apart."""
    return -math.log10(1 - sparsity)


def _draw(axes: Any, plan: Plan, rows: Sequence[Row]) -> None:
    sparsities = sorted(plan.study.sparsities)
    places = [_place(sparsity) for sparsity in sparsities]
    reach = places[-1] - places[0] or 1.0
    lines = curves(plan, rows)
    dense, _ = shared_top1(finished(rows))
    if dense is not None:
        axes.axhline(dense.mean, color="#666666", linestyle=(0, (1, 2)), linewidth=1, label="dense", zorder=1)
    for number, (name, curve) in enumerate(lines.items()):
        shift = (number - (len(lines) - 1) / 2) * _DODGE * reach
        _curve(axes, number, name, curve, shift, 2.4 if name == plan.study.ours else 1.2)
    room = reach * (0.06 + _DODGE * len(lines) / 2)
    axes.set_xlim(places[0] - room, places[-1] + room)
    axes.set_xticks(places, [f"{100 * sparsity:.6g} %" for sparsity in sparsities])
    axes.minorticks_off()
    axes.set_xlabel("zeros in the prunable weights")
    axes.set_ylabel("test top-1, %")
    axes.set_title(f"{plan.study.name}: mean and standard deviation over seeds", loc="left", fontsize=10)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, borderaxespad=0, fontsize=9)


def _curve(axes: Any, number: int, name: str, curve: Curve, shift: float, width: float) -> None:
    known = sorted(curve)
    axes.errorbar(
        [_place(sparsity) + shift for sparsity in known],
        [curve[sparsity].mean for sparsity in known],
        [curve[sparsity].deviation or 0.0 for sparsity in known],
        label=name if known else f"{name} (not run)",
        color=_COLOURS[number % len(_COLOURS)],
        linestyle=_DASHES[number // len(_COLOURS) % len(_DASHES)],
        marker=_MARKERS[(number + number // len(_COLOURS)) % len(_MARKERS)],
        markersize=4.5,
        linewidth=width,
        capsize=2.5,
    )
