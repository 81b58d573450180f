"""What each field of a measurement's document has to be, for a document that somebody else wrote.

Whatever a report, a comparison or a file's name is made of is told here; what only travels along may be any JSON.
"""

from typing import Dict

from runtimes.checks import (
    Check,
    at_least,
    is_number,
    is_plain_name,
    is_rounds,
    is_short,
    is_table,
    is_text,
    list_of,
    one_of,
    or_none,
    table_of,
    table_with,
    whole,
    within,
)

LATENCIES = ("median", "p90", "p99", "mean", "min", "max")
_MAYBE = or_none(is_number)
_REASONS = table_of(is_text)
_TIMES = table_with(dict.fromkeys(LATENCIES, at_least(0)))
_SIZES = ("peak_rss", "resident", "baseline", "available_delta", "engine", "context")
_MEMORY = {**dict.fromkeys(_SIZES, _MAYBE), "reasons": _REASONS}
_PASS = {
    "rounds": whole(1),
    **dict.fromkeys(("load_ms", "first_inference_ms"), at_least(0)),
    "peak_rss_mb": _MAYBE,
    "engine_sha256": or_none(is_short),
}
_POWER = {
    **dict.fromkeys(("source", "scope"), is_short),
    "rails": table_of(is_number),
    **dict.fromkeys(("mean_mw", "energy_mj"), is_number),
    **dict.fromkeys(("idle_mw", "net_energy_mj"), _MAYBE),
    "samples": whole(1),
}
_WATCH = {
    "source": is_short,
    **dict.fromkeys(("interval_s", "rate_hz", "overhead_cores"), at_least(0)),
    "columns": lambda value: table_of(list_of(_MAYBE))(value) and len({len(column) for column in value.values()}) <= 1,
}
_RECEIPT = table_with({"verdict": one_of("yes", "no", "unknown")}, {"reason": or_none(is_text)})
_WORKLOAD = {
    "protocol": is_plain_name,
    "headline": one_of(*LATENCIES),
    "cpus": list_of(whole(0)),
    "options": table_of(is_text),
}
_SETTINGS = {
    "power_mode": or_none(table_with({}, {"asked": or_none(is_short)})),
    "clocks": or_none(table_with({}, {"how": is_short})),
    "problems": or_none(list_of(is_text)),
}
_OUTPUTS = {"file": is_plain_name, "n": whole(1), "classes": whole(1), "sha256": is_short}
KINDS: Dict[str, Check] = {
    **dict.fromkeys(("name", "runtime", "precision", "protocol"), is_plain_name),
    **dict.fromkeys(("runtime_version", "network_sha256", "bundle", "started_at"), is_short),
    **dict.fromkeys(("batch", "threads", "n"), whole(1)),
    **dict.fromkeys(("throughput_ips", "load_ms", "first_inference_ms", "harness_overhead_ns"), at_least(0)),
    "workload": table_with({}, _WORKLOAD),
    "memory_mb": table_with({}, _MEMORY),
    "facts": table_with({}, {"reasons": _REASONS, "stand_in": or_none(is_short)}),
    "power_mw": _MAYBE,
    "top1": or_none(within(0, 100)),
    "device": or_none(is_short),
    "images": or_none(whole(0)),
    "outputs": or_none(table_with(_OUTPUTS)),
    "latency_ns": is_rounds,
    **dict.fromkeys(("gpu_ns", "twin_ns"), or_none(is_rounds)),
    "gpu_ms": or_none(_TIMES),
    "engine": or_none(is_table),
    "receipt": or_none(_RECEIPT),
    "settings": or_none(table_with({}, _SETTINGS)),
    "latency_ms": _TIMES,
    "passes": list_of(table_with(_PASS)),
    "power": or_none(table_with(_POWER)),
    "watch": or_none(table_with(_WATCH)),
    "warnings": list_of(table_with({"code": is_short, "message": is_text})),
    "argv": list_of(is_text),
    "reasons": _REASONS,
}
