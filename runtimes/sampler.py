"""What the machine says about itself, from /proc and /sys. It never fails: what cannot be read is None with a reason.

A parser is a pure function of a file's text, see `runtimes.readings`.
"""

import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.board.commands import Run, run_command
from runtimes.board.facts import board_facts, board_state
from runtimes.board.raspberry_pi import throttled_bits
from runtimes.board.settings import settings_left
from runtimes.board.thermal import over_current_events, zones
from runtimes.readings import ROOT, Reading, parse_number, parse_sizes, read

_CPUS = "sys/devices/system/cpu"
_MOST_CLOCKS = 8  # reading one can take milliseconds on a board, and eight tell the story


class Sample(NamedTuple):
    """What changes from second to second."""

    at_s: float  # time.monotonic
    busy_s: Reading  # CPU seconds of all cores since boot, whoever used them
    clock_mhz: Reading  # of the fastest core


# Parsers ---------------------------------------------------------------------------------------------------------


def parse_cpuinfo(text: str) -> Dict[str, List[str]]:
    """/proc/cpuinfo: key -> its values, one for each processor that has it."""
    found: Dict[str, List[str]] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and value.strip():
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def parse_printed_clocks(text: str) -> Dict[int, float]:
    """/proc/cpuinfo: the clock of each processor in MHz, by its number; empty where it prints none."""
    found = parse_cpuinfo(text)
    return {int(cpu): float(mhz) for cpu, mhz in zip(found.get("processor", []), found.get("cpu MHz", []))}


def parse_busy_ticks(text: str) -> Optional[int]:
    """/proc/stat: clock ticks in which some processor had work (all but idle and iowait); None where it has no count.

    Guest time is left out: it is counted in user time already. Stolen time is work: somebody else's.
    """
    line = re.search(r"^cpu +([\d ]+)$", text, re.MULTILINE)
    ticks = [int(field) for field in line.group(1).split()] if line else []
    if len(ticks) < 4 or not any(ticks):
        return None
    return sum(ticks[:8]) - sum(ticks[3:5])


def parse_load_average(text: str) -> Optional[List[float]]:
    """/proc/loadavg: runnable tasks over 1, 5 and 15 minutes."""
    found = re.match(r"([\d.]+) ([\d.]+) ([\d.]+) ", text)
    return [float(field) for field in found.groups()] if found else None


# Reading ---------------------------------------------------------------------------------------------------------


def sample(root: Path = ROOT, cpus: Sequence[int] = ()) -> Sample:
    """One reading of what changes from second to second; the clock is that of `cpus`, or of all we may use."""
    ticks = read("proc/stat", parse_busy_ticks, root)
    busy = Reading(ticks.value / os.sysconf("SC_CLK_TCK")) if ticks.value is not None else ticks
    clocks = clocks_mhz(root, cpus)
    return Sample(time.monotonic(), busy, Reading(max(clocks.value)) if clocks.value else clocks)


def clocks_mhz(root: Path = ROOT, cpus: Sequence[int] = ()) -> Reading:
    """The clock of each of `cpus`, or of each core this process may use, in MHz; at most eight files are read."""
    chosen = list(cpus or affinity().value or [])
    files = ["{}/cpu{}/cpufreq/scaling_cur_freq".format(_CPUS, cpu) for cpu in chosen[:_MOST_CLOCKS]]
    khz = [read(name, parse_number, root).value for name in files]
    if khz and None not in khz:
        return Reading([value / 1000 for value in khz])
    printed: Dict[int, float] = read("proc/cpuinfo", parse_printed_clocks, root).value or {}
    found = [printed[cpu] for cpu in chosen if cpu in printed] or list(printed.values())
    return Reading(found) if found else Reading(None, "neither cpufreq in /sys nor 'cpu MHz' in /proc/cpuinfo")


def temperatures_mc(root: Path = ROOT) -> Reading:
    """The thermal zones that can be read: name -> thousandths of a degree Celsius."""
    found = zones(root).temperatures_mc
    return Reading(found) if found else Reading(None, "/sys/class/thermal: no zone that can be read")


