"""Which module this is. Strings mislead: a wrong device tree, a carrier's own name, "Super" for how it was flashed.

So the name is taken from the device tree's part number, else from its model string, and held against what the
hardware shows: memory, processors, multiprocessors of the GPU (SM) and the highest clocks. Where the hardware cannot
be what the strings claim, they are not believed, and the contradiction is told.
"""

import re
from pathlib import Path
from typing import FrozenSet, List, NamedTuple, Optional, Sequence, Tuple

from runtimes.board.clocks import gpu_clock, gpu_highest_mhz, parse_cpu_count
from runtimes.board.modules import CAPACITIES, FOREIGN_LIMITS_MHZ, MODULES, PARTS, WORDS, Module
from runtimes.readings import ROOT, parse_number, read

_GIB = 1 << 30
_NEAR_MHZ = 2.0
_COMPATIBLE = "proc/device-tree/compatible"
_PI = re.compile(r"Raspberry Pi .*?(?= Rev [\d.]+|$)")


class Identity(NamedTuple):
    """The result; `name` is None where nothing is known. Two modules that cannot be told apart are joined by "or"."""

    name: Optional[str]
    evidence: List[str]
    contradictions: List[str]


class Hardware(NamedTuple):
    """What can be seen of a board beside its names; None where it could not be."""

    memory_bytes: Optional[int] = None  # as the kernel counts it
    cpus: Optional[int] = None  # all that there are, offline ones too
    sms: Optional[int] = None  # that are switched on
    gpu_highest_mhz: Optional[float] = None  # of all that the GPU offers
    gpu_limit_mhz: Optional[float] = None  # what is allowed now: a power mode may keep it below the highest
    cpu_highest_mhz: Optional[float] = None
    soc: Optional[str] = None  # "tegra234"

    @property
    def capacity_gb(self) -> Optional[int]:
        """What is printed on a module that leaves the kernel this much memory."""
        gib = (self.memory_bytes or 0) / _GIB
        return next((capacity for least, capacity in CAPACITIES if gib >= least), None)


_NOTHING = Hardware()


def identify(model: str, compatible: Sequence[str] = (), hardware: Hardware = _NOTHING) -> Identity:
    """The module behind a device tree's strings.

    Args:
        model: /proc/device-tree/model.
        compatible: the words of /proc/device-tree/compatible.
        hardware: what else was seen; the chip is taken from `compatible` where it stands there.
    """
    pi = _PI.match(model)
    if pi:
        return Identity(pi.group(), ["model '{}'".format(model)], [])
    soc = _tegra(compatible) or hardware.soc
    seen = hardware._replace(soc=soc)
    claimed, evidence, apart = _claims(model, compatible)
    evidence += _told(seen)
    if not claimed and not soc:
        return Identity(None, [], [])
    fitting = [module for module in claimed if not _misfits(module, seen)]
    if fitting:
        return Identity(_names(fitting, seen), evidence, apart)
    apart += ["{} is claimed, but {}".format(_names(claimed, _NOTHING), reason) for reason in _why(claimed, seen)]
    chip = soc or claimed[0].soc
    others = [module for module in MODULES if module.soc == chip and not _misfits(module, seen)]
    return Identity(_names(others, seen) or None, evidence, apart)


def _tegra(compatible: Sequence[str]) -> Optional[str]:
    return next((word.split(",")[1] for word in compatible if re.fullmatch(r"nvidia,tegra\d+", word)), None)


def _claims(model: str, compatible: Sequence[str]) -> Tuple[List[Module], List[str], List[str]]:
    """The modules that the strings claim, which string says so, and where the two contradict each other."""
    family = next((family for words, family in WORDS if re.search(words, model, re.IGNORECASE)), None)
    by_model = [module for module in MODULES if family in (module.family, module.name)]
    part = next((part for part in PARTS if any(part in word for word in compatible)), None)
    by_part = [module for module in MODULES if part and module.name in PARTS[part]]
    evidence = ["model '{}'".format(model)] if by_model else []
    evidence += ["part {}".format(part)] if part else []
    if not by_model or not by_part or {one.family for one in by_model} & {one.family for one in by_part}:
        return by_part or by_model, evidence, []
    text = "the device tree's model says {}, its part number {} says {}"
    return by_part, evidence, [text.format(family, part, _names(by_part, _NOTHING))]


def _names(modules: Sequence[Module], seen: Hardware) -> str:
    """A name for one of these; those of one family have the family's, and the memory where it is known."""
    if len(modules) == 1 and len(modules[0].gb) == 1:
        return modules[0].name
    names = []
    for family in dict.fromkeys(module.family for module in modules):
        members = [module for module in modules if module.family == family]
        name = family if len(members) > 1 else members[0].name
        capacity = seen.capacity_gb
        fixed = len(members) == 1 and len(members[0].gb) == 1
        names.append(name if capacity is None or fixed else "{} {}GB".format(name, capacity))
    return " or ".join(names)


