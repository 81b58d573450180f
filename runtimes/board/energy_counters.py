"""The energy counters of x86 processors (RAPL), through /sys/class/powercap."""

import errno
import os
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional

from runtimes.readings import ROOT, Reading, parse_number, read

_PLACE = "sys/class/powercap"


class Counter(NamedTuple):
    """One zone: `package-0`, or `package-0/core` for a part of it."""

    name: str
    file: str
    range_uj: int  # the counter begins again at 0 after this many microjoules


def counters(root: Path = ROOT) -> Reading:
    """The zones that can be read, packages first; None with the reason where there is none.

    `intel-rapl-mmio` is another way to the same counters and left out. AMD's appear under Intel's name.
    """
    found: List[Counter] = []
    refused: Optional[str] = None
    names: Dict[str, str] = {}
    for folder in sorted((root / _PLACE).glob("intel-rapl:*")):
        place = "{}/{}".format(_PLACE, folder.name)
        name = read(place + "/name", root=root).value or folder.name
        parent = names.get(folder.name.rpartition(":")[0])
        names[folder.name] = "{}/{}".format(parent, name) if parent else name
        energy = read(place + "/energy_uj", parse_number, root)
        whole = read(place + "/max_energy_range_uj", parse_number, root).value
        if energy.value is not None and whole:
            found.append(Counter(names[folder.name], place + "/energy_uj", whole))
        refused = refused or energy.reason
    if found:
        return Reading(found)
    if not refused:
        return Reading(None, "/{}: no energy counter".format(_PLACE))
    return Reading(None, refused + (" (reading it needs root)" if refused.endswith(os.strerror(errno.EACCES)) else ""))


class EnergyCounters:
    """Mean power between two readings of the counters. Two readings must not lie further apart than one round of them
    (at 250 W and the usual range about 17 minutes): a second wrap is not seen.
    """

    name = "RAPL (powercap)"
    counts_energy = True
    least_interval_s = 0.0

    def __init__(self, zones: List[Counter], root: Path = ROOT, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._zones, self._root, self._clock = zones, root, clock
        self._last: Dict[str, int] = {}
        self._last_s = 0.0

    def read(self) -> Dict[str, float]:
        """Mean milliwatts by zone since the last call; {} the first time."""
        now_s = self._clock()
        now = {zone.name: read(zone.file, parse_number, self._root).value for zone in self._zones}
        energies = {name: value for name, value in now.items() if value is not None}
        passed_s = now_s - self._last_s
        found = {}
        for zone in self._zones:
            if zone.name in energies and zone.name in self._last and passed_s > 0:
                spent_uj = energies[zone.name] - self._last[zone.name]
                found[zone.name] = (spent_uj if spent_uj >= 0 else spent_uj + zone.range_uj) / passed_s / 1000
        self._last, self._last_s = energies, now_s
        return found
