"""Electrical power: rails from sysfs, and what may be added up to a total on which module.

The rules for totals come from NVIDIA's developer guides and design guides; none was checked with a meter.
"""

from pathlib import Path
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Protocol, Tuple

from runtimes.board.commands import Run, run_command
from runtimes.board.energy_counters import EnergyCounters, counters
from runtimes.board.raspberry_pi import PmicRails, parse_pmic
from runtimes.readings import ROOT, Reading, parse_number, read

_CHIPS = ("ina3221", "ina238")
_UNCONNECTED = "NC"
_CHANNELS = (1, 2, 3)  # of an INA3221; its in4 to in7 are voltages over shunts, not rails


class Power(NamedTuple):
    """A power and what it covers."""

    milliwatts: float
    scope: str  # "module": all that the module takes; "total_input": board and module; "sum_of_rails"; "package"
    rails: List[str]  # those added up
    note: Optional[str] = None  # why it may be too much or too little


class PowerSource(Protocol):
    """Something that can be asked again and again for the power of each rail."""

    name: str
    counts_energy: bool  # a reading is the mean since the last one; else it is of this moment, whatever was before
    least_interval_s: float  # between two readings: what one costs

    def read(self) -> Dict[str, float]:
        """Milliwatts by rail: now, or the mean since the last call where it counts energy ({} the first time).

        A rail that cannot be read this time is left out.
        """


# Totals ----------------------------------------------------------------------------------------------------------

_WHOLE = {"VDD_IN": "module", "POM_5V_IN": "module", "VIN": "total_input"}  # one rail that has everything behind it
# VDDQ_VDD2_1V8AO of an AGX Orin hangs on VIN_SYS_5V0 and is in it already.
_AGX_ORIN = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
_AGX_XAVIER = ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")
_XAVIER_NOTE = "sources disagree whether SYS5V feeds VDDRQ; if it does, VDDRQ's {:.0f} mW are counted twice"
_THOR = frozenset({"VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"})
_PI_5 = ("VDD_CORE", "DDR_VDD2", "DDR_VDDQ", "3V3_SYS", "1V8_SYS", "1V1_SYS", "0V8_SW")
_PI_NOTE = "without losses of the power chip and what hangs on 5 V (USB, HATs, fan): the wall shows more"


def total(rails_mw: Mapping[str, float]) -> Optional[Power]:
    """The power of the whole module by its own rule, never a sum of rails of which one feeds another.

    None where no rule is known for these rails, or one of those that the rule adds up is missing.
    """
    for rail, scope in _WHOLE.items():
        if rail in rails_mw:
            return Power(rails_mw[rail], scope, [rail])
    if all(rail in rails_mw for rail in _AGX_ORIN):
        return _sum(rails_mw, _AGX_ORIN)
    if all(rail in rails_mw for rail in _AGX_XAVIER):
        return _sum(rails_mw, _AGX_XAVIER, _XAVIER_NOTE.format(rails_mw["VDDRQ"]))
    if all(rail in rails_mw for rail in _PI_5):
        return _sum(rails_mw, tuple(rails_mw), _PI_NOTE)
    packages = tuple(rail for rail in rails_mw if rail.startswith("package-") and "/" not in rail)
    return _sum(rails_mw, packages)._replace(scope="package") if packages else None


def _sum(rails_mw: Mapping[str, float], rails: Tuple[str, ...], note: Optional[str] = None) -> Power:
    return Power(sum(rails_mw[rail] for rail in rails), "sum_of_rails", list(rails), note)


# Meters on the board -----------------------------------------------------------------------------------------------


class _Meter(NamedTuple):
    """Files of one rail: millivolts and milliamperes, or one with its power and how many of its units are 1 mW."""

    files: Tuple[str, ...]
    units_per_mw: int

    def milliwatts(self, root: Path) -> Optional[float]:
        """The product of what the files hold; None where one cannot be read."""
        power = 1.0
        for name in self.files:
            value = read(name, parse_number, root).value
            if value is None:
                return None
            power *= value
        return power / self.units_per_mw