def throttling(root: Path = ROOT, run: Run = run_command) -> Reading:
    """Marks that grow or change when the machine slows itself down: name -> number.

    `core_throttle_count` adds up over the cores (x86); `get_throttled` is the Raspberry Pi firmware's bit field;
    `over_current_events` adds up over the kinds of a Jetson.
    """
    marks: Dict[str, int] = {}
    counts = [
        read(str(path.relative_to(root)), parse_number, root).value
        for path in (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
    ]
    if any(count is not None for count in counts):
        marks["core_throttle_count"] = sum(count or 0 for count in counts)
    others = {"get_throttled": throttled_bits(root, run), "over_current_events": over_current_events(root)}
    marks.update({name: reading.value for name, reading in others.items() if reading.value is not None})
    missing = "no thermal_throttle count, no get_throttled and no over-current count"
    return Reading(marks) if marks else Reading(None, missing)


def affinity() -> Reading:
    """The processors this process may run on."""
    try:
        return Reading(sorted(os.sched_getaffinity(0)))
    except (AttributeError, OSError):
        return Reading(None, "this system does not tell a process's processors")


def cpu_model(root: Path = ROOT) -> Reading:
    """The processor's name; ARM kernels do not print one, then the board's stands in for it."""
    printed = read("proc/cpuinfo", parse_cpuinfo, root).value or {}
    names = [printed[key][0] for key in ("model name", "Model", "Hardware") if key in printed]
    board = read("proc/device-tree/model", root=root)
    if names or board.value:
        return Reading(names[0]) if names else board
    return Reading(None, "neither /proc/cpuinfo nor the device tree names it")


def memory(root: Path = ROOT) -> Mapping[str, int]:
    """/proc/meminfo in bytes; empty where there is none."""
    found: Mapping[str, int] = read("proc/meminfo", parse_sizes, root).value or {}
    return found


def own_memory(root: Path = ROOT) -> Mapping[str, int]:
    """/proc/self/status in bytes (VmHWM, VmRSS, ...); empty where there is none."""
    found: Mapping[str, int] = read("proc/self/status", parse_sizes, root).value or {}
    return found


# Facts -----------------------------------------------------------------------------------------------------------


def _constant(root: Path) -> Dict[str, Reading]:
    total = memory(root).get("MemTotal")
    return {
        "os": Reading(_os_name(root)),
        "kernel": Reading(platform.release()),
        "machine": Reading(platform.machine()),
        "python": Reading(platform.python_version()),
        "numpy": _numpy_version(),
        "board": read("proc/device-tree/model", root=root),
        "cpu_model": cpu_model(root),
        "cores": Reading(os.cpu_count()),
        "affinity": affinity(),
        "governor": read(_CPUS + "/cpu0/cpufreq/scaling_governor", root=root),
        "memory_total_bytes": Reading(total) if total else Reading(None, "/proc/meminfo: no MemTotal"),
    }


def _numpy_version() -> Reading:
    try:
        import numpy as np
    except ImportError:
        return Reading(None, "numpy is not installed for {}".format(sys.executable))
    return Reading(np.__version__)


def _os_name(root: Path) -> str:
    release = read("etc/os-release", root=root).value or ""
    named = re.search(r'^PRETTY_NAME="?([^"\n]+)"?$', release, re.MULTILINE)
    return named.group(1) if named else platform.system()


def changing(root: Path = ROOT, run: Run = run_command) -> Dict[str, Reading]:
    """The facts that are read before and after a measurement; this watches the machine for a quarter of a second."""
    return {
        **board_state(root, run),
        "clocks_mhz": clocks_mhz(root),
        "load_average": read("proc/loadavg", parse_load_average, root),
        "temperature_mc": temperatures_mc(root),
        "throttling": throttling(root, run),
    }


def facts(before: Optional[Mapping[str, Reading]] = None, root: Path = ROOT, run: Run = run_command) -> Dict[str, Any]:
    """Everything about this machine; where `before` is given, the changing facts are `{"before": ..., "after": ...}`.

    `reasons` says for each None why it is one, by the name of the fact. Those of `runtimes.board.facts` are among them.
    """
    after = changing(root, run)
    readings = {**_constant(root), **board_facts(root, run), "settings_left": settings_left(root)}
    plain, reasons = _split({**readings, **(after if before is None else {})})
    for name, earlier in (before or {}).items():
        plain[name] = {"before": earlier.value, "after": after[name].value}
        reason = earlier.reason or after[name].reason
        if reason:
            reasons[name] = reason
    return {**plain, "reasons": reasons}


def _split(readings: Mapping[str, Reading]) -> Tuple[Dict[str, Any], Dict[str, str]]:
    values = {name: reading.value for name, reading in readings.items()}
    return values, {name: reading.reason for name, reading in readings.items() if reading.reason}
