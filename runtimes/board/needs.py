"""What a board has and lacks for a measurement: programs, rights, rails, room, and peace."""

import os
import shutil
from pathlib import Path
from typing import Any, List, Mapping, NamedTuple, Optional

from runtimes.board.clocks import cpu_policies
from runtimes.board.commands import find_program
from runtimes.board.privileged import GOVERNOR, as_root, is_root, sudo_rule, tee
from runtimes.board.rails import power_source, total
from runtimes.errors import UserError
from runtimes.readings import ROOT, read

_GIB = float(1 << 30)
_DISK_GIB = 1.0
_MEMORY_GIB = 0.5
_BUILDER_GIB = 3.0  # with less, TensorRT leaves out kernels and says that all went well
_SWAP_BYTES = 64 << 20
_BUSY = 0.1  # of all processors, over the last minute
_TRTEXEC = "usr/src/tensorrt/bin/trtexec"
_JETSON_PROGRAMS = {
    "tegrastats": "`sudo apt-get install nvidia-l4t-tools`",
    "nvpmodel": "`sudo apt-get install nvidia-l4t-nvpmodel`",
    "jetson_clocks": "`sudo apt-get install nvidia-l4t-tools`",
}


class Need(NamedTuple):
    """One thing that was looked at."""

    what: str
    fine: bool
    found: str
    needed: bool  # nothing can be measured without it
    fix: Optional[str] = None  # what to type, or to do, where it is not fine


def is_jetson(facts: Mapping[str, Any]) -> bool:
    """Whether the board belongs to that family."""
    return facts.get("l4t") is not None or "tegra" in str(facts.get("soc"))


def board_needs(facts: Mapping[str, Any], root: Path = ROOT) -> List[Need]:
    """All that can be told about a board apart from its Python, from `sampler.facts` and by looking."""
    needs = [_board(facts), *_programs(facts, root), _rights(facts, root), _rails(root)]
    needs += [_disk(Path.cwd()), _memory(facts, root), _swap(facts), _load(facts), _throttled(facts)]
    needs += _clocks(facts, root)
    left = facts.get("settings_left")
    if left:
        fix = "measure there once with --power-mode or --lock-clocks, which restores them first"
        needs.append(Need("settings of an earlier measurement", False, left, False, fix))
    return needs


def _told(facts: Mapping[str, Any], name: str) -> str:
    return str(facts["reasons"].get(name, "not told"))


def _board(facts: Mapping[str, Any]) -> Need:
    """Something that stands in for a board is no reason not to measure, but no number from it is one of that board."""
    names = [facts.get(key) for key in ("module", "board", "cpu_model")]
    name = next((str(found) for found in names if found), "unknown")
    apart, stands_in = facts.get("contradictions") or [], facts.get("stand_in")
    software = ["{} {}".format(what, facts[key]) for key, what in _SOFTWARE.items() if facts.get(key)]
    found = "; ".join([", ".join([name, *software]), *apart, *([stands_in] if stands_in else [])])
    fix = "what is measured here is no result of that board" if stands_in else "see which of them is right"
    return Need("board", not apart and not stands_in, found, False, fix)


_SOFTWARE = {"l4t": "L4T", "jetpack": "JetPack", "cuda": "CUDA", "tensorrt": "TensorRT"}


def _programs(facts: Mapping[str, Any], root: Path) -> List[Need]:
    asked = dict(_JETSON_PROGRAMS) if is_jetson(facts) else {}
    if "Raspberry Pi" in str(facts.get("board")):
        asked["vcgencmd"] = "`sudo apt-get install raspi-utils`, or libraspberrypi-bin on older systems"
    needs = []
    for name, fix in asked.items():
        place = find_program(name)
        needs.append(Need(name, place is not None, place or "not on PATH", False, fix))
    if is_jetson(facts) or facts.get("gpu"):
        beside = str(root / _TRTEXEC) if os.access(str(root / _TRTEXEC), os.X_OK) else None
        place = find_program("trtexec") or beside
        told = place or "neither on PATH nor /{}".format(_TRTEXEC)
        needs.append(Need("trtexec", place is not None, told, False, "`sudo apt-get install libnvinfer-bin`"))
    return needs


