"""A row of the report from one measurement and what the manifest knows of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from statistics import median
from typing import Any

from edgeprune.report import pairing, stand_ins
from edgeprune.report.records import Network, Row
from edgeprune.report.uncertainty import quantiles, standard_error, wilson
from runtimes.errors import UserError
from runtimes.records import HEADLINES, Measurement

LATENCIES = ("median", "p90", "p99", "mean", "min", "max")
COUNTED = ("sparsity", "sparsity_paper", "zeros", "weights", "macs", "nonzero_macs")
MEMORIES = ("peak_rss", "available_delta", "engine", "context")
NOT_EXPORTED = "3-export/manifest.json does not describe this network"


def row(measurement: Measurement, device: str, network: Network | None, source: str) -> Row:
    """Join the two under the name of the device; every number that is None has its reason.

    `source` is the measurement's file in the run folder. What a stand-in measured is withheld, see `stand_ins`.
    """
    top1, images = measurement.top1, measurement.images
    memory = {key: measurement.memory_mb.get(key) for key in MEMORIES}
    sizes = network.size_bytes if network else dict.fromkeys(("onnx", "nonzero", "compressed"))
    found = Row(
        name=measurement.name,
        role=network.role if network else measurement.name,
        runtime=measurement.runtime,
        runtime_version=measurement.runtime_version,
        device=device,
        precision=measurement.precision,
        pattern=network.pattern if network else None,
        batch=measurement.batch,
        threads=measurement.threads,
        workload=measurement.workload,
        bundle=measurement.bundle,
        started_at=measurement.started_at,
        n=measurement.n,
        images=images,
        top1=top1,
        top1_interval=wilson(top1, images) if top1 is not None and images else None,
        top1_standard_error=standard_error(top1, images) if top1 is not None and images else None,
        **{key: getattr(network, key, None) for key in COUNTED},
        latency_ms={key: measurement.latency_ms[key] for key in LATENCIES},
        gpu_ms=measurement.gpu_ms,
        receipt=measurement.receipt,
        throughput_ips=measurement.throughput_ips,
        load_ms=measurement.load_ms,
        first_inference_ms=measurement.first_inference_ms,
        harness_overhead_ns=measurement.harness_overhead_ns,
        power_mw=measurement.power_mw,
        power=measurement.power,
        watch=_watched(measurement.watch),
        settings=measurement.settings,
        power_mode=_power_mode(measurement),
        setting="",
        machine=device,
        stand_in=str(measurement.facts["stand_in"]) if measurement.facts.get("stand_in") else None,
        headline=_headline(measurement, source),
        source=source,
        network_sha256=measurement.network_sha256,
        answers=_answers(measurement, source),
        memory_mb=memory,
        size_bytes=sizes,
        rounds=tuple(_round(timed) for timed in measurement.latency_ns if timed),
        passes=_passes(measurement, source),
        twin_ms=tuple(_round(timed) for timed in measurement.twin_ns if timed) if measurement.twin_ns else None,
        quantiles_ms=_quantiles(measurement.latency_ns),
        reasons=_reasons(measurement, network, memory),
    )
    found = replace(found, setting=pairing.setting(found))
    return stand_ins.withheld(found) if found.stand_in else found


def _headline(measurement: Measurement, source: str) -> str:
    """The percentile that the workload quotes; before there was a choice, the median."""
    asked = measurement.workload.get("headline") or "median"
    if asked not in HEADLINES:
        raise UserError(f"{source}: its workload quotes {asked!r}", f"known are {', '.join(HEADLINES)}: measure again")
    return str(asked)


def _power_mode(measurement: Measurement) -> str | None:
    """The mode that was switched to, or the one that the device was in; by name, or by what else it told."""
    switched = (measurement.settings or {}).get("power_mode")
    told = switched.get("after") if isinstance(switched, Mapping) else None
    told = told or measurement.facts.get("power_mode")
    named = told.get("name") or told.get("id") if isinstance(told, Mapping) else told
    return None if named in (None, "") else str(named)


def _passes(measurement: Measurement, source: str) -> tuple[Mapping[str, Any], ...]:
    """The passes as they were recorded; before there were any, all rounds were one."""
    rounds = sum(1 for timed in measurement.latency_ns if timed)
    if not measurement.passes:
        return ({"rounds": rounds},)
    counted = sum(int(each.get("rounds", 0)) for each in measurement.passes)
    if counted != rounds:
        raise UserError(f"{source}: its passes have {counted} rounds, its latencies {rounds}", "measure again")
    return tuple(measurement.passes)


def _round(timed_ns: Sequence[int]) -> dict[str, float]:
    p10, p90 = quantiles(timed_ns, (0.1, 0.9))
    return {"n": len(timed_ns), "p10": p10 / 1e6, "median": median(timed_ns) / 1e6, "p90": p90 / 1e6}


def _quantiles(rounds_ns: Sequence[Sequence[int]]) -> tuple[float, ...]:
    timed = [value for timed_ns in rounds_ns for value in timed_ns]
    return tuple(v / 1e6 for v in quantiles(timed, [i / 100 for i in range(101)])) if timed else ()


def _watched(watch: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was sampled beside the rounds, each column as its least, median and greatest value that could be read."""
    if watch is None:
        return None
    columns: Mapping[str, Sequence[float | None]] = watch.get("columns") or {}
    read = {key: sorted(v for v in values if v is not None) for key, values in columns.items() if key != "at_s"}
    ranges = {key: {"min": v[0], "median": median(v), "max": v[-1]} if v else None for key, v in read.items()}
    return {**{key: value for key, value in watch.items() if key != "columns"}, "ranges": ranges}


def _answers(measurement: Measurement, source: str) -> dict[str, Any] | None:
    if measurement.outputs is None:
        return None
    file = PurePosixPath(source).parent / str(measurement.outputs["file"])
    return {"file": str(file), "sha256": measurement.outputs["sha256"], "n": measurement.outputs["n"]}


def _reasons(measurement: Measurement, network: Network | None, memory: Mapping[str, Any]) -> dict[str, str]:
    """Why each unknown number is unknown, by its name in the row."""
    stated: Mapping[str, str] = measurement.memory_mb.get("reasons") or {}
    reasons = {f"memory_mb.{k}": stated.get(k, "the runtime does not tell") for k, v in memory.items() if v is None}
    if measurement.top1 is None:
        reasons["top1"] = "its answers have not been scored against labels"
    if measurement.power_mw is None:
        reasons["power_mw"] = "no power sensor was read"
    reasons |= {key: NOT_EXPORTED for key in COUNTED if network is None or getattr(network, key) is None}
    sizes = network.size_bytes if network else dict.fromkeys(("onnx", "nonzero", "compressed"))
    reasons |= {f"size_bytes.{key}": NOT_EXPORTED for key, value in sizes.items() if value is None}
    said = {key: why for key, why in measurement.reasons.items() if getattr(measurement, key, None) is None}
    return {**reasons, **said}  # what the device itself said wins
