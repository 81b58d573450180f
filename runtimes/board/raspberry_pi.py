"""What the firmware of a Raspberry Pi says through `vcgencmd`, and its mark of throttling in /sys."""

import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional

from runtimes.board.commands import Run, ask, run_command
from runtimes.readings import ROOT, Reading, read

# The same four conditions stand in bits 0 to 3 (now) and 16 to 19 (since the last start).
_CONDITIONS = ("under-voltage", "ARM frequency capped", "throttled", "soft temperature limit")
_SINCE_BOOT = 16
_PLACES = ("sys/devices/platform/soc*/soc*:firmware/get_throttled", "sys/devices/platform/soc*:firmware/get_throttled")


# Parsers -----------------------------------------------------------------------------------------------------------


def parse_throttled(text: str) -> Optional[int]:
    """`throttled=0x50005` of vcgencmd, or the bare hexadecimal number of /sys, as a bit field."""
    found = re.fullmatch(r"(?:throttled=)?(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(found.group(1), 16) if found else None


def throttle_flags(bits: int) -> Dict[str, List[str]]:
    """The bit field by name: what holds `now`, and what has occurred `since boot`."""
    moments = {"now": bits, "since boot": bits >> _SINCE_BOOT}
    return {
        moment: [name for place, name in enumerate(_CONDITIONS) if shifted >> place & 1]
        for moment, shifted in moments.items()
    }


def parse_clock_mhz(text: str) -> Optional[float]:
    """`frequency(48)=1500345728` of `vcgencmd measure_clock arm`, in MHz. The number in brackets differs by model."""
    found = re.fullmatch(r"frequency\(\d+\)=(\d+)", text.strip())
    return int(found.group(1)) / 1e6 if found else None


def parse_temperature_c(text: str) -> Optional[float]:
    """`temp=48.2'C` of `vcgencmd measure_temp`."""
    found = re.fullmatch(r"temp=(-?\d+(?:\.\d+)?)'C", text.strip())
    return float(found.group(1)) if found else None


def parse_pmic(text: str) -> Dict[str, float]:
    """`vcgencmd pmic_read_adc` of a Raspberry Pi 5: milliwatts of each rail that has a voltage and a current.

    `VDD_CORE_A current(7)=0.95A` and `VDD_CORE_V volt(15)=0.72V` give VDD_CORE. EXT5V and BATT have no current.
    """
    lines = re.findall(r"^\s*(\w+)_([AV]) (?:current|volt)\(\d+\)=(\d+(?:\.\d+)?)[AV]$", text, re.MULTILINE)
    values: Mapping[str, Dict[str, float]] = {"A": {}, "V": {}}
    for rail, unit, number in lines:
        values[unit][rail] = float(number)
    return {rail: 1000 * amperes * values["V"][rail] for rail, amperes in values["A"].items() if rail in values["V"]}


# Reading -----------------------------------------------------------------------------------------------------------


class PmicRails:
    """The rails behind the power chip of a Raspberry Pi 5. Each reading starts a process, some milliseconds."""

    name = "vcgencmd pmic_read_adc"
    counts_energy = False
    least_interval_s = 0.5

    def __init__(self, run: Run = run_command) -> None:
        self._run = run

    def read(self) -> Dict[str, float]:
        """Milliwatts by rail, now."""
        found = self._run(["vcgencmd", "pmic_read_adc"])
        return parse_pmic(found.value) if found.value is not None else {}


def throttled_bits(root: Path = ROOT, run: Run = run_command) -> Reading:
    """The firmware's bit field, from /sys where the kernel has it, else from vcgencmd."""
    for pattern in _PLACES:
        for path in sorted(root.glob(pattern)):
            found = read(str(path.relative_to(root)), parse_throttled, root)
            if found.value is not None:
                return found
    return ask(run, ["vcgencmd", "get_throttled"], parse_throttled)


def firmware_state(run: Run = run_command) -> Dict[str, Reading]:
    """The clock and temperature that the firmware measures; cpufreq shows the clock that was asked for."""
    clock = ask(run, ["vcgencmd", "measure_clock", "arm"], parse_clock_mhz)
    asked = ["vcgencmd", "measure_temp"]
    return {
        "firmware_clock_mhz": clock,
        "firmware_temperature_c": ask(run, asked, parse_temperature_c) if clock.value is not None else clock,
    }
