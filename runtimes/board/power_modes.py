"""The power mode of a Jetson: its name and number, the modes that there are, and what each allows the GPU.

Numbers mean something else on every board and release; a mode is known by its name.
"""

import re
from pathlib import Path
from typing import Dict, Mapping, NamedTuple, Optional

from runtimes.board.commands import Run, ask, run_command
from runtimes.readings import ROOT, Reading, read

_MODE = re.compile(r"POWER_MODEL:?\s+ID=(\d+)\s+NAME=([^\s>]+)")
_DEFAULT = re.compile(r"<\s*PM_CONFIG\s+DEFAULT=(\d+)")

# MHz, for boards whose nvpmodel.conf cannot be read. Reported by users.
_CAPS_MHZ: Mapping[str, Mapping[str, float]] = {
    "Orin Nano": {"7W": 408, "15W": 612, "25W": 918, "MAXN_SUPER": 1020},
}


class PowerMode(NamedTuple):
    """A mode; a name or number that is not told is None."""

    name: Optional[str]
    id: Optional[int]


class Modes(NamedTuple):
    """What a list of modes says."""

    names: Dict[int, str]
    default: Optional[int]
    gpu_caps_mhz: Dict[int, float]  # a mode that sets no limit is left out


# Parsers -----------------------------------------------------------------------------------------------------------


def parse_query(text: str) -> Optional[PowerMode]:
    """`nvpmodel -q`: a line with the name, then one with the number; lines about the fan may stand before them."""
    found = re.search(r"^NV Power Mode:[ \t]*(.*?)[ \t]*$(?:\s+(\d+)\s*$)?", text, re.MULTILINE)
    if found is None or not any(found.groups()):
        return None
    return PowerMode(found.group(1) or None, int(found.group(2)) if found.group(2) else None)


def parse_modes(text: str) -> Optional[Modes]:
    """/etc/nvpmodel.conf, or what `nvpmodel -p --verbose` prints; None where no mode stands in it."""
    names: Dict[int, str] = {}
    caps: Dict[int, float] = {}
    default, current = None, None
    for line in text.splitlines():
        mode, default_line = _MODE.search(line), _DEFAULT.search(line)
        cap = re.match(r"\s*GPU\s+MAX_FREQ\s+(\d+)\s*$", line)
        if mode:
            current = int(mode.group(1))
            names[current] = mode.group(2)
        elif default_line:
            default = int(default_line.group(1))
        elif cap and current is not None and int(cap.group(1)):  # -1 and 0: no limit
            caps[current] = int(cap.group(1)) / 1e6
    return Modes(names, default, caps) if names else None


def parse_status(text: str) -> Optional[int]:
    """/var/lib/nvpmodel/status: the number of the mode, which may be read without root."""
    found = re.search(r"\bpmode:(\d+)", text)
    return int(found.group(1)) if found else None


# Reading -----------------------------------------------------------------------------------------------------------


def modes(root: Path = ROOT, run: Run = run_command) -> Reading:
    """`Modes` of this board: from its nvpmodel.conf, else from nvpmodel itself."""
    found = read("etc/nvpmodel.conf", parse_modes, root)
    return found if found.value is not None else ask(run, ["nvpmodel", "-p", "--verbose"], parse_modes)


def power_mode(root: Path = ROOT, run: Run = run_command) -> Reading:
    """The `PowerMode` that nvpmodel tells; where it does not, the one whose number stands in its status file."""
    asked = ask(run, ["nvpmodel", "-q"], parse_query)
    noted = None if asked.value is not None else noted_mode(root)
    return asked if noted is None else Reading(noted)


def noted_mode(root: Path = ROOT) -> Optional[PowerMode]:
    """The `PowerMode` whose number stands in nvpmodel's status file; no program is asked."""
    number = read("var/lib/nvpmodel/status", parse_status, root).value
    if number is None:
        return None
    listed = read("etc/nvpmodel.conf", parse_modes, root).value
    return PowerMode(listed.names.get(number) if listed else None, number)


def gpu_cap_mhz(mode: PowerMode, listed: Optional[Modes], module: Optional[str]) -> Optional[float]:
    """What a mode allows the GPU, in MHz: as the board's own list says, else as is known of this module.

    None where it is not known or the mode sets no limit. A mode without a number is looked up by its name.
    """
    if listed is not None and listed.gpu_caps_mhz:
        named = [number for number, name in listed.names.items() if name == mode.name]
        number = mode.id if mode.id in listed.names else named[0] if named else None
        return listed.gpu_caps_mhz.get(number) if number is not None else None
    tables = [caps for family, caps in _CAPS_MHZ.items() if module and family in module]
    return tables[0].get(mode.name) if tables and mode.name else None
