"""A stand-in for a device (an emulator, a made-up board): what it times, draws and holds is never told as a result."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.report.records import Row
from runtimes.records import Doubt, Measurement

_NOT_OF_TIMES = ("stand_in", "non_finite")
_TIMED = ("throughput_ips", "load_ms", "first_inference_ms", "harness_overhead_ns", "gpu_ms", "power_mw", "power")


def doubts(measurement: Measurement) -> list[Doubt]:
    """What a stand-in's measurement says against itself, without what is about its times: those are withheld."""
    return [doubt for doubt in measurement.warnings if doubt.code in _NOT_OF_TIMES]


def withheld(row: Row) -> Row:
    """`row` without times, power, energy and memory, each with the reason; its answers, hence top-1, stay.

    An emulator computes what the board would, so that its accuracy is one; nothing else of it is the board's.
    """
    why = f"withheld: {row.stand_in} stood in for the device"
    names = (*_TIMED, *(f"latency_ms.{key}" for key in row.latency_ms), *(f"memory_mb.{key}" for key in row.memory_mb))
    return replace(
        row,
        throughput_ips=None,
        load_ms=None,
        first_inference_ms=None,
        harness_overhead_ns=None,
        gpu_ms=None,
        power_mw=None,
        power=None,
        latency_ms=dict.fromkeys(row.latency_ms),
        memory_mb=dict.fromkeys(row.memory_mb),
        rounds=(),
        passes=tuple({"rounds": each.get("rounds")} for each in row.passes),
        twin_ms=None,
        quantiles_ms=(),
        watch=None,
        reasons={**row.reasons, **dict.fromkeys(names, why)},
    )
