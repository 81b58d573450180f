"""Clocks of GPU, memory and processors: the range that is set, where it stands, and whether it is pinned to one value.

Everything is in MHz. `jetson_clocks --show` knows all of them but needs root on a real board; sysfs shows the rest.
"""

import re
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from runtimes.board.commands import Run, ask, run_command
from runtimes.readings import CPU_RANGE, ROOT, Reading, numbered, parse_cpu_list, parse_number, read

_GPUS = ("*.gpu", "*.ga10b", "*.gv11b", "*.gp10b", "gpu-gpc-*")  # devfreq's names by release; the last is Thor's
_GPU_LOADS = [  # where devfreq does not lead to it
    "sys/devices/{}/load".format(place)
    for place in ("gpu.0", "platform/gpu.0", *map("platform/{}".format, _GPUS[:4]), "platform/*/*.gpu")
]
CPUFREQ = "sys/devices/system/cpu/cpufreq"
_EMC_RATES = ("sys/kernel/debug/bpmp/debug/clk/emc/rate", "sys/kernel/debug/clk/emc/clk_rate")  # root only
_NO_GPU = "/sys/class/devfreq: no GPU"
_APART = 0.02  # a clock has steps; closer than this to what a mode allows is what it allows


class Clock(NamedTuple):
    """The limits that are set and the clock now, MHz."""

    min: Optional[float]
    max: Optional[float]
    cur: Optional[float]

    @property
    def pinned(self) -> Optional[bool]:
        """Whether there is only one clock left; None where a limit is not known."""
        return None if self.min is None or self.max is None else self.min == self.max


class JetsonClocks(NamedTuple):
    """What `jetson_clocks --show` says."""

    machine: Optional[str]
    cpus: Dict[int, Clock]  # those that are online
    governors: Dict[int, str]
    offline: List[int]
    gpu: Optional[Clock]
    emc: Optional[Clock]
    gpu_tpcs: Optional[int]  # groups of two SMs that are switched on
    power_mode: Optional[str]


# Parsers -----------------------------------------------------------------------------------------------------------


def parse_jetson_clocks(text: str) -> Optional[JetsonClocks]:
    """Both generations: with `Online=` in a processor's line (JetPack 4 and 5), and with a line of lists above."""
    cores = [(int(number), dict(_fields(rest))) for number, rest in re.findall(r"^cpu(\d+):(.*)$", text, re.MULTILINE)]
    gpu, emc = (_line_clock(text, name) for name in ("GPU", "EMC"))
    if not cores and gpu is None and emc is None:
        return None
    machine = re.search(r"Machine:(.*)$", text, re.MULTILINE)
    listed = re.search(r"Offline CPUs:[ \t]*({0}(?:,{0})*)".format(CPU_RANGE), text)
    tpcs = re.search(r"^Active GPU TPCs:\s*(\d+)", text, re.MULTILINE)
    mode = re.search(r"^NV Power Mode:[ \t]*(\S+)", text, re.MULTILINE)
    off = [number for number, fields in cores if fields.get("Online") == "0"]
    return JetsonClocks(
        machine.group(1).strip() if machine else None,
        {number: _clock(fields, 1e3) for number, fields in cores if number not in off},
        {number: fields["Governor"] for number, fields in cores if "Governor" in fields and number not in off},
        sorted({*off, *parse_cpu_list(listed.group(1) if listed else "")}),
        gpu,
        emc,
        int(tpcs.group(1)) if tpcs else None,
        mode.group(1) if mode else None,
    )


def _fields(text: str) -> List[Any]:
    return re.findall(r"(\w+)=(\S+)", text)


def _line_clock(text: str, name: str) -> Optional[Clock]:
    line = re.search(r"^{} (MinFreq=.*)$".format(name), text, re.MULTILINE)
    return _clock(dict(_fields(line.group(1))), 1e6) if line else None


def _clock(fields: Mapping[str, str], units_per_mhz: float) -> Clock:
    numbers = [fields.get(name, "") for name in ("MinFreq", "MaxFreq", "CurrentFreq")]
    return Clock(*(int(number) / units_per_mhz if number.isdecimal() else None for number in numbers))


def parse_cpu_count(text: str) -> Optional[int]:
    """How many processors a kernel list such as `0-3,6` names."""
    try:
        return len(parse_cpu_list(text)) or None
    except ValueError:
        return None


def parse_highest_mhz(text: str) -> Optional[float]:
    """devfreq's `available_frequencies`: the highest, from Hz."""
    numbers = [int(word) for word in text.split() if word.isdecimal()]
    return max(numbers) / 1e6 if numbers else None


# Reading -----------------------------------------------------------------------------------------------------------


def gpu_folder(root: Path = ROOT) -> Optional[str]:
    """devfreq's folder of the GPU, relative to `root`."""
    return next(_found(["sys/class/devfreq/" + name for name in _GPUS], root), None)


def gpu_load_file(root: Path = ROOT) -> Optional[str]:
    """Where a Jetson's kernel tells how busy its GPU is, in thousandths, relative to `root`."""
    folder = gpu_folder(root)
    return next(_found(["{}/device/load".format(folder)] * bool(folder) + _GPU_LOADS, root), None)


def _found(patterns: Sequence[str], root: Path) -> Iterator[str]:
    """What there is under `root` of these patterns, in their order."""
    return (str(path.relative_to(root)) for pattern in patterns for path in sorted(root.glob(pattern)))


