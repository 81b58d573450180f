"""What each field of a measurement's document has to be, for a document that somebody else wrote."""

from typing import Dict

from runtimes.checks import Check, at_least, is_number, is_table, is_text, list_of, or_none, table_of, table_with, whole

_MAYBE = or_none(is_number)
_PASS = {
    "rounds": whole(1),
    **dict.fromkeys(("load_ms", "first_inference_ms"), at_least(0)),
    "peak_rss_mb": _MAYBE,
    "engine_sha256": or_none(is_text),
}
_POWER = {
    **dict.fromkeys(("source", "scope"), is_text),
    "rails": table_of(is_number),
    **dict.fromkeys(("mean_mw", "energy_mj"), is_number),
    **dict.fromkeys(("idle_mw", "net_energy_mj"), _MAYBE),
    "samples": whole(1),
}
_WATCH = {
    "source": is_text,
    **dict.fromkeys(("interval_s", "rate_hz", "overhead_cores"), at_least(0)),
    "columns": lambda value: table_of(list_of(_MAYBE))(value) and len({len(column) for column in value.values()}) <= 1,
}
KINDS: Dict[str, Check] = {
    **dict.fromkeys(("name", "runtime", "runtime_version", "precision", "protocol"), is_text),
    **dict.fromkeys(("network_sha256", "bundle", "started_at"), is_text),
    **dict.fromkeys(("batch", "threads", "n"), whole(1)),
    **dict.fromkeys(("throughput_ips", "load_ms", "first_inference_ms", "harness_overhead_ns"), at_least(0)),
    **dict.fromkeys(("workload", "memory_mb", "facts"), is_table),
    **dict.fromkeys(("power_mw", "top1"), or_none(is_number)),
    "device": or_none(is_text),
    "images": or_none(whole(0)),
    "outputs": or_none(table_with({"file": is_text, "n": whole(1), "classes": whole(1), "sha256": is_text})),
    "latency_ns": list_of(list_of(whole(0))),
    **dict.fromkeys(("gpu_ns", "twin_ns"), or_none(list_of(list_of(whole(0))))),
    **dict.fromkeys(("gpu_ms", "receipt", "engine", "settings"), or_none(is_table)),
    "latency_ms": table_with(dict.fromkeys(("median", "p90", "p99", "mean", "min", "max"), is_number)),
    "passes": list_of(table_with(_PASS)),
    "power": or_none(table_with(_POWER)),
    "watch": or_none(table_with(_WATCH)),
    "warnings": list_of(table_with({"code": is_text, "message": is_text})),
    "argv": list_of(is_text),
    "reasons": table_of(is_text),
}
