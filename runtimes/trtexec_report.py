"""What a finished run of trtexec comes to: its log and its exported files in, a JSON document out."""

from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from runtimes.records import PERCENTILE_METHOD, Doubt
from runtimes.trt_inspector import exported_profile, exported_times, inspected_layers
from runtimes.trt_logs import (
    Performance,
    Spread,
    build,
    device,
    layers_of_text,
    performance,
    sections,
    sparsity,
    warnings,
)
from runtimes.trt_receipt import receipt

SCHEMA_VERSION = 1
KIND = "edgeprune.trtexec"
TRTEXEC_METHOD = "an element of the n sorted times, without interpolation: number n - 1 - floor((1 - p / 100) * n)"
_SPREADS = ("latency", "enqueue", "h2d", "gpu", "d2h")
_APART = 0.01  # medians of the same times; trtexec prints six digits


def document(log: str, exports: Mapping[str, str]) -> Dict[str, Any]:
    """The document of one run, without what only its caller knows.

    Args:
        log: all that trtexec printed.
        exports: name of the flag (`exportTimes`, ...) -> text of the file; those it wrote.

    Returns:
        schema_version, kind, device, build, inference (its options as printed), performance (as printed; times in ms),
        percentiles (the same times by edgeprune's method and by trtexec's, both named), receipt, warnings, and reasons:
        what is None, or missing, and why.
    """
    told = performance(log)
    profile = exported_profile(exports.get("exportProfile", ""))
    layers = inspected_layers(exports.get("exportLayerInfo", "")) or layers_of_text(log)
    ours = {
        name: summary_ms(times[-told.queries :] if told.queries else times)  # before 8.5 the warm-up comes first
        for name, times in exported_times(exports.get("exportTimes", "")).items()
        if times
    }
    doubts = warnings(log) + _disagreements(told, ours)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "device": dict(device(log)._asdict()),
        "build": dict(build(log)._asdict()),
        "inference": sections(log).get("Inference Options", {}),
        "performance": _performance(told),
        "percentiles": {
            "edgeprune": {"method": PERCENTILE_METHOD, **ours},
            "trtexec": {"method": TRTEXEC_METHOD, **_percentiles(told)},
        },
        "receipt": receipt(sparsity(log), layers, profile),
        "warnings": [{"code": doubt.code, "message": doubt.message} for doubt in doubts],
        "reasons": _reasons(told, ours, profile, len(layers)),
    }


def summary_ms(times: Sequence[float]) -> Dict[str, float]:
    """n, median, p90, p95, p99, mean, min and max of times in milliseconds; percentiles as in `runtimes.latency`."""
    samples = np.asarray(times, dtype=np.float64)
    median, p90, p95, p99 = (float(value) for value in np.percentile(samples, [50, 90, 95, 99]))
    found = {"n": len(samples), "median": median, "p90": p90, "p95": p95, "p99": p99}
    return {**found, "mean": float(samples.mean()), "min": float(samples.min()), "max": float(samples.max())}


def _performance(told: Performance) -> Dict[str, Any]:
    return {name: _plain(value) if name in _SPREADS else value for name, value in told._asdict().items()}


def _plain(spread: Optional[Spread]) -> Optional[Dict[str, Any]]:
    if spread is None:
        return None
    percentiles = {"{:g}".format(key): value for key, value in spread.percentiles.items()}
    return {**spread._asdict(), "percentiles": percentiles}


def _percentiles(told: Performance) -> Dict[str, Dict[str, float]]:
    return {
        name: {"median": spread.median, **{"p{:g}".format(key): value for key, value in spread.percentiles.items()}}
        for name, spread in (("latency", told.latency), ("gpu", told.gpu))
        if spread is not None
    }


def _disagreements(told: Performance, ours: Mapping[str, Mapping[str, float]]) -> List[Doubt]:
    """The exported times are those of the summary, or something was read wrong."""
    doubts = []
    for name, spread in (("latency", told.latency), ("gpu", told.gpu)):
        if spread is not None and name in ours:
            printed, counted = spread.median, ours[name]["median"]
            if abs(printed - counted) > _APART * max(printed, counted):
                message = "{}: trtexec prints a median of {:g} ms, its exported times have {:g} ms"
                doubts.append(Doubt("exported-times-differ", message.format(name, printed, counted)))
    return doubts


def _reasons(told: Performance, ours: Mapping[str, Any], profile: Mapping[str, float], layers: int) -> Dict[str, str]:
    missing = {
        "performance": "the log holds no GPU compute time" if told.gpu is None else "",
        "percentiles": "" if ours else "trtexec exported no times",
        "receipt.tactics": "" if layers else "trtexec told nothing of the engine's layers",
        "receipt.tactics.ms": "" if profile else "trtexec exported no time for each layer",
    }
    return {name: why for name, why in missing.items() if why}