def gpu_clock(root: Path = ROOT) -> Reading:
    """The GPU's `Clock`, through devfreq."""
    folder = gpu_folder(root)
    if folder is None:
        return Reading(None, _NO_GPU)
    found = [read("{}/{}_freq".format(folder, name), parse_number, root) for name in ("min", "max", "cur")]
    if all(reading.value is None for reading in found):
        return Reading(None, found[0].reason)
    return Reading(Clock(*(None if reading.value is None else reading.value / 1e6 for reading in found)))


def gpu_highest_mhz(root: Path = ROOT) -> Optional[float]:
    """The highest clock that this GPU offers, whatever the power mode; None where it is not listed."""
    folder = gpu_folder(root)
    listed = read(folder + "/available_frequencies", parse_highest_mhz, root).value if folder else None
    return listed if isinstance(listed, float) else None


def emc_mhz(root: Path = ROOT) -> Reading:
    """The memory's clock as the kernel's debug files show it, to root only."""
    readings = [read(name, parse_number, root) for name in _EMC_RATES]
    found = next((reading.value for reading in readings if reading.value), None)
    if found:
        return Reading(found / 1e6)
    return Reading(None, "{}; tegrastats or `jetson_clocks --show` show it to root".format(readings[0].reason))


def clock_files(cpus: Sequence[int] = (), root: Path = ROOT) -> List[str]:
    """Where the clock of each group of processors stands, relative to `root`; the groups of `cpus` come first."""

    def elsewhere(folder: Path) -> bool:
        named = read("{}/related_cpus".format(folder.relative_to(root)), _blank_list, root).value or []
        return not set(cpus) & set(named)

    folders = sorted(_policies(root), key=elsewhere)
    return ["{}/scaling_cur_freq".format(folder.relative_to(root)) for folder in folders]


def _blank_list(text: str) -> List[int]:
    """cpufreq's own lists have blanks: `0 1 2 3`."""
    return [int(word) for word in text.split()]


def _policies(root: Path) -> List[Path]:
    return sorted((root / CPUFREQ).glob("policy*"), key=numbered)


def cpu_policies(root: Path = ROOT) -> Dict[str, Clock]:
    """The range and clock of each group of processors that share one, by cpufreq's name of it."""
    return {
        folder.name: Clock(*(_mhz(folder, name, root) for name in ("min", "max", "cur"))) for folder in _policies(root)
    }


def _mhz(folder: Path, name: str, root: Path) -> Optional[float]:
    place = "{}/scaling_{}_freq".format(folder.relative_to(root), name)
    value = read(place, parse_number, root).value
    return None if value is None else value / 1000


def governors(root: Path = ROOT) -> Reading:
    """How the clock of each group of processors is chosen: the distinct governors."""
    readings = [read("{}/scaling_governor".format(folder.relative_to(root)), root=root) for folder in _policies(root)]
    found = list(dict.fromkeys(reading.value for reading in readings if reading.value))
    return Reading(found) if found else Reading(None, "/{}: no governor".format(CPUFREQ))


def clock_state(root: Path = ROOT, run: Run = run_command) -> Dict[str, Reading]:
    """`gpu_clock_mhz`, `emc_clock_mhz`, `clocks_pinned` and `governors`; sysfs comes before jetson_clocks."""
    asked = ask(run, ["jetson_clocks", "--show"], parse_jetson_clocks)
    shown: Optional[JetsonClocks] = asked.value
    gpu = gpu_clock(root)
    if gpu.value is None and shown is not None and shown.gpu is not None:
        gpu = Reading(shown.gpu)
    emc = Reading(shown.emc) if shown is not None and shown.emc is not None else _emc(root, asked)
    cpus = list(cpu_policies(root).values()) or (list(shown.cpus.values()) if shown is not None else [])
    return {
        "gpu_clock_mhz": _plain(gpu),
        "emc_clock_mhz": _plain(emc),
        "clocks_pinned": _pinned({"gpu": [gpu.value], "cpu": cpus, "emc": [emc.value]}),
        "governors": governors(root),
    }


def _emc(root: Path, asked: Reading) -> Reading:
    rate = emc_mhz(root)
    if rate.value is not None:
        return Reading(Clock(None, None, rate.value))
    return Reading(None, "{}; {}".format(rate.reason, asked.reason or "jetson_clocks does not tell it"))


def _plain(reading: Reading) -> Reading:
    """A clock as a table without what is not known, rounded to a hundredth."""
    if reading.value is None:
        return reading
    return Reading({name: round(mhz, 2) for name, mhz in reading.value._asdict().items() if mhz is not None})


def _pinned(clocks: Mapping[str, Sequence[Optional[Clock]]]) -> Reading:
    found = {}
    for name, members in clocks.items():
        known = [clock.pinned for clock in members if clock is not None and clock.pinned is not None]
        if known:
            found[name] = all(known)
    return Reading(found) if found else Reading(None, "neither devfreq nor cpufreq in /sys shows the range of a clock")


def mode_contradictions(mode: str, allowed_mhz: float, gpu_max_mhz: float) -> List[str]:
    """What is wrong where the GPU's highest clock is not the one that its power mode allows; empty where it is."""
    if abs(gpu_max_mhz - allowed_mhz) <= _APART * allowed_mhz:
        return []
    return [
        "power mode {} allows the GPU {:g} MHz, but its highest clock is set to {:g} MHz".format(
            mode, allowed_mhz, gpu_max_mhz
        )
    ]
