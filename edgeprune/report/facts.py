"""What a device said about itself, as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.report import wording

LABELS = {  # first in this order; facts that are not named here follow under their own names
    "stand_in": "Stand-in",
    "module": "Module",
    "board": "Board",
    "module_evidence": "Told by",
    "contradictions": "Contradicted by",
    "soc": "Chip",
    "cpu_model": "Processor",
    "gpu": "GPU",
    "sm_count": "GPU multiprocessors",
    "cores": "Cores",
    "cores_online": "Cores online",
    "affinity": "Cores used",
    "machine": "Architecture",
    "memory_total_bytes": "Memory",
    "os": "System",
    "kernel": "Kernel",
    "l4t": "L4T",
    "l4t_built": "L4T, built",
    "jetpack": "JetPack",
    "cuda": "CUDA",
    "tensorrt": "TensorRT",
    "python": "Python",
    "numpy": "NumPy",
    "power_mode": "Power mode",
    "power_modes": "Power modes there are",
    "governor": "Clock governor",
    "governors": "Clock governors",
    "clocks_pinned": "Clocks pinned",
    "clocks_mhz": "Clocks, MHz",
    "round_clock_mhz": "Clock after each round, MHz",
    "gpu_clock_mhz": "GPU clock, MHz",
    "emc_clock_mhz": "Memory clock, MHz",
    "load_average": "Load average",
    "temperature_mc": "Temperature",
    "temperature_unread": "Sensors that are off",
    "firmware_clock_mhz": "Clock by the firmware, MHz",
    "firmware_temperature_c": "Temperature by the firmware, \N{DEGREE SIGN}C",
    "throttling": "Throttling marks",
    "throttled": "Throttled",
    "swap_used_bytes": "Swap in use",
    "busy_programs": "Busy programs",
    "user": "User",
    "sudo": "Root without a password",
}
SWITCHED = "Switched for it"
NOT_READ = "not read"
IN_SHORT = ("power_mode", "clocks_pinned", "governor")
_IDENTITY = ("module", "board", "cpu_model", "cores", "affinity", "kernel", "l4t", "jetpack", "python", "numpy")
_CONDITIONS = (
    "power_mode",
    "clocks_pinned",
    "gpu_clock_mhz",
    "emc_clock_mhz",
    "governor",
    "clocks_mhz",
    "throttling",
    "throttled",
    "temperature_mc",
)
_LONGEST = 160


def describe(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact; one that could not be read shows its reason. No stand-in is no fact, nor is []."""
    reasons: Mapping[str, str] = facts.get("reasons") or {}
    others = [name for name in facts if name not in LABELS and name != "reasons"]
    names = [name for name in [*LABELS, *others] if name in facts and not _says_nothing(name, facts[name])]
    return [(LABELS.get(name, name.replace("_", " ")), _text(name, facts[name], reasons.get(name))) for name in names]


def briefly(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The same with what could not be read at the end, in one line for each reason."""
    told = describe(facts)
    unread: dict[str, list[str]] = {}
    for label, text in told:
        if text.startswith(NOT_READ):
            unread.setdefault(text.removeprefix(NOT_READ).strip(" ()"), []).append(label)
    merged = [("Not read", f"{', '.join(labels)}: {reason}") for reason, labels in unread.items()]
    return [(label, text) for label, text in told if not text.startswith(NOT_READ)] + merged


def conditions(facts: Mapping[str, Any], settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Under which conditions something was measured: what was switched for it, power mode, clocks, throttling."""
    read = {name: facts[name] for name in _CONDITIONS if name in facts}
    return _switched(settings) + briefly({**read, "reasons": facts.get("reasons") or {}})


def in_short(facts: Mapping[str, Any], settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The same, without what could not be read and what has many numbers."""
    read = {name: facts[name] for name in IN_SHORT if facts.get(name) is not None}
    return _switched(settings) + [(label, text) for label, text in describe(read) if text != wording.NONE]


def identity(facts: Mapping[str, Any], settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Which machine it is, and what it was set to: what two measurements should share to be compared."""
    read = {name: facts[name] for name in _IDENTITY if facts.get(name) is not None}
    return describe(read) + in_short(facts, settings)


def _says_nothing(name: str, value: object) -> bool:
    moments = value.values() if isinstance(value, Mapping) and set(value) == {"before", "after"} else [value]
    return all(each in ([], {}) for each in moments) or (name == "stand_in" and not value)


def _switched(settings: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What was set for a measurement and restored after it, and what could not be restored."""
    told = {name: change for name, change in (settings or {}).items() if change}
    problems = told.pop("problems", [])
    lines = [(f"{SWITCHED}: {name.replace('_', ' ')}", _change(name, change)) for name, change in told.items()]
    return lines + ([("Not restored after it", "; ".join(map(str, problems)))] if problems else [])


def _change(name: str, change: object) -> str:
    if isinstance(change, Mapping) and change.get("how"):
        return f"fixed by {change['how']}"
    if isinstance(change, Mapping) and {"before", "after"} <= set(change):
        before, after = (_only_name(name, change[moment]) for moment in ("before", "after"))
        return f"{after} (before: {before})"
    return _value(name, change)


def _only_name(name: str, value: object) -> str:
    return str(value["name"]) if isinstance(value, Mapping) and "name" in value else _value(name, value)


def _text(name: str, value: object, reason: str | None) -> str:
    if isinstance(value, Mapping) and set(value) == {"before", "after"}:
        before, after = (_text(name, value[moment], None) for moment in ("before", "after"))
        unread = before == after == wording.NONE
        shown = f"{before} before, {after} after" if before != after else wording.NONE if unread else before
    else:
        shown = _value(name, value)
    if shown == wording.NONE and reason:
        return f"{NOT_READ} ({reason})"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def _value(name: str, value: object) -> str:
    if value is None:
        return wording.NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "power_mode" and isinstance(value, Mapping) and "name" in value:
        return str(value["name"]) + (f" (number {value['id']})" if value.get("id") is not None else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(name, entry)}" for key, entry in value.items()) or wording.NONE
    if isinstance(value, list | tuple):
        return ", ".join(_value(name, entry) for entry in value) or wording.NONE
    if name.endswith("_mc") and isinstance(value, int | float):
        return f"{value / 1000:.0f}{wording.SPACE}\N{DEGREE SIGN}C"
    if name.endswith("_bytes") and isinstance(value, int | float):
        return wording.size(value)
    return f"{value:.0f}" if name.endswith("_mhz") and isinstance(value, float) else str(value)