class BoardRails:
    """The power meters of a board (INA3221, INA238) through sysfs, without root."""

    counts_energy = False
    least_interval_s = 0.0

    def __init__(self, meters: Mapping[str, _Meter], name: str, root: Path) -> None:
        self.name = name
        self._meters, self._root = dict(meters), root

    def read(self) -> Dict[str, float]:
        """Milliwatts by rail, now."""
        found = {rail: meter.milliwatts(self._root) for rail, meter in self._meters.items()}
        return {rail: value for rail, value in found.items() if value is not None}


def board_rails(root: Path = ROOT) -> Optional[BoardRails]:
    """The meters that sysfs shows and that answer now; None where there is none."""
    meters: Dict[str, _Meter] = {}
    chips = []
    for folder, chip in _folders(root):
        for rail, meter in _ina238(folder, meters, root) if chip == "ina238" else _ina3221(folder, root):
            if rail != _UNCONNECTED and meter.milliwatts(root) is not None:
                meters[rail if rail not in meters else "{} ({})".format(rail, folder.name)] = meter
                chips.append(chip)
    if not meters:
        return _older_rails(root)
    return BoardRails(meters, "{} (sysfs)".format(" and ".join(dict.fromkeys(chips))), root)


def _folders(root: Path) -> Iterator[Tuple[Path, str]]:
    """Where each meter's files lie: by its driver, else by its name among all sensors; their numbers are not stable.

    The INA238s come last, because one without a label is named after its neighbours.
    """
    seen = set()
    for chip in _CHIPS:
        by_driver = sorted((root / "sys/bus/i2c/drivers" / chip).glob("*/hwmon/hwmon*"))
        by_name = [
            folder
            for folder in sorted((root / "sys/class/hwmon").glob("hwmon*"))
            if read(_under(folder / "name", root), root=root).value == chip
        ]
        for folder in by_driver + by_name:
            if folder.resolve() not in seen:
                seen.add(folder.resolve())
                yield folder, chip


def _under(path: Path, root: Path) -> str:
    return str(path.relative_to(root))


def _ina3221(folder: Path, root: Path) -> Iterator[Tuple[str, _Meter]]:
    place = _under(folder, root)
    for channel in _CHANNELS:
        label = read("{}/in{}_label".format(place, channel), root=root).value
        files = ("{}/in{}_input".format(place, channel), "{}/curr{}_input".format(place, channel))
        if label:
            yield label, _Meter(files, 1000)  # microwatts


def _ina238(folder: Path, others: Mapping[str, _Meter], root: Path) -> Iterator[Tuple[str, _Meter]]:
    place = _under(folder, root)
    labels = [read("{}/{}".format(place, name), root=root).value for name in ("label", "power1_label", "in1_label")]
    label = next(filter(None, labels), "VIN" if _THOR & set(others) else "ina238")
    yield label, _Meter(("{}/power1_input".format(place),), 1000)


def _older_rails(root: Path) -> Optional[BoardRails]:
    """JetPack 4: the same chip under another driver, in milliwatts already."""
    meters: Dict[str, _Meter] = {}
    for label_file in sorted((root / "sys/bus/i2c/drivers/ina3221x").glob("*/iio:device*/rail_name_*")):
        label = read(_under(label_file, root), root=root).value
        channel = label_file.name.rpartition("_")[2]
        meter = _Meter((_under(label_file.parent / "in_power{}_input".format(channel), root),), 1)
        if label and label != _UNCONNECTED and meter.milliwatts(root) is not None:
            meters[label] = meter
    return BoardRails(meters, "ina3221x (sysfs, JetPack 4)", root) if meters else None


# Choosing ----------------------------------------------------------------------------------------------------------


def power_source(root: Path = ROOT, run: Run = run_command) -> Reading:
    """The first that answers: a board's own meters, the processor's energy counters, a Raspberry Pi 5's power chip.

    Its value is a `PowerSource`, or None with the reasons.
    """
    rails = board_rails(root)
    if rails is not None:
        return Reading(rails)
    found = counters(root)
    if found.value:
        return Reading(EnergyCounters(found.value, root))
    pmic = run(["vcgencmd", "pmic_read_adc"])
    if pmic.value is not None and parse_pmic(pmic.value):
        return Reading(PmicRails(run))
    told = "vcgencmd: no rail with voltage and current" if pmic.value is not None else pmic.reason
    return Reading(None, "no INA3221 or INA238 in /sys; {}; {}".format(found.reason, told))
