"""What a device said about itself, as lines of a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune.report import wording

LABELS = {  # first in this order; facts that are not named here follow under their own names
    "board": "Board",
    "cpu_model": "Processor",
    "cores": "Cores",
    "affinity": "Cores used",
    "machine": "Architecture",
    "memory_total_bytes": "Memory",
    "os": "System",
    "kernel": "Kernel",
    "python": "Python",
    "numpy": "NumPy",
    "governor": "Clock governor",
    "clocks_mhz": "Clocks, MHz",
    "load_average": "Load average",
    "temperature_mc": "Temperature",
    "throttling": "Throttling marks",
}
_LONGEST = 160


def describe(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact; one that could not be read shows its reason."""
    reasons: Mapping[str, str] = facts.get("reasons") or {}
    others = [name for name in facts if name not in LABELS and name != "reasons"]
    names = [name for name in LABELS if name in facts] + others
    return [(LABELS.get(name, name.replace("_", " ")), _text(name, facts[name], reasons.get(name))) for name in names]


def _text(name: str, value: object, reason: str | None) -> str:
    if isinstance(value, Mapping) and set(value) == {"before", "after"}:
        before, after = (_text(name, value[moment], None) for moment in ("before", "after"))
        unread = before == after == wording.NONE
        shown = f"{before} before, {after} after" if before != after else wording.NONE if unread else before
    else:
        shown = _value(name, value)
    if shown == wording.NONE and reason:
        return f"not read ({reason})"
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def _value(name: str, value: object) -> str:
    if value is None:
        return wording.NONE
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(name, entry)}" for key, entry in value.items()) or wording.NONE
    if isinstance(value, list | tuple):
        return ", ".join(_value(name, entry) for entry in value) or wording.NONE
    if name.endswith("_mc") and isinstance(value, int | float):
        return f"{value / 1000:.0f}{wording.SPACE}\N{DEGREE SIGN}C"
    if name.endswith("_bytes") and isinstance(value, int | float):
        return wording.size(value)
    return f"{value:.0f}" if name.endswith("_mhz") and isinstance(value, float) else str(value)
