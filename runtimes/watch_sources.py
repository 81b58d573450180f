"""Where the watch gets its samples: NVIDIA's tegrastats as a child process, or the files of /proc and /sys."""

import os
import resource
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Tuple

from runtimes import sampler
from runtimes.board.clocks import emc_mhz, gpu_folder
from runtimes.board.rails import power_source, total
from runtimes.board.tegrastats import Tegrastats, parse_tegrastats
from runtimes.lifetime import end_with_parent
from runtimes.readings import ROOT, Reading, parse_number, read

_CPUFREQ = "sys/devices/system/cpu/cpufreq"
_MOST_FILES = 8  # of one kind: reading one can take milliseconds on a board
_FIRST_LINE_S = 3.0
_GPU_LOADS = tuple(  # where devfreq does not lead to it
    "sys/devices/{}/load".format(place)
    for place in (
        "gpu.0",
        "platform/gpu.0",
        "platform/*.gpu",
        "platform/*.ga10b",
        "platform/*.gv11b",
        "platform/*/*.gpu",
    )
)
_MIB = 1 << 20


class Sample(NamedTuple):
    """The machine at one moment; what was not read is None."""

    at_s: float  # time.monotonic, when it was read or arrived
    seconds: float  # that it stands for: those since the sample before
    rails_mw: Mapping[str, float]
    gpu_percent: Optional[float] = None
    gpu_mhz: Optional[float] = None
    emc_mhz: Optional[float] = None
    cpu_mhz: Optional[float] = None  # of the fastest core
    temperature_c: Optional[float] = None  # of the hottest sensor
    ram_used_mb: Optional[float] = None  # MiB


class Source(Protocol):
    """One way of looking at the machine."""

    name: str
    power: Reading  # the name of what the rails are read from, or None and why there is none

    def follow(self, interval_s: float, stop: threading.Event) -> int:
        """Take a sample each `interval_s` seconds until `stop` is set; how many there were. Run in a thread."""

    def mark(self) -> float:
        """The time, `time.monotonic`, as a border between two samples: none spans it where that can be helped."""

    def samples(self) -> List[Sample]:
        """All samples until now, by time."""

    def cpu_s(self) -> float:
        """Processor time that was used by other processes of this source."""

    def close(self) -> None:
        """End what was started."""


def open_source(interval_s: float, root: Path = ROOT) -> Source:
    """tegrastats where it is on PATH and speaks of power, or where nothing else does; else the files of /sys."""
    files = Files(root)
    program = shutil.which("tegrastats")
    if program is None:
        return files
    child = Child(program, interval_s)
    if child.samples() and (child.power.value or not files.power.value):
        return child
    child.close()
    return files


# Files ---------------------------------------------------------------------------------------------------------------


class Files:
    """/proc and /sys under `root`; what is there is looked for once."""

    name = "sysfs"

    def __init__(self, root: Path = ROOT) -> None:
        found = power_source(root)
        self._power = found.value
        self.power = Reading(self._power.name) if self._power else found
        self._root, self._lock = root, threading.Lock()
        self._samples: List[Sample] = []
        self._programs_s = 0.0  # processor time of programs that the reading of power starts
        if self._power:
            self._power.read()  # a counter of energy counts from here on
        self._last_s = time.monotonic()
        self._policies = self._paths([_CPUFREQ + "/policy*/scaling_cur_freq"])
        self._zones = self._paths(["sys/class/thermal/thermal_zone*/temp"])
        gpu = gpu_folder(root)
        self._gpu_clock = ["{}/cur_freq".format(gpu)] if gpu else []
        self._gpu_load = self._paths(["{}/device/load".format(gpu), *_GPU_LOADS] if gpu else _GPU_LOADS)[:1]

    def follow(self, interval_s: float, stop: threading.Event) -> int:
        """Read the files each `interval_s` seconds; one that comes too late leaves out its turn."""
        count, begin = 0, time.monotonic()
        while not stop.wait(interval_s - (time.monotonic() - begin) % interval_s):
            before_s, before = time.monotonic(), _of_children_s()
            at_s = self.mark()
            self._programs_s += min(_of_children_s() - before, at_s - before_s)  # not an engine that ended meanwhile
            count += 1
        return count

    def mark(self) -> float:
        """Read now: what a counter of energy gives is the mean since its last reading, and ends here."""
        with self._lock:
            rails = self._power.read() if self._power else {}
            at_s = time.monotonic()
            self._samples.append(self._sample(at_s, at_s - self._last_s, rails))
            self._last_s = at_s
        return at_s

    def samples(self) -> List[Sample]:
        """All until now."""
        return list(self._samples)

    def cpu_s(self) -> float:
        """Of the programs that reading power starts, as on a Raspberry Pi 5."""
        return self._programs_s

    def close(self) -> None:
        """Nothing is held."""

    def _sample(self, at_s: float, seconds: float, rails: Mapping[str, float]) -> Sample:
        memory = sampler.memory(self._root)
        used = memory["MemTotal"] - memory["MemAvailable"] if "MemAvailable" in memory else None
        return Sample(
            at_s,
            seconds,
            dict(rails),
            gpu_percent=self._largest(self._gpu_load, 10),  # thousandths
            gpu_mhz=self._largest(self._gpu_clock, 1e6),
            emc_mhz=emc_mhz(self._root).value,
            cpu_mhz=self._largest(self._policies, 1e3),
            temperature_c=self._largest(self._zones, 1e3),
            ram_used_mb=None if used is None else used / _MIB,
        )

    def _paths(self, patterns: Sequence[str]) -> List[str]:
        found = [path for pattern in patterns for path in sorted(self._root.glob(pattern))]
        return [str(path.relative_to(self._root)) for path in found[:_MOST_FILES]]

    def _largest(self, names: List[str], unit: float) -> Optional[float]:
        """Of the files that can be read; a sensor whose block is switched off answers with an error or far below 0."""
        values = [read(name, parse_number, self._root).value for name in names]
        known = [value / unit for value in values if value is not None and value / unit > -200]
        return max(known) if known else None


