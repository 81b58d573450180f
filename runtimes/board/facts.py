"""What a board says about itself, as facts of a measurement: those that stay, and those that change."""

import re
from pathlib import Path
from typing import Dict, List, Optional

from runtimes.board.clocks import clock_state, gpu_clock, mode_contradictions, parse_jetson_clocks
from runtimes.board.commands import Run, ask, run_command
from runtimes.board.identity import Hardware, Identity, hardware, identity
from runtimes.board.load import busy_programs, swap_used_bytes
from runtimes.board.power_modes import PowerMode, gpu_cap_mhz, modes, power_mode
from runtimes.board.raspberry_pi import firmware_state, throttle_flags, throttled_bits
from runtimes.board.releases import NO_RELEASE, NOT_A_JETSON, releases
from runtimes.board.stand_in import stand_in
from runtimes.board.thermal import over_current_events, slowed_by, zones
from runtimes.readings import ROOT, Reading, parse_sizes, read

_SMS_PER_TPC = 2  # of every Jetson since the TX2
_NO_MODULE = "the device tree names no module that is known here"
_NOT_A_PI = "not a Raspberry Pi: vcgencmd is not on PATH"


# What stays --------------------------------------------------------------------------------------------------------


def board_facts(root: Path = ROOT, run: Run = run_command) -> Dict[str, Reading]:
    """The facts that stay while it is measured; the keys are the same on every machine.

    `module`, `module_evidence`, `contradictions` (sentences; empty where all agrees), `soc`, `gpu`, `sm_count`, `l4t`,
    `l4t_built` (UTC), `jetpack`, `cuda`, `tensorrt`, `power_mode` ({"name", "id"}), `power_modes` (names), `user`
    ("root" or "not root"), `stand_in` (None on a real machine).
    """
    software, apart = releases(root, run)
    sms = _sm_count(run)
    seen = hardware(_memory(root), sms.value, root)
    known = identity(seen, root)
    mode, listed = power_mode(root, run), modes(root, run)
    jetson = software["l4t"].value is not None or seen.soc is not None
    apart += _mode_contradictions(mode.value, listed, known, root)
    stands_in = stand_in(root)
    return {
        **_identity_facts(known, seen, root),
        "contradictions": Reading(known.contradictions + apart),
        "gpu": gpu_names(root),
        "sm_count": sms if sms.value is not None or jetson else Reading(None, NOT_A_JETSON),
        **{name: _without_release(reading, jetson) for name, reading in software.items()},
        "power_mode": _of_jetson(jetson, _mode_table(mode)),
        "power_modes": _of_jetson(jetson, Reading(list(listed.value.names.values())) if listed.value else listed),
        "user": read("proc/self/status", parse_user, root),
        "stand_in": Reading(stands_in, None if stands_in else "nothing gives it away as one"),
    }


def parse_user(text: str) -> Optional[str]:
    """/proc/self/status: whether this process may do everything."""
    found = re.search(r"^Uid:\s+\d+\s+(\d+)", text, re.MULTILINE)
    return None if found is None else "root" if int(found.group(1)) == 0 else "not root"


def parse_gpu_name(text: str) -> Optional[str]:
    """/proc/driver/nvidia/gpus/*/information."""
    found = re.search(r"^Model:\s*(\S.*?)\s*$", text, re.MULTILINE)
    return found.group(1) if found else None


def gpu_names(root: Path = ROOT) -> Reading:
    """The cards that NVIDIA's driver knows; a Jetson's GPU is part of its chip and not among them."""
    folders = sorted((root / "proc/driver/nvidia/gpus").glob("*"))
    names = [read(str((path / "information").relative_to(root)), parse_gpu_name, root).value for path in folders]
    found = [name for name in names if name]
    return Reading(found) if found else Reading(None, "/proc/driver/nvidia: no card")


def _memory(root: Path) -> Optional[int]:
    total: Optional[int] = read("proc/meminfo", lambda text: parse_sizes(text).get("MemTotal"), root).value
    return total


