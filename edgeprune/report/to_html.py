"""`report.html`: one file with everything in it. No script, no font, nothing fetched; light, dark, phone and paper."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from edgeprune.report import charts, pairing, wording
from edgeprune.report.contests import Contest, contests
from edgeprune.report.facts import briefly, describe
from edgeprune.report.grid import grid
from edgeprune.report.headline import accuracy, foremost, place
from edgeprune.report.records import Comparison, Network, Report
from edgeprune.report.remarks import grouped
from edgeprune.report.sentences import floor_in_short, within_error
from edgeprune.report.stand_ins import ANSWERED

if TYPE_CHECKING:
    from markupsafe import Markup

STAGES = {"teacher": "Teacher", "dense": "Dense student", "sparse": "Sparse student, retrained"}


def render(report: Report) -> bytes:
    """The report as a self-contained HTML page, UTF-8; every text from the run is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("edgeprune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["w"] = wording
    environment.globals["floor_in_short"] = floor_in_short
    page = environment.get_template("report.html.j2").render(
        report=report,
        devices=grid(report.columns),
        groups=_groups(report),
        unmeasured=_unmeasured(report),
        intervals=_intervals(report),
        bars=[(layer, _markup(charts.bar(layer))) for layer in report.layers if layer.kind != "norm"],
        norms=[layer for layer in report.layers if layer.kind == "norm"],
        trainings=_trainings(report),
        tiles=tiles(report),
        environment=_environment(report),
        remarks=grouped(report),
    )
    return (page + "\n").encode()


def tiles(report: Report) -> list[dict[str, str]]:
    """Four numbers for the top of the page: accuracy, zeros, latency and size, dense against sparse."""
    networks = {network.name: network for network in report.networks}
    sparse, dense = networks.get("sparse"), networks.get("dense")
    told = contests(report.comparisons, report.across)
    return [_accuracy_tile(told, report), _zeros_tile(sparse), _latency_tile(told), _size_tile(sparse, dense)]


def _environment(report: Report) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the networks were trained with, then each device that measured them, by sessions where there are several."""
    training = [("Training", describe(report.training))] if report.training else []
    return training + [(device, briefly(facts)) for device, facts in report.environment.items()]


def _groups(report: Report) -> list[dict[str, Any]]:
    """Rows by conditions, each with its plots of dense beside sparse."""
    groups = []
    for _, members in groupby(report.rows, key=pairing.table):
        rows = list(members)
        shown = [row for row in rows if row.role in ("dense", "sparse") and row.rounds and row.quantiles_ms]
        groups.append(
            {
                "rows": rows,
                "first": rows[0],
                "shown": shown,
                "distribution": _markup(charts.distribution(shown)) if shown else None,
                "rounds": _markup(charts.rounds(shown)) if shown else None,
                "slowest": max((row.quantiles_ms[-1] for row in shown), default=None),
            }
        )
    return groups


def _unmeasured(report: Report) -> list[Network]:
    measured = {row.name for row in report.rows}
    return [network for network in report.networks if network.name not in measured]


def _intervals(report: Report) -> list[tuple[Comparison, Markup]]:
    reach = charts.reach(report.comparisons)
    return [(found, _markup(charts.interval(found, reach))) for found in report.comparisons]


def _trainings(report: Report) -> list[dict[str, Any]]:
    """The trainings that have a history, with a plot for each quantity they recorded."""
    kept = {name: epochs for name, epochs in report.histories.items() if epochs}
    spans = {key: charts.span(kept, key) for key in ("validation_top1", "loss")}
    return [
        {
            "title": STAGES.get(name, name),
            "given": epochs[0].get("epoch") == 0,  # a checkpoint, not a training of ours
            "plots": [
                _markup(charts.training(epochs, key, name, span))
                for key, span in spans.items()
                if span is not None and any(epoch.get(key) is not None for epoch in epochs)
            ],
        }
        for name, epochs in kept.items()
    ]


def _accuracy_tile(comparisons: Sequence[Comparison], report: Report) -> dict[str, str]:
    row, found = accuracy(comparisons, report.rows)
    if row is None:
        return {"name": "Top-1", "value": wording.NONE, "note": "not measured"}
    note = f"on {wording.plural(row.images or 0, 'test image')}" + (f", {ANSWERED}" if row.stand_in else "")
    if found is not None:
        within = ", within its error" if within_error(found) else ""
        images = wording.plural(found.images or 0, "image")
        note = f"{wording.points(found.top1_difference)} against dense{within}, on {images}"
    return {"name": "Top-1", "value": wording.percent(row.top1), "note": note}


def _zeros_tile(sparse: Network | None) -> dict[str, str]:
    if sparse is None or sparse.sparsity is None:
        return {"name": "Zero weights", "value": wording.NONE, "note": "not exported"}
    note = f"{wording.count(sparse.zeros)} of {wording.count(sparse.weights)} prunable"
    if sparse.sparsity_paper is not None:
        note += f"; {wording.share(sparse.sparsity_paper)} of all, as papers count"
    return {"name": "Zero weights", "value": wording.share(sparse.sparsity), "note": note}


def _latency_tile(comparisons: Sequence[Comparison]) -> dict[str, str]:
    timed = [found for found in comparisons if found.latency_ratio]
    told = foremost(timed)
    if told is None:
        return {"name": "Speed", "value": wording.NONE, "note": "not compared with dense"}
    if told.verdict == "not known":
        return {"name": "Speed", "value": wording.NONE, "note": f"not known: {told.reason}"}
    others = len(timed) - 1
    note = f"{told.verdict}: {place(told, timed)}"
    note += f", dense with {wording.runtime(told.dense_runtime)}" if isinstance(told, Contest) else ""
    note += f"; {wording.plural(others, 'other setting')} below" if others else ""
    speed = f"{1 / (told.latency_ratio or 1.0):.2f}{wording.SPACE}{wording.TIMES}"
    return {"name": "Speed", "value": speed, "note": note, "kind": told.verdict.replace(" ", "-")}


def _size_tile(sparse: Network | None, dense: Network | None) -> dict[str, str]:
    packed = sparse.size_bytes.get("compressed") if sparse else None
    if packed is None:
        return {"name": "Compressed", "value": wording.NONE, "note": "not exported"}
    against = dense.size_bytes.get("compressed") if dense else None
    note = f"{against / packed:.1f} times smaller than dense" if against else "compressed file"
    return {"name": "Compressed", "value": wording.size(packed), "note": note}


def _markup(svg: str) -> Markup:
    """Mark a drawing as safe: `svg` and `charts` escape every text that they are given."""
    from markupsafe import Markup

    return Markup(svg)  # noqa: S704