def _of_children_s() -> float:
    """Processor time of the children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# tegrastats ----------------------------------------------------------------------------------------------------------


class Child:
    """tegrastats in a process of its own. Its lines are kept as they are and parsed afterwards."""

    name = "tegrastats"

    def __init__(self, program: str, interval_s: float) -> None:
        self._interval_s = interval_s
        self._unread = b""
        self._lines: List[Tuple[float, bytes]] = []  # time.monotonic of the arrival, and the line
        self._cpu_s = 0.0
        self._process = subprocess.Popen(
            [program, "--interval", str(max(1, round(interval_s * 1000)))],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            preexec_fn=end_with_parent,  # the thread that starts it is the main one, which outlives it
            bufsize=0,
        )
        try:
            self.power = self._first_words(time.monotonic() + _FIRST_LINE_S + 2 * interval_s)
        except BaseException:
            self.close()
            raise

    def follow(self, interval_s: float, stop: threading.Event) -> int:
        """Read its lines as they come."""
        before = len(self._lines)
        while not stop.is_set() and self._wait(0.2):
            pass
        return len(self._lines) - before

    def mark(self) -> float:
        """It cannot be asked: a sample belongs to the moment in which it arrives."""
        return time.monotonic()

    def samples(self) -> List[Sample]:
        """Those of the lines that are known as tegrastats'."""
        parsed = [(at_s, parse_tegrastats(line.decode("utf-8", "replace"))) for at_s, line in list(self._lines)]
        return [_of_line(at_s, self._interval_s, line) for at_s, line in parsed if line is not None]

    def cpu_s(self) -> float:
        """Of the child and of what it waited for, in steps of a clock tick (10 ms)."""
        stat = read("proc/{}/stat".format(self._process.pid), root=Path("/")).value
        if stat is not None:
            ticks = stat.rpartition(")")[2].split()[11:15]  # utime, stime, cutime, cstime
            self._cpu_s = sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")
        return self._cpu_s

    def close(self) -> None:
        """End this process; `tegrastats --stop` would end everybody's."""
        self.cpu_s()
        self._process.terminate()
        try:
            self._process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _first_words(self, deadline_s: float) -> Reading:
        """Whether it speaks of power."""
        while not self.samples() and time.monotonic() < deadline_s and self._wait(0.1):
            pass
        samples = self.samples()
        if not samples:
            return Reading(None, "tegrastats printed nothing that is known")
        if total(samples[0].rails_mw) is None:
            return Reading(None, "tegrastats prints no power rail that is known")
        return Reading(self.name)

    def _wait(self, seconds: float) -> bool:
        """Take what it prints within `seconds`; False where it has ended."""
        stdout = self._process.stdout
        if stdout is None or not select.select([stdout], [], [], seconds)[0]:
            return stdout is not None
        received = os.read(stdout.fileno(), 1 << 16)
        at_s = time.monotonic()
        *lines, self._unread = (self._unread + received).split(b"\n")
        self._lines.extend((at_s, line) for line in lines)
        return bool(received)


def _of_line(at_s: float, interval_s: float, line: Tegrastats) -> Sample:
    clocks = [core.mhz for core in line.cpu if core is not None and core.mhz is not None]
    temperatures: Dict[str, float] = line.temperatures_c
    return Sample(
        at_s,
        interval_s,
        {rail: float(power) for rail, power in line.rails_mw.items()},
        gpu_percent=line.gpu_percent,
        gpu_mhz=line.gpu_mhz,
        emc_mhz=line.emc_mhz,
        cpu_mhz=max(clocks) if clocks else None,
        temperature_c=max(temperatures.values()) if temperatures else None,
        ram_used_mb=line.ram_used_mb,
    )
