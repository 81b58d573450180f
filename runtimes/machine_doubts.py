"""The ways in which the machine makes a measurement wrong, one function each; `runtimes.doubts` has the table."""

from typing import Any, Mapping, Optional, Sequence

import numpy as np

from runtimes.evidence import APART, Evidence

_LITTLE_MB = 3 * 1024  # MiB
_SWAPPED = 1 << 20  # bytes
# The four conditions of a Raspberry Pi's firmware stand in bits 0 to 3 (now) and 16 to 19 (since the last start).
_PI_NOW, _PI_SINCE_BOOT = 0xF, 0xF0000


def clock_change(evidence: Evidence) -> Optional[str]:
    """The clock was not the same after each round, or the fixed one of the GPU not in each round."""
    if _ranges(evidence.clocks_mhz):
        return "the clock ranged from {:.0f} to {:.0f} MHz: fix it (governor 'performance') before comparing".format(
            min(evidence.clocks_mhz), max(evidence.clocks_mhz)
        )
    pinned = _at_last(evidence, "clocks_pinned") or {}
    if pinned.get("gpu") and _ranges(evidence.gpu_clocks_mhz):
        return "the GPU's clock is fixed and ranged from {:.0f} to {:.0f} MHz: it slows itself down".format(
            min(evidence.gpu_clocks_mhz), max(evidence.gpu_clocks_mhz)
        )
    return None


def throttled(evidence: Evidence) -> Optional[str]:
    """The machine slowed itself down in the meantime, or had already."""
    if len(evidence.throttling) != 2:
        return None
    before, after = evidence.throttling
    if after.get("core_throttle_count", 0) > before.get("core_throttle_count", 0):
        return "the processor throttled itself while it was measured: let it cool down and measure again"
    bits, later = (marks.get("get_throttled", 0) for marks in (before, after))
    if (bits | later) & _PI_NOW or later & ~bits & _PI_SINCE_BOOT:
        return "the firmware reports under-voltage or throttling: check the power supply and the cooling"
    if after.get("over_current_events", 0) > before.get("over_current_events", 0):
        return "the board slowed itself down for the current it drew: choose a lower power mode or a better supply"
    return None


def slowed_down(evidence: Evidence) -> Optional[str]:
    """The kernel holds a clock down to cool something, before or after."""
    told = evidence.facts.get("throttled")
    states = [told.get(moment) or {} for moment in ("before", "after")] if isinstance(told, Mapping) else []
    marks = evidence.throttling[-1] if evidence.throttling else {}
    by = next((state["now"] for state in states if state.get("now") not in (None, "no")), None)
    if by is None or marks.get("get_throttled", 0) & _PI_NOW:  # that has been told
        return None
    return "it was slowed down by {}: let it cool down and measure again".format(by)


def other_load(evidence: Evidence) -> Optional[str]:
    """Somebody else used a good part of the processors."""
    busy = float(np.mean(evidence.other_cores)) if evidence.other_cores else 0.0
    if busy <= APART * evidence.cores:
        return None
    names = _at_last(evidence, "busy_programs")
    return "other work{} kept {:.1f} of {} cores busy during the rounds: stop it and measure again".format(
        " ({} at the end)".format(", ".join(names)) if names else "", busy, evidence.cores
    )


def little_memory(evidence: Evidence) -> Optional[str]:
    """The machine had little memory left when the engine was built."""
    left = evidence.engine.get("build", {}).get("available_mb")
    if left is None or left >= _LITTLE_MB:
        return None
    return (
        "only {} MiB were available when the engine was built, and TensorRT leaves kernels out without a word: free "
        "some, delete the engine and measure again".format(left)
    )


def stand_in(evidence: Evidence) -> Optional[str]:
    """What was measured is not the machine that it says it is."""
    what = evidence.facts.get("stand_in")
    return "no property of a real board: this is {}".format(what) if what else None


def unpinned(evidence: Evidence) -> Optional[str]:
    """A Jetson's GPU may choose its clock."""
    pinned = _at_last(evidence, "clocks_pinned")
    if not isinstance(pinned, Mapping) or pinned.get("gpu") is not False or not evidence.facts.get("l4t"):
        return None
    clock = _at_last(evidence, "gpu_clock_mhz")
    may = " from {min:.0f} to {max:.0f} MHz".format(**clock) if _has_range(clock) else ""
    return "the GPU's clock may range{}: measure with --lock-clocks, or run `sudo jetson_clocks` first".format(may)


def swapping(evidence: Evidence) -> Optional[str]:
    """Memory was moved to the swap meanwhile."""
    used = evidence.facts.get("swap_used_bytes")
    if not isinstance(used, Mapping) or None in (used["before"], used["after"]):
        return None
    grown = used["after"] - used["before"]
    if grown < _SWAPPED:
        return None
    return "{:.0f} MiB went to the swap while it was measured: free some memory and measure again".format(grown / 2**20)


def not_restored(evidence: Evidence) -> Optional[str]:
    """A setting of the board is not what it was before."""
    problems = (evidence.settings or {}).get("problems")
    return "the board is not as it was before: {}".format("; ".join(problems)) if problems else None


def settings_left(evidence: Evidence) -> Optional[str]:
    """An earlier measurement has left the board in other settings than its own."""
    left = evidence.facts.get("settings_left")
    advice = "measure with --power-mode or --lock-clocks, which restores them first"
    return "the board was not in its own settings ({}): {}".format(left, advice) if left else None


def _ranges(clocks: Sequence[float]) -> bool:
    return bool(clocks) and max(clocks) > (1 + APART) * min(clocks)


def _at_last(evidence: Evidence, name: str) -> Any:
    """A fact that is read before and after, as it was after."""
    found = evidence.facts.get(name)
    return found.get("after") if isinstance(found, Mapping) and "after" in found else found


def _has_range(clock: Any) -> bool:
    return isinstance(clock, Mapping) and all(clock.get(name) is not None for name in ("min", "max"))