def _rights(facts: Mapping[str, Any], root: Path) -> Need:
    """Whether settings could be changed, tried with a command that changes nothing."""
    what = "rights for --power-mode and --lock-clocks"
    if is_root(root):
        return Need(what, True, "this is root", False)
    nvpmodel, policies = find_program("nvpmodel"), list(cpu_policies(root))
    if nvpmodel is None and not policies:
        return Need(what, False, "no cpufreq governor", False)
    try:  # a file of /sys that is opened and not written stays as it is
        as_root([nvpmodel, "-q"] if nvpmodel else [tee(), str(root / GOVERNOR.format(policies[0]))], root)
    except UserError as error:
        return Need(what, False, error.message, False, sudo_rule(root))
    return Need(what, True, "sudo asks for no password", False)


def _rails(root: Path) -> Need:
    source = power_source(root)
    if source.value is None:
        return Need("power rails", False, str(source.reason), False)
    power = total(source.value.read())
    now = ": {:.0f} mW now, {}".format(power.milliwatts, power.scope) if power else ""
    return Need("power rails", True, source.value.name + now, False)


def _disk(folder: Path) -> Need:
    free, writable = shutil.disk_usage(str(folder)).free / _GIB, os.access(str(folder), os.W_OK)
    found = "{:.1f} GiB free in {}{}".format(free, folder, "" if writable else ", which may not be written")
    return Need("disk", free > _DISK_GIB and writable, found, True, "make room, or set `folder` in devices.toml")


def _memory(facts: Mapping[str, Any], root: Path) -> Need:
    least = _BUILDER_GIB if is_jetson(facts) else _MEMORY_GIB
    what = "memory, at least {:g} GiB".format(least)
    found = read("proc/meminfo", _available, root)
    if found.value is None:
        return Need(what, False, str(found.reason), False)
    gib = found.value / _GIB
    fix = "end other programs, the desktop first (`sudo systemctl isolate multi-user.target`)"
    return Need(what, gib >= least, "{:.1f} GiB available".format(gib), False, fix)


def _available(text: str) -> Optional[int]:
    lines = [line.split() for line in text.splitlines() if line.startswith("MemAvailable:")]
    return int(lines[0][1]) * 1024 if lines else None


def _swap(facts: Mapping[str, Any]) -> Need:
    used = facts.get("swap_used_bytes")
    if used is None:
        return Need("swap", False, _told(facts, "swap_used_bytes"), False)
    fix = "end other programs; latency of a board that swaps is that of its disk"
    return Need("swap", used < _SWAP_BYTES, "{:.0f} MiB in use".format(used / (1 << 20)), False, fix)


def _load(facts: Mapping[str, Any]) -> Need:
    average, cores = facts.get("load_average"), facts.get("cores") or 1
    busy = facts.get("busy_programs") or []
    if average is None:
        return Need("other load", False, _told(facts, "load_average"), False)
    found = "load {:g} on {} processors".format(average[0], cores)
    found += "; busy now: {}".format(", ".join(busy)) if busy else ""
    return Need("other load", average[0] <= _BUSY * cores and not busy, found, False, "wait, or end what runs there")


def _throttled(facts: Mapping[str, Any]) -> Need:
    told = facts.get("throttled")
    if told is None:
        return Need("throttled", False, "unknown: {}".format(_told(facts, "throttled")), False)
    found = ", ".join("{}: {}".format(moment, what) for moment, what in told.items())
    return Need("throttled", told.get("now", "no") == "no", found, False, "let it cool; see its power supply and fan")


def _clocks(facts: Mapping[str, Any], root: Path) -> List[Need]:
    """Clocks that are free give numbers that nobody can repeat; they give numbers."""
    needs = []
    if is_jetson(facts):
        mode, known = facts.get("power_mode"), facts.get("power_modes") or []
        found = "{} (of {})".format(mode["name"], ", ".join(known)) if mode else _told(facts, "power_mode")
        needs.append(Need("power mode", mode is not None, found, False, "`nvpmodel -q` there says more"))
        pinned, clock = facts.get("clocks_pinned") or {}, facts.get("gpu_clock_mhz")
        found = _range(clock) if clock else _told(facts, "gpu_clock_mhz")
        needs.append(Need("GPU clock fixed", pinned.get("gpu", False), found, False, "measure with --lock-clocks"))
    governor = facts.get("governor")
    fine = governor == "performance" or (facts.get("clocks_pinned") or {}).get("cpu", False)
    fix = "measure with --lock-clocks" if governor else None
    needs.append(Need("CPU clock fixed", fine, governor or _told(facts, "governor"), False, fix))
    return needs


def _range(clock: Mapping[str, float]) -> str:
    return "{} to {} MHz".format(*("{:g}".format(clock[end]) if end in clock else "?" for end in ("min", "max")))
