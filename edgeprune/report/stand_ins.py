"""A stand-in for a device (an emulator, a made-up board): what it times, draws and holds is never told as a result."""

from __future__ import annotations

from dataclasses import replace

from edgeprune.report.records import Row
from runtimes.records import Doubt, Measurement

ANSWERED = "answered by a stand-in"
_NOT_OF_TIMES = ("stand_in", "non_finite")
_TIMED = ("throughput_ips", "load_ms", "first_inference_ms", "harness_overhead_ns", "gpu_ms", "power_mw", "power")
_IDENTITY = (  # facts that stay while something is measured; all others tell of the stand-in's own speed and state
    "stand_in",
    "module",
    "module_evidence",
    "contradictions",
    "board",
    "soc",
    "cpu_model",
    "gpu",
    "sm_count",
    "cores",
    "affinity",
    "machine",
    "memory_total_bytes",
    "os",
    "kernel",
    "l4t",
    "l4t_built",
    "jetpack",
    "cuda",
    "tensorrt",
    "python",
    "numpy",
    "power_mode",
    "power_modes",
    "governor",
    "user",
)


def doubts(measurement: Measurement) -> list[Doubt]:
    """What a stand-in's measurement says against itself, without what is about its times: those are withheld."""
    return [doubt for doubt in measurement.warnings if doubt.code in _NOT_OF_TIMES]


def silenced(measurement: Measurement) -> Measurement:
    """A stand-in's measurement without its words on times, layers and clocks; any other one as it is.

    Of the receipt the verdict is `unknown`: which kernels a stand-in ran says nothing of the device. Its facts are
    those that identify it, and no reason of its own is left.
    """
    stand_in = measurement.facts.get("stand_in")
    if not stand_in:
        return measurement
    facts = {name: measurement.facts[name] for name in _IDENTITY if name in measurement.facts}
    unread = {name: why for name, why in measurement.facts.get("reasons", {}).items() if name in facts}
    return replace(
        measurement,
        facts={**facts, "reasons": unread},
        memory_mb={**measurement.memory_mb, "reasons": {}},
        receipt=None if measurement.receipt is None else {"verdict": "unknown", "reason": _why(stand_in)},
        engine=None,
        settings=None,
        warnings=doubts(measurement),
        reasons={},
    )


def withheld(row: Row) -> Row:
    """`row` without times, power, energy and memory, each with the reason; its answers, hence top-1, stay.

    An emulator computes what the board would, so that its accuracy is one; nothing else of it is the board's.
    """
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
        reasons={**row.reasons, **dict.fromkeys(names, _why(str(row.stand_in)))},
    )


def _why(stand_in: str) -> str:
    return f"withheld: {stand_in} stood in for the device"
