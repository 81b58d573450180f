"""All devices side by side: for each device and setting one column with the sparse network and its baseline there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report.facts import in_short
from edgeprune.report.pairing import baseline
from edgeprune.report.records import Column, Comparison, Figure, Row

MEMORIES = {
    "peak_rss": "Memory: peak of the process",
    "available_delta": "Memory: less for the whole machine",
    "engine": "Memory: engine",
    "context": "Memory: context",
}
SCOPES = {
    "module": "whole module",
    "sum_of_rails": "sum of its rails",
    "total_input": "total input",
    "package": "processor package",
}
NO_IDLE = "no idle power was read"


def columns(
    rows: Sequence[Row], comparisons: Sequence[Comparison], environment: Mapping[str, Mapping[str, Any]]
) -> list[Column]:
    """A column for each sparse row of a real runtime, in the order of the rows; stand-ins have one without times."""
    found = {each.source: each for each in comparisons}
    return [
        _column(row, baseline(row, rows), found.get(row.source), environment.get(row.machine, {}))
        for row in rows
        if row.role == "sparse" and row.runtime != "null"
    ]


def figures(row: Row, beside: Row | None) -> tuple[Figure, ...]:
    """What two rows are told by, the quoted percentile first among the latencies.

    Power and energy of the one `beside` are left out where they cover something else than the row's.
    """
    percentiles = sorted(("median", "p90", "p99"), key=lambda key: key != row.headline)
    wanted = [("top1", "Top-1", "%")]
    wanted += [(f"latency_ms.{key}", f"Latency: {key}", "ms") for key in percentiles]
    wanted += [("throughput_ips", "Throughput", "images/s")]
    wanted += [("load_ms", "Load", "ms"), ("first_inference_ms", "First inference", "ms")]
    wanted += [(f"memory_mb.{key}", label, "MiB") for key, label in MEMORIES.items()]
    wanted += [("power.mean_mw", "Power", "mW"), ("power.idle_mw", "Idle power", "mW")]
    wanted += [("power.energy_mj", "Energy per inference", "mJ"), ("power.net_energy_mj", "Energy above idle", "mJ")]
    wanted += [("size_bytes.onnx", "ONNX file", "bytes"), ("size_bytes.compressed", "ONNX file compressed", "bytes")]
    scope = scope_of(row)
    return tuple(
        Figure(
            key=key,
            label=label,
            unit=unit,
            value=value_of(row, key),
            baseline=value_of(beside, key) if beside and _alike(key, row, beside) else None,
            reason=None if value_of(row, key) is not None else reason_of(row, key),
            scope=scope if key.startswith("power") else None,
        )
        for key, label, unit in wanted
    )


def _alike(key: str, row: Row, beside: Row) -> bool:
    return not key.startswith("power") or scope_of(row) == scope_of(beside)


def value_of(row: Row, key: str) -> float | None:
    """A number of the row by its name, as `latency_ms.p99`; None where it, or the table it stands in, is not known."""
    name, _, part = key.partition(".")
    value = getattr(row, name)
    return (value or {}).get(part) if part else value


def reason_of(row: Row, key: str) -> str:
    """Why a number of the row is not known."""
    name = key.partition(".")[0]
    if name == "power":
        if row.power is not None:
            return NO_IDLE
        return row.reasons.get("power") or row.reasons.get("power_mw") or "no power sensor was read"
    return row.reasons.get(key) or row.reasons.get(name) or "it was not recorded"


def scope_of(row: Row) -> str | None:
    """What the power figures of a row cover, in words, with the rails that were added up."""
    if row.power is None:
        return None
    scope, rails = str(row.power.get("scope")), row.power.get("rails") or {}
    named = SCOPES.get(scope, scope.replace("_", " "))
    return f"{named}: {', '.join(str(rail) for rail in rails)}" if rails else named


def _column(row: Row, beside: Row | None, found: Comparison | None, facts: Mapping[str, Any]) -> Column:
    withheld = f"{row.stand_in} stood in for the device" if row.stand_in else "it was not measured in turns with dense"
    return Column(
        source=row.source,
        device=row.device,
        stand_in=row.stand_in,
        setting=row.setting,
        name=row.name,
        baseline=beside.name if beside else None,
        headline=row.headline,
        figures=figures(row, beside),
        conditions=tuple(in_short(facts, row.settings)),
        ratio=found.latency_ratio if found else None,
        ratio_interval=found.latency_ratio_interval if found else None,
        noise_floor=found.noise_floor if found else None,
        verdict=found.verdict if found else "not known",
        reason=found.reason if found else withheld,
    )
