"""Whole boards that do not exist: a file tree and a folder of executables, made from the prints in `captured/boards`.

The tree is found through EDGEPRUNE_ROOT, the executables through PATH. What the prints do not tell is made up here and
stands in `BOARDS` beside them: compatible strings, the clocks of the power modes, package versions, and the tegrastats
line of the Xavier NX, of which there is no print. No number that such a board gives is a result.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fake_programs import Board, set_mode

CAPTURED = Path(__file__).resolve().parent / "captured" / "boards"
PROGRAMS = ("tegrastats", "nvpmodel", "jetson_clocks", "trtexec", "sudo", "tee", "dpkg-query")
REAL = ("self", "stat", "loadavg", "uptime", "vmstat", "mounts")  # in /proc: of the machine that plays the board
_MILLIVOLTS = 5000


@dataclass(frozen=True)
class Kind:
    """What a board is made of."""

    model: str
    compatible: tuple[str, ...]
    soc: str
    release: str  # file in `captured/boards`
    system: str
    tegrastats: tuple[str, ...]
    cpus: int
    gpu: str  # name in /sys/class/devfreq
    gpu_min_hz: int
    cpu_min_khz: int
    modes: dict[int, tuple[str, int, int]]  # id -> name, GPU's highest clock in Hz, processors' in kHz
    mode: int
    packages: dict[str, str]
    banner: str
    chips: tuple[tuple[str, ...], ...]  # the rails of each INA3221
    before_query: str = ""
    ina238: str | None = None


def _lines(name: str) -> tuple[str, ...]:
    return tuple((CAPTURED / name).read_text().splitlines())


def _packages(l4t: str, jetpack: str, tensorrt: str) -> dict[str, str]:
    same = dict.fromkeys(("libnvinfer-bin", "tensorrt"), tensorrt)
    return {"nvidia-l4t-core": l4t, "nvidia-jetpack": jetpack, **same}


def _captured_packages(name: str) -> dict[str, str]:
    pairs = [line.split(maxsplit=1) for line in _lines(name)]
    return {pair[0]: (pair[1:] or [""])[0].strip() for pair in pairs}


_XAVIER_NX = (  # in the form of the captured AGX Xavier of JetPack 5, with the rails of the NX
    "06-12-2024 10:20:30 RAM 2005/6849MB (lfb 12x4MB) SWAP 0/3425MB (cached 0MB) "
    "CPU [2%@1190,0%@1190,1%@1190,0%@1190,0%@1190,0%@1190] EMC_FREQ 0%@1331 GR3D_FREQ 0%@114 VIC_FREQ 115 APE 150 "
    "AUX@36C CPU@36.5C thermal@35.7C AO@35C GPU@35C PMIC@50C "
    "VDD_IN 3240mW/3240mW VDD_CPU_GPU_CV 467mW/467mW VDD_SOC 1245mW/1245mW",
)
_NANO_RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
_BANNER = "&&&& RUNNING TensorRT.trtexec [TensorRT {}] # trtexec {{}}"

BOARDS = {
    "orin-nano-super": Kind(
        model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        compatible=("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
        soc="tegra234",
        release="nv_tegra_release-r39.2.1.txt",
        system="Ubuntu 24.04.4 LTS",
        tegrastats=_lines("tegrastats-orin-nano-super-jp7.2.1.txt"),
        cpus=6,
        gpu="17000000.gpu",
        gpu_min_hz=306000000,
        cpu_min_khz=729600,
        modes={0: ("15W", 612000000, 1497600), 1: ("25W", 918000000, 1344000), 2: ("MAXN_SUPER", 1020000000, 1728000)},
        mode=1,
        packages=_captured_packages("dpkg-tensorrt-jp7.2.1.txt"),
        banner=_BANNER.format("v101602"),
        chips=(_NANO_RAILS,),
    ),
    "agx-orin-64": Kind(
        model="NVIDIA Jetson AGX Orin Developer Kit",
        compatible=("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        soc="tegra234",
        release="nv_tegra_release-r36.4.4.txt",
        system="Ubuntu 22.04.5 LTS",
        tegrastats=_lines("tegrastats-agx-orin-64-jp6.txt"),
        cpus=12,
        gpu="17000000.gpu",
        gpu_min_hz=306000000,
        cpu_min_khz=115200,
        modes={
            0: ("MAXN", 1300500000, 2201600),
            1: ("MODE_15W", 420750000, 1113600),
            2: ("MODE_30W", 624750000, 1728000),
            3: ("MODE_50W", 828750000, 1497600),
        },
        mode=2,
        packages=_packages("36.4.4-20250616085344", "6.2.1+b38", "10.3.0.30-1+cuda12.5"),
        banner=_BANNER.format("v100300"),
        chips=(("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"), ("NC", "VDDQ_VDD2_1V8AO", "NC")),
    ),
    "xavier-nx": Kind(
        model="NVIDIA Jetson Xavier NX Developer Kit",
        compatible=("nvidia,p3509-0000+p3668-0000", "nvidia,tegra194"),
        soc="tegra194",
        release="nv_tegra_release-r35.4.1.txt",
        system="Ubuntu 20.04.6 LTS",
        tegrastats=_XAVIER_NX,
        cpus=6,
        gpu="17000000.gv11b",
        gpu_min_hz=114750000,
        cpu_min_khz=1190400,
        modes={0: ("MODE_15W_2CORE", 1109250000, 1907200), 8: ("MODE_20W_6CORE", 1109250000, 1420800)},
        mode=8,
        packages=_packages("35.4.1-20230801124926", "5.1.2-b104", "8.5.2.2-1+cuda11.4"),
        banner=_BANNER.format("v8502"),
        chips=(_NANO_RAILS,),
        before_query="NV Fan Mode:quiet\n",
    ),
    "agx-thor": Kind(
        model="NVIDIA Jetson AGX Thor Developer Kit",
        compatible=("nvidia,p4071-0000+p3834-0008", "nvidia,p3834-0008", "nvidia,tegra264"),
        soc="tegra264",
        release="nv_tegra_release-r38.4.0.txt",
        system="Ubuntu 24.04.3 LTS",
        tegrastats=_lines("tegrastats-agx-thor-r38.4.txt"),
        cpus=14,
        gpu="gpu-gpc-0",
        gpu_min_hz=315000000,
        cpu_min_khz=972000,
        modes={0: ("MAXN", 1575000000, 2601000), 1: ("120W", 1386000000, 2601000)},
        mode=1,
        packages=_packages("38.4.0-20251230160601", "7.1-b85", "10.13.3.9-1+cuda13.0"),
        banner=_BANNER.format("v101303"),
        chips=(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0"),),
        ina238="VIN",
    ),
}


@dataclass
class FakeBoard:
    """A board in `folder`: its `root` and its `bin`."""

    kind: Kind
    folder: Path
    behaviour: dict[str, Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Where its file system starts."""
        return self.folder / "root"

    @property
    def bin(self) -> Path:
        """Its executables."""
        return self.folder / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """What a process has to find in its environment to be on this board."""
        return {"EDGEPRUNE_ROOT": str(self.root), "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def behave(self, **how: Any) -> None:
        """From now on: `reboot`, `silent` (lists of power modes that need a reboot, or are not taken without a word),
        `clocks_stay` (jetson_clocks does nothing), `sudo="password"`."""
        self.behaviour.update(how)
        (self.folder / "behaviour.json").write_text(json.dumps(self.behaviour))

    @contextmanager
    def held(self, what: str | int) -> Iterator[None]:
        """Calls of the program of that name, or the call of that number, wait until the block ends."""
        (self.folder / f"hold-{what}").touch()
        try:
            yield
        finally:
            (self.folder / f"hold-{what}").unlink()

    def as_ordinary_user(self) -> None:
        """The made-up /proc says that whoever asks is not root."""
        (self.root / "proc/self").unlink()
        play_user(self.root, 1000)

    def without(self, *programs: str) -> None:
        """Remove executables."""
        for name in programs:
            (self.bin / name).unlink()

    def text(self, place: str) -> str:
        """A file of the tree."""
        return (self.root / place).read_text().strip()

    def mode(self) -> str:
        """The name of the power mode that it is in."""
        return self.kind.modes[int(Board(str(self.folder)).mode())][0]

    def gpu_range(self) -> tuple[int, int]:
        """The GPU's lowest and highest clock in Hz."""
        place = f"sys/class/devfreq/{self.kind.gpu}"
        return int(self.text(f"{place}/min_freq")), int(self.text(f"{place}/max_freq"))

    def calls(self, program: str) -> list[tuple[list[str], bool]]:
        """Arguments of each call of an executable, and whether it was root's."""
        return [(words, is_root) for name, words, is_root in self.all_calls() if name == program]

    def all_calls(self) -> list[tuple[str, list[str], bool]]:
        """Every call of every executable so far."""
        path = self.folder / "calls.jsonl"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def play_user(root: Path, number: int) -> None:
    """The made-up /proc says that whoever asks is the user of that number; 0 is root."""
    place = root / "proc/self"
    place.mkdir(parents=True)
    (place / "status").write_text(f"Name:\tpython3\nUid:\t{number}\t{number}\t{number}\t{number}\n")


def make_board(folder: Path, name: str) -> FakeBoard:
    """A board of that kind in the empty or missing `folder`."""
    board = FakeBoard(BOARDS[name], folder)
    folder.mkdir(parents=True, exist_ok=True)
    board.behave()
    (folder / "board.json").write_text(json.dumps(_facts(board.kind)))
    _write_tree(board)
    set_mode(Board(str(folder)), str(board.kind.mode))
    _write_programs(board)
    return board


def _facts(kind: Kind) -> dict[str, Any]:
    """What the executables have to know."""
    modes = {
        str(number): {"name": name, "gpu_max_hz": gpu, "cpu_max_khz": cpu}
        for number, (name, gpu, cpu) in kind.modes.items()
    }
    names = ("model", "soc", "tegrastats", "cpus", "gpu_min_hz", "cpu_min_khz", "packages", "banner", "before_query")
    return {**{name: getattr(kind, name) for name in names}, "modes": modes, "gpu": f"sys/class/devfreq/{kind.gpu}"}


def _write_programs(board: FakeBoard) -> None:
    board.bin.mkdir()
    here = Path(__file__).resolve().parent
    for name in PROGRAMS:
        path = board.bin / name
        path.write_text(
            f"#!{sys.executable} -S\nimport sys\nsys.path.insert(0, {str(here)!r})\nimport fake_programs\n"
            f"sys.exit(fake_programs.main({name!r}, {str(board.folder)!r}, sys.argv[1:]))\n"
        )
        path.chmod(0o755)


def _write_tree(board: FakeBoard) -> None:
    for place, content in _files(board.kind).items():
        path = board.root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for name in REAL:
        (board.root / "proc" / name).symlink_to(Path("/proc") / name)
    for number in range(board.kind.cpus):
        place = board.root / f"sys/devices/system/cpu/cpu{number}"
        place.mkdir()
        (place / "cpufreq").symlink_to(f"../cpufreq/policy{number}")
    links = board.root / "sys/class/hwmon"
    links.mkdir(parents=True)
    for place in sorted(board.root.glob("sys/bus/i2c/drivers/*/*/hwmon/hwmon*")):
        (links / place.name).symlink_to(os.path.relpath(place, links))


def _files(kind: Kind) -> dict[str, str]:
    line = kind.tegrastats[0]
    files = {
        "proc/device-tree/model": kind.model + "\0",
        "proc/device-tree/compatible": "".join(name + "\0" for name in kind.compatible),
        "proc/meminfo": _meminfo(line),
        "proc/cpuinfo": "".join(f"processor\t: {number}\nBogoMIPS\t: 62.50\n\n" for number in range(kind.cpus)),
        "etc/nv_tegra_release": (CAPTURED / kind.release).read_text(),
        "etc/nvpmodel.conf": "".join(
            f"< POWER_MODEL ID={number} NAME={name} >\nGPU MIN_FREQ 0\nGPU MAX_FREQ {gpu_hz}\n"
            for number, (name, gpu_hz, _) in kind.modes.items()
        ),
        "etc/os-release": f'NAME="Ubuntu"\nPRETTY_NAME="{kind.system}"\n',
        "var/lib/nvpmodel/status": "",
        "sys/devices/system/cpu/online": f"0-{kind.cpus - 1}\n",
        "sys/devices/system/cpu/present": f"0-{kind.cpus - 1}\n",
        "sys/devices/system/cpu/possible": f"0-{kind.cpus - 1}\n",
        f"sys/class/devfreq/{kind.gpu}/available_frequencies": _frequencies(kind),
    }
    if kind.soc != "tegra264":  # nobody has seen it on Thor
        files["sys/devices/platform/gpu.0/load"] = "0\n"
    for number in range(kind.cpus):
        place = f"sys/devices/system/cpu/cpufreq/policy{number}"
        files[f"{place}/scaling_governor"] = "schedutil\n"
        files[f"{place}/cpuinfo_max_freq"] = f"{max(cpu for _, _, cpu in kind.modes.values())}\n"
        files[f"{place}/scaling_available_governors"] = "ondemand userspace performance schedutil\n"
    return {**files, **_zones(line), **_rails(kind, line)}


def _frequencies(kind: Kind) -> str:
    """Those that the power modes need; real boards have more."""
    return " ".join(map(str, sorted({kind.gpu_min_hz, *(gpu for _, gpu, _ in kind.modes.values())}))) + "\n"


def _meminfo(line: str) -> str:
    """MemTotal as tegrastats has it, and half of the rest of it available."""
    used, total = (int(number) * 1024 for number in re.findall(r"RAM (\d+)/(\d+)MB", line)[0])
    swap = [int(number) * 1024 for found in re.findall(r"SWAP (\d+)/(\d+)MB", line) for number in found] or [0, 0]
    sizes = {"MemTotal": total, "MemFree": (total - used) // 2, "MemAvailable": total - used}
    sizes |= {"SwapTotal": swap[1], "SwapFree": swap[1] - swap[0]}
    return "".join(f"{name + ':':16}{size:8} kB\n" for name, size in sizes.items())


def _zones(line: str) -> dict[str, str]:
    """The thermal zones that tegrastats prints."""
    files = {}
    for number, (name, degrees) in enumerate(re.findall(r" (\w+)@(-?[\d.]+)C", line)):
        place = f"sys/class/thermal/thermal_zone{number}"
        files[f"{place}/type"] = f"{name.lower()}-thermal\n"
        files[f"{place}/temp"] = f"{float(degrees) * 1000:.0f}\n"
    return files


def _rails(kind: Kind, line: str) -> dict[str, str]:
    """The chips that tegrastats reads, at five volts; an unconnected channel is called NC."""
    milliwatts = {name: int(power) for name, power in re.findall(r" ([A-Z]\w+) (\d+)mW", line)}
    files = {}
    for chip, rails in enumerate(kind.chips):
        place = f"sys/bus/i2c/drivers/ina3221/1-004{chip}/hwmon/hwmon{chip + 1}"
        files[f"{place}/name"] = "ina3221\n"
        for channel, rail in enumerate(rails, start=1):
            files[f"{place}/in{channel}_label"] = f"{rail}\n"
            files[f"{place}/in{channel}_input"] = f"{_MILLIVOLTS}\n"
            files[f"{place}/curr{channel}_input"] = f"{milliwatts.get(rail, 0) * 1000 // _MILLIVOLTS}\n"
    if kind.ina238:
        place = f"sys/bus/i2c/drivers/ina238/1-0044/hwmon/hwmon{len(kind.chips) + 1}"
        files[f"{place}/name"] = "ina238\n"
        files[f"{place}/power1_input"] = f"{milliwatts[kind.ina238] * 1000}\n"
    return files
