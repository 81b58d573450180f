"""The report as one flat map of numbers, which is what two runs are compared by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.report.pairing import in_a_path
from edgeprune.report.records import Comparison, Network, Row

_OF_ROW = ("top1", "throughput_ips", "load_ms", "first_inference_ms", "power_mw")
_OF_NETWORK = ("sparsity", "sparsity_paper", "zeros", "weights", "macs", "nonzero_macs")
_OF_COMPARISON = ("latency_ratio", "noise_floor", "top1_difference", "compressed_ratio")
_OF_POWER = ("idle_mw", "energy_mj", "net_energy_mj")


def flatten(
    rows: Sequence[Row],
    comparisons: Sequence[Comparison],
    networks: Sequence[Network],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
) -> dict[str, float]:
    """`place/of/the.number` -> number; a number that is not known has no entry.

    Networks are `<network>/...`, measurements `<device>/<runtime>/<setting>/<network>/...`, comparisons the same with
    `sparse:dense`, and trainings `training/<network>/...`. A setting is `b<batch>-t<threads>-<protocol>`, followed by
    processors, power mode and `locked` where there are any, and by the time of the session where two share all that.
    """
    places = _places(rows)
    numbers: dict[str, float | None] = {}
    for network in networks:
        numbers |= {f"{network.name}/{key}": getattr(network, key) for key in _OF_NETWORK}
        numbers |= {f"{network.name}/size_bytes.{key}": value for key, value in network.size_bytes.items()}
    for row in rows:
        place = f"{places[row.source]}/{row.name}"
        numbers |= {f"{place}/{key}": getattr(row, key) for key in _OF_ROW}
        numbers |= {f"{place}/latency_ms.{key}": value for key, value in row.latency_ms.items()}
        numbers |= {f"{place}/memory_mb.{key}": value for key, value in row.memory_mb.items()}
        numbers |= {f"{place}/power.{key}": (row.power or {}).get(key) for key in _OF_POWER}
    for found in comparisons:
        place = f"{places[found.source]}/{found.name}:{found.baseline}"
        numbers |= {f"{place}/{key}": getattr(found, key) for key in _OF_COMPARISON}
    for name, epochs in histories.items():
        last = epochs[-1] if epochs else {}
        numbers |= {f"training/{name}/{key}": last.get(key) for key in ("epoch", "loss", "validation_top1")}
    return {key: value for key, value in numbers.items() if value is not None}


def _places(rows: Sequence[Row]) -> dict[str, str]:
    """Where the numbers of each row stand, by its source: no two rows of one name share a place."""
    found = {row.source: f"{row.device}/{row.runtime}/{in_a_path(row)}" for row in rows}
    times = Counter((found[row.source], row.name) for row in rows)
    again = {
        row.source: f"{found[row.source]}-{row.started_at}" for row in rows if times[found[row.source], row.name] > 1
    }
    return {**found, **again}
