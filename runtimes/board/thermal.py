"""Thermal zones and cooling devices of the kernel."""

import re
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple

from runtimes.readings import ROOT, Reading, numbered, parse_number, read

_PLACE = "sys/class/thermal"
OFF_C = -256.0  # what a Jetson's sensor answers while its block is switched off
# A Jetson's power chip shows the kernel one of two numbers, whatever its temperature (AGX Xavier, TX2).
_PLACEHOLDER = re.compile(r"PMIC\b", re.IGNORECASE)
_PLACEHOLDERS_C = (50.0, 100.0)
_CHIPS = re.compile(r"tj\b|cpu|gpu|x86_pkg_temp", re.IGNORECASE)  # sensors in what computes
# Kernel names of devices that cool by slowing a processor down; fans are not among them.
_SLOWING = re.compile(r"cpufreq|devfreq|throttle-alert|over-?current", re.IGNORECASE)


class Zones(NamedTuple):
    """The thermal zones: thousandths of a degree Celsius, and why the others have none."""

    temperatures_mc: Dict[str, int]
    unread: Dict[str, str]


def unmeasured(sensor: str, celsius: float) -> Optional[str]:
    """Why what a sensor answers is no temperature; None where it is one."""
    if celsius <= OFF_C:
        return "switched off"
    return "a placeholder" if _PLACEHOLDER.match(sensor) and celsius in _PLACEHOLDERS_C else None


def hottest(sensors: Iterable[Tuple[str, float]]) -> Optional[float]:
    """The highest temperature of sensors with their degrees Celsius; None where none has one."""
    return max((celsius for name, celsius in sensors if not unmeasured(name, celsius)), default=None)


def zone_files(root: Path = ROOT) -> List[Tuple[str, str]]:
    """The type of every zone and where its temperature stands under `root`: first those of processors and GPU."""
    folders = sorted((root / _PLACE).glob("thermal_zone*"), key=numbered)
    places = ["{}/{}".format(_PLACE, folder.name) for folder in folders]
    files = [(read(place + "/type", root=root).value or "", place + "/temp") for place in places]
    return sorted(files, key=lambda file: not _CHIPS.search(file[0]))


def zones(root: Path = ROOT) -> Zones:
    """Every zone by its type, or by its number where two are of one type.

    A zone whose block has no power fails (EAGAIN) or answers -256 degrees: it is in `unread`, not 0. So is one that
    shows a placeholder.
    """
    found = Zones({}, {})
    for folder in sorted((root / _PLACE).glob("thermal_zone*"), key=numbered):
        place = "{}/{}".format(_PLACE, folder.name)
        kind = read(place + "/type", root=root).value
        name = kind if kind and kind not in {**found.temperatures_mc, **found.unread} else folder.name
        value, reason = read(place + "/temp", parse_number, root)
        if value is not None:
            reason = unmeasured(kind or "", value / 1e3)
        if reason:
            found.unread[name] = reason
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