def _sm_count(run: Run) -> Reading:
    """Without CUDA, which would have to be loaded, only jetson_clocks knows, and it wants root on a real board."""
    shown = ask(run, ["jetson_clocks", "--show"], parse_jetson_clocks)
    if shown.value is not None and shown.value.gpu_tpcs is not None:
        return Reading(shown.value.gpu_tpcs * _SMS_PER_TPC)
    told = shown.reason or "jetson_clocks does not tell it"
    return Reading(None, "not asked of CUDA; {}".format(told))


def _identity_facts(known: Identity, seen: Hardware, root: Path) -> Dict[str, Reading]:
    tree = read("proc/device-tree/model", root=root)
    if tree.value is None:
        return {name: Reading(None, tree.reason) for name in ("module", "module_evidence", "soc")}
    nothing = Reading(None, _NO_MODULE)
    return {
        "module": Reading(known.name) if known.name else nothing,
        "module_evidence": Reading(known.evidence) if known.evidence else nothing,
        "soc": read("proc/device-tree/compatible", parse_soc, root),
    }


def parse_soc(text: str) -> Optional[str]:
    """The last word of `compatible`, the most general: `nvidia,tegra234`, `brcm,bcm2712`."""
    words = text.split()
    return words[-1] if words else None


def _mode_table(mode: Reading) -> Reading:
    return mode if mode.value is None else Reading(dict(mode.value._asdict()))


def _of_jetson(jetson: bool, reading: Reading) -> Reading:
    return reading if jetson or reading.value is not None else Reading(None, NOT_A_JETSON)


def _without_release(reading: Reading, jetson: bool) -> Reading:
    """A Jetson with a system of somebody's own (Yocto) may lack both."""
    return Reading(None, NO_RELEASE) if jetson and reading.reason == NOT_A_JETSON else reading


def _mode_contradictions(mode: Optional[PowerMode], listed: Reading, known: Identity, root: Path) -> List[str]:
    """A power mode whose name is right while the GPU's clock is not."""
    clock = gpu_clock(root).value
    if mode is None or clock is None or clock.max is None:
        return []
    allowed = gpu_cap_mhz(mode, listed.value, known.name)
    return [] if allowed is None else mode_contradictions(mode.name or "with this number", allowed, clock.max)


# What changes ------------------------------------------------------------------------------------------------------


def board_state(root: Path = ROOT, run: Run = run_command) -> Dict[str, Reading]:
    """The facts that are read before and after a measurement; it watches for a quarter of a second.

    `gpu_clock_mhz`, `emc_clock_mhz` (`min`, `max`, `cur`, without those that are not known), `clocks_pinned` (`gpu`,
    `cpu`, `emc`: bool), `governors`, `cores_online`, `throttled` (`now`, `since boot`: what slows it down, or "no"),
    `temperature_unread` (zones without a temperature), `swap_used_bytes`, `busy_programs` (names),
    `firmware_clock_mhz` and `firmware_temperature_c` (Raspberry Pi).
    """
    on_pi = firmware_state(run)
    return {
        **clock_state(root, run),
        "cores_online": read("sys/devices/system/cpu/online", root=root),
        "throttled": throttled(root, run),
        "temperature_unread": Reading(list(zones(root).unread)),
        "swap_used_bytes": swap_used_bytes(root),
        "busy_programs": busy_programs(root),
        **{name: _of_pi(reading) for name, reading in on_pi.items()},
    }


def _of_pi(reading: Reading) -> Reading:
    return Reading(None, _NOT_A_PI) if (reading.reason or "").endswith("is not on PATH") else reading


def throttled(root: Path = ROOT, run: Run = run_command) -> Reading:
    """What slows the machine down `now`, and what has `since boot`, in words; "no" where nothing does."""
    found: Dict[str, List[str]] = {}
    bits, slowing, events = throttled_bits(root, run), slowed_by(root), over_current_events(root)
    if bits.value is not None:
        found = throttle_flags(bits.value)
    if slowing.value is not None:
        found.setdefault("now", []).extend(slowing.value)
    if events.value is not None:
        found.setdefault("since boot", []).extend(["over-current ({} times)".format(events.value)] * bool(events.value))
    if not found:
        return Reading(None, "no firmware, cooling device or over-current count tells it")
    return Reading({moment: ", ".join(marks) or "no" for moment, marks in found.items()})
