"""A committed benchmark as a Markdown table: a line for each network and sparsity, a column for each runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.benching.asked import PEERS, REFERENCE
from edgeprune.report.wording import NONE

NOT_RUN = "not run"
Row = Mapping[str, Any]


def as_markdown(documents: Sequence[Mapping[str, Any]]) -> str:
    """The documents of `edgeprune bench` as one table, then where they were measured; `NOT_RUN` where there are none.

    A cell is the median latency, and on all but the reference's dense network the speed-up over that one with its
    interval.
    """
    rows: list[Row] = [row for document in documents for row in document["rows"]]
    if not rows:
        return NOT_RUN + "\n"
    runtimes = [name for name in PEERS if any(row["runtime"] == name for row in rows)]
    lines: dict[tuple[str, float, int], dict[str, Row]] = {}
    for row in rows:
        lines.setdefault((row["network"], row["sparsity"], row["threads"]), {})[row["runtime"]] = row
    titles = ["network", "zeros", "threads", *(f"{name}, ms (speed-up)" for name in runtimes)]
    table = [titles, ["---", *["---:"] * (len(titles) - 1)]]
    for (network, sparsity, threads), found in lines.items():
        told = [_cell(found.get(name)) for name in runtimes]
        table.append([network, f"{100 * sparsity:.3g} %", str(threads), *told])
    return "\n".join([*(f"| {' | '.join(line)} |" for line in table), "", *_places(documents), ""])


def roofline(document: Mapping[str, Any]) -> str:
    """Each sparse layer of our runtime: multiply-adds a second, and its loads' share of the time, at every sparsity."""
    layers = document["layers"]
    lines: dict[str, dict[float, str]] = {}
    for one in layers:
        for step in one["steps"]:
            if step["of_limit"] is not None and step["gmacs"] is not None:
                told = f"{step['gmacs']:.1f} ({100 * step['of_limit']:.0f} %)"
                lines.setdefault(step["name"], {})[one["sparsity"]] = told
    if not lines:
        return NOT_RUN + "\n"
    shares = [one["sparsity"] for one in layers if any(one["sparsity"] in line for line in lines.values())]
    table = [["layer", *(f"{100 * share:.3g} % zeros, GMAC/s (of the limit)" for share in shares)]]
    table.append(["---", *["---:"] * len(shares)])
    table += [[f"`{name}`", *(line.get(share, "dense") for share in shares)] for name, line in lines.items()]
    limit = f"Kernels {layers[0]['kernels']}; all lanes at the limit: {layers[0]['limit_gmacs']:.1f} GMAC/s."
    return "\n".join([*(f"| {' | '.join(line)} |" for line in table), "", limit, ""])


def _cell(row: Row | None) -> str:
    if row is None:
        return NOT_RUN
    told, edges = _digits(row["latency_ms"]["median"]), row["speedup_interval"]
    if row["agreement"]["agrees"] is False:
        return f"{told}, wrong answers"
    if row["runtime"] == REFERENCE and not edges:
        return told
    return f"{told} ({row['speedup']:.2f}" + (f"; {edges[0]:.2f} to {edges[1]:.2f})" if edges else ")")


def _digits(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.3f}"


def _places(documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each machine, with the day, the versions and the noise floors."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for document in documents:
        found.setdefault(_machine(document), []).append(document)
    return [f"{told}. Noise floors: {', '.join(map(_floor, own))}." for told, own in found.items()]


def _machine(document: Mapping[str, Any]) -> str:
    machine = document["machine"]
    governor = machine["governor"] or "not told"
    versions = ", ".join(f"{name} {version}" for name, version in machine["runtimes"].items())
    cpu = f"{machine['cpu_model'] or 'an unnamed processor'}, {machine['cores']} cores, governor {governor}"
    return f"Measured on {document['started_at'][:10]} on {cpu}, {machine['os']}; {versions}"


def _floor(document: Mapping[str, Any]) -> str:
    value = document["noise_floor"]["value"]
    return f"{document['settings']['network']} {NONE if value is None else f'{100 * value:.1f} %'}"
