"""What is known of each Jetson module: nominal numbers of NVIDIA's data sheets, and the strings that name it."""

import re
from typing import Dict, FrozenSet, Iterable, Mapping, NamedTuple, Tuple


class Module(NamedTuple):
    """One product, by what its hardware shows. An empty set: not known."""

    name: str
    soc: str
    gb: FrozenSet[int]  # of memory
    cpus: FrozenSet[int]
    sms: FrozenSet[int]  # multiprocessors of the GPU
    gpu_mhz: FrozenSet[float]  # the highest clock, for each way to flash it
    cpu_mhz: FrozenSet[float]

    @property
    def family(self) -> str:
        """The name without what tells its members apart."""
        return re.sub(r" (?:\d+GB|Industrial|T\d000|developer kit)$", "", self.name)


_Numbers = Iterable[float]


def _module(
    name: str, soc: str, gb: Iterable[int], cpus: int, sms: int, gpu_mhz: _Numbers = (), cpu_mhz: _Numbers = ()
) -> Module:
    return Module(name, soc, frozenset(gb), frozenset([cpus]), frozenset([sms]), frozenset(gpu_mhz), frozenset(cpu_mhz))


_NANO_MHZ, _NANO_CPU_MHZ = (624.75, 1020.0), (1510.4, 1728.0)

MODULES: Tuple[Module, ...] = (
    _module("Jetson Nano", "tegra210", [2, 4], 4, 1),
    _module("Jetson TX2", "tegra186", [4, 8], 6, 2),
    _module("Jetson TX2 NX", "tegra186", [4], 6, 2),
    _module("Jetson Xavier NX", "tegra194", [8, 16], 6, 6),
    _module("Jetson AGX Xavier", "tegra194", [8, 16, 32, 64], 8, 8),
    _module("Jetson Orin Nano 4GB", "tegra234", [4], 6, 4, _NANO_MHZ, _NANO_CPU_MHZ),
    _module("Jetson Orin Nano 8GB", "tegra234", [8], 6, 8, _NANO_MHZ, _NANO_CPU_MHZ),
    _module("Jetson Orin NX 8GB", "tegra234", [8], 6, 8, [765, 1173], [1984]),
    _module("Jetson Orin NX 16GB", "tegra234", [16], 8, 8, [918, 1173], [1984]),
    _module("Jetson AGX Orin 32GB", "tegra234", [32], 8, 14, [930.75], [2201.6]),
    _module("Jetson AGX Orin 64GB", "tegra234", [64], 12, 16, [1300.5], [2201.6]),
    _module("Jetson AGX Orin Industrial", "tegra234", [64], 12, 16),
    # The first developer kit: the larger module, at first with half its memory.
    _module("Jetson AGX Orin developer kit", "tegra234", [32, 64], 12, 16, [1300.5], [2201.6]),
    _module("Jetson AGX Thor T4000", "tegra264", [64], 12, 12),
    _module("Jetson AGX Thor T5000", "tegra264", [128], 14, 20),
)

# Part numbers, as they stand in the device tree's `compatible`.
PARTS: Mapping[str, Tuple[str, ...]] = {
    "p3767-0000": ("Jetson Orin NX 16GB",),
    "p3767-0001": ("Jetson Orin NX 8GB",),
    "p3767-0003": ("Jetson Orin Nano 8GB",),
    "p3767-0004": ("Jetson Orin Nano 4GB",),
    "p3767-0005": ("Jetson Orin Nano 8GB",),
    "p3701-0000": ("Jetson AGX Orin developer kit",),
    "p3701-0004": ("Jetson AGX Orin 32GB",),
    "p3701-0005": ("Jetson AGX Orin 64GB",),
    "p3701-0008": ("Jetson AGX Orin Industrial",),
    "p3834-0008": ("Jetson AGX Thor T5000", "Jetson AGX Thor T4000"),
    **{"p3668-000{}".format(number): ("Jetson Xavier NX",) for number in (0, 1, 3)},
    **{"p2888-000{}".format(number): ("Jetson AGX Xavier",) for number in (1, 3, 4, 5, 6, 8)},
    "p3310-1000": ("Jetson TX2",),
    "p3636-0001": ("Jetson TX2 NX",),
    **{"p3448-000{}".format(number): ("Jetson Nano",) for number in (0, 2, 3)},
}

# Words of the device tree's `model`, the more particular first, and the family or module that they name.
WORDS: Tuple[Tuple[str, str], ...] = (
    (r"AGX Orin Industrial", "Jetson AGX Orin Industrial"),
    (r"AGX Thor", "Jetson AGX Thor"),
    (r"AGX Orin|Orin Jetson-Small", "Jetson AGX Orin"),
    (r"Orin NX", "Jetson Orin NX"),
    (r"Orin Nano", "Jetson Orin Nano"),
    (r"Xavier NX", "Jetson Xavier NX"),
    (r"AGX Xavier|Jetson-AGX", "Jetson AGX Xavier"),
    (r"TX2 NX", "Jetson TX2 NX"),
    (r"\bTX2\b", "Jetson TX2"),
    (r"Jetson[ -]Nano", "Jetson Nano"),
)

# From how many GiB on, as the kernel counts what firmware and GPU have left it, a module has which GB printed on it.
CAPACITIES: Tuple[Tuple[float, int], ...] = ((96, 128), (48, 64), (24, 32), (12, 16), (5.5, 8), (2.5, 4), (1.2, 2))

# Limits that no power mode of a family sets: where one is found, the GPU is another module's.
FOREIGN_LIMITS_MHZ: Dict[str, float] = {"Jetson Orin NX": 624.75}