# Hardware against a claim ------------------------------------------------------------------------------------------


def _told(seen: Hardware) -> List[str]:
    kinds = (
        ("chip {}", seen.soc),
        ("{:.1f} GiB of memory", None if seen.memory_bytes is None else seen.memory_bytes / _GIB),
        ("{} processors", seen.cpus),
        ("{} SM", seen.sms),
        ("GPU up to {:g} MHz", seen.gpu_highest_mhz),
        ("GPU set to at most {:g} MHz", seen.gpu_limit_mhz),
        ("processors up to {:g} MHz", seen.cpu_highest_mhz),
    )
    return [text.format(value) for text, value in kinds if value is not None]


def _misfits(module: Module, seen: Hardware) -> List[str]:
    """What was seen that this module cannot have."""
    checks = (
        (seen.soc not in (None, module.soc), "the chip is a {}".format(seen.soc)),
        (
            seen.capacity_gb is not None and seen.capacity_gb not in module.gb,
            "its memory is that of a module with {} GB".format(seen.capacity_gb),
        ),
        (seen.cpus is not None and seen.cpus not in module.cpus, "it has {} processors".format(seen.cpus)),
        # A power mode may have switched some off, so fewer say nothing.
        (seen.sms is not None and seen.sms > max(module.sms), "its GPU has {} SM".format(seen.sms)),
    )
    return [text for wrong, text in checks if wrong] + _wrong_clocks(module, seen)


def _wrong_clocks(module: Module, seen: Hardware) -> List[str]:
    """Highest clocks that another module of the same chip has, and this one has not.

    A value that no module is known to have says nothing. Nor does a limit that a power mode has set, unless it lies
    above all that the module can do, or is known to be another's.
    """
    kin = [other for other in MODULES if other.soc == module.soc]
    found = []
    gpu, limit, cpu = seen.gpu_highest_mhz, seen.gpu_limit_mhz, seen.cpu_highest_mhz
    if gpu is not None and _anothers(gpu, module.gpu_mhz, [other.gpu_mhz for other in kin]):
        found.append("its GPU's highest clock is {:g} MHz".format(gpu))
    elif limit is not None and module.gpu_mhz:
        foreign = FOREIGN_LIMITS_MHZ.get(module.family)
        if limit > max(module.gpu_mhz) + _NEAR_MHZ or (foreign is not None and _near(limit, frozenset([foreign]))):
            found.append("its GPU is set to at most {:g} MHz, which it never is on one".format(limit))
    if cpu is not None and _anothers(cpu, module.cpu_mhz, [other.cpu_mhz for other in kin]):
        found.append("its processors' highest clock is {:g} MHz".format(cpu))
    return found


def _anothers(mhz: float, own: FrozenSet[float], all_sets: Sequence[FrozenSet[float]]) -> bool:
    return bool(own) and not _near(mhz, own) and any(_near(mhz, values) for values in all_sets)


def _near(mhz: float, values: FrozenSet[float]) -> bool:
    return any(abs(mhz - value) <= _NEAR_MHZ for value in values)


def _why(claimed: Sequence[Module], seen: Hardware) -> List[str]:
    """Why none of the claimed modules fits: what is wrong with the one that comes closest."""
    return min((_misfits(module, seen) for module in claimed), key=len, default=[])


# Reading -----------------------------------------------------------------------------------------------------------


def hardware(memory_bytes: Optional[int], sms: Optional[int] = None, root: Path = ROOT) -> Hardware:
    """What this board's /sys shows; memory and SM come from whoever knows them."""
    limit = gpu_clock(root).value
    khz = read("sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", parse_number, root).value
    return Hardware(
        memory_bytes=memory_bytes,
        cpus=read("sys/devices/system/cpu/present", parse_cpu_count, root).value,
        sms=sms,
        gpu_highest_mhz=gpu_highest_mhz(root),
        gpu_limit_mhz=limit.max if limit is not None else None,
        cpu_highest_mhz=None if khz is None else khz / 1000,
        soc=read(_COMPATIBLE, lambda text: _tegra(text.split()), root).value,
    )


def identity(seen: Hardware, root: Path = ROOT) -> Identity:
    """`identify` with this board's device tree; without one nothing is known."""
    model = read("proc/device-tree/model", root=root).value
    compatible = read(_COMPATIBLE, root=root).value or ""
    return identify(model, compatible.split(), seen) if model else Identity(None, [], [])
