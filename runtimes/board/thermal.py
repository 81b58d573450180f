"""Thermal zones and cooling devices of the kernel."""

import re
from pathlib import Path
from typing import Dict, List, NamedTuple

from runtimes.readings import ROOT, Reading, parse_number, read

_PLACE = "sys/class/thermal"
_OFF_MC = -256000  # what a Jetson's sensor answers while its block is switched off
# Kernel names of devices that cool by slowing a processor down; fans are not among them.
_SLOWING = re.compile(r"cpufreq|devfreq|throttle-alert|over-?current", re.IGNORECASE)


class Zones(NamedTuple):
    """The thermal zones: thousandths of a degree Celsius, and why the others have none."""

    temperatures_mc: Dict[str, int]
    unread: Dict[str, str]


def zones(root: Path = ROOT) -> Zones:
    """Every zone by its type, or by its number where two are of one type.

    A zone whose block has no power fails (EAGAIN) or answers -256 degrees: it is in `unread`, not 0.
    """
    found = Zones({}, {})
    for folder in sorted((root / _PLACE).glob("thermal_zone*"), key=lambda path: (len(path.name), path.name)):
        place = "{}/{}".format(_PLACE, folder.name)
        kind = read(place + "/type", root=root).value
        name = kind if kind and kind not in {**found.temperatures_mc, **found.unread} else folder.name
        value, reason = read(place + "/temp", parse_number, root)
        if value is None:
            found.unread[name] = reason or ""
        elif value <= _OFF_MC:
            found.unread[name] = "switched off"
        else:
            found.temperatures_mc[name] = value
    return found


def slowed_by(root: Path = ROOT) -> Reading:
    """The cooling devices that slow a processor or the GPU down right now, by name; None where there is none at all."""
    active: List[str] = []
    seen = False
    for folder in sorted((root / _PLACE).glob("cooling_device*")):
        place = "{}/{}".format(_PLACE, folder.name)
        kind = read(place + "/type", root=root).value or ""
        state = read(place + "/cur_state", parse_number, root).value
        if _SLOWING.search(kind) and state is not None:
            seen = True
            active += [kind] if state > 0 else []
    return Reading(active) if seen else Reading(None, "/{}: no cooling device that slows a processor".format(_PLACE))


def over_current_events(root: Path = ROOT) -> Reading:
    """How often a Jetson has slowed down since its start because it drew too much current, all kinds together."""
    files = sorted((root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt"))
    counts = [read(str(path.relative_to(root)), parse_number, root).value for path in files]
    known = [count for count in counts if count is not None]
    return Reading(sum(known)) if known else Reading(None, "/sys/class/hwmon: no count of over-current events")
