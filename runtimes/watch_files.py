"""Samples for the watch from the files of /proc and /sys."""

import resource
import threading
import time
from pathlib import Path
from typing import Iterator, List, Mapping, Optional, Sequence, Tuple

from runtimes import sampler
from runtimes.board.clocks import clock_files, emc_mhz, gpu_folder, gpu_load_file
from runtimes.board.rails import PowerSource, power_source
from runtimes.board.thermal import hottest, zone_files
from runtimes.readings import ROOT, Reading, parse_number, read
from runtimes.watch_sources import Sample

_MOST_FILES = 8  # of one kind: reading one can take milliseconds on a board
_MIB = 1 << 20


class Files:
    """/proc and /sys under `root`; what is there is looked for once."""

    name = "sysfs"
    note: Optional[str] = None

    def __init__(self, interval_s: float, root: Path = ROOT, cpus: Sequence[int] = ()) -> None:
        found = power_source(root)
        self._power: Optional[PowerSource] = found.value
        self.power = Reading(self._power.name) if self._power else found
        self.interval_s = max(interval_s, self._power.least_interval_s) if self._power else interval_s
        self._root, self._lock = root, threading.Lock()
        self._samples: List[Sample] = []
        self._followed = 0
        self._programs_s = 0.0  # processor time of programs that the reading of power starts
        if self._power:
            self._power.read()  # a counter of energy counts from here on
        self._last_s = time.monotonic()
        self._clocks = clock_files(cpus, root)[:_MOST_FILES]
        self._zones = zone_files(root)[:_MOST_FILES]
        gpu, load = gpu_folder(root), gpu_load_file(root)
        self._gpu_clock = ["{}/cur_freq".format(gpu)] if gpu else []
        self._gpu_load = [load] if load else []

    def pass_over(self, why: str) -> None:
        """Keep why tegrastats was not taken; it stands beside the reason where there is no power."""
        self.note = why
        if self.power.value is None:
            self.power = Reading(None, "{}; {}".format(why, self.power.reason))

    def follow(self, stop: threading.Event) -> None:
        """Read the files each `interval_s` seconds; one that comes too late leaves out its turn."""
        begin = time.monotonic()
        while not stop.wait(self.interval_s - (time.monotonic() - begin) % self.interval_s):
            before_s, before = time.monotonic(), _of_children_s()
            at_s = self.look()
            self._programs_s += min(_of_children_s() - before, at_s - before_s)  # not an engine that ended meanwhile
            self._followed += 1

    def mark(self) -> float:
        """A counter of energy is read now, because what it gives is the mean since its last reading.

        Any other meter is not: it would show what the machine takes beside the engine, not what the engine took.
        """
        return self.look() if self._power and self._power.counts_energy else time.monotonic()

    def look(self) -> float:
        """Take a sample; when it was, `time.monotonic`."""
        with self._lock:
            rails = self._power.read() if self._power else {}
            at_s = time.monotonic()
            self._samples.append(self._sample(at_s, at_s - self._last_s, rails))
            self._last_s = at_s
        return at_s

    def samples(self) -> List[Sample]:
        """All until now."""
        return list(self._samples)

    def followed(self) -> int:
        """Those that are no borders."""
        return self._followed

    def cpu_s(self) -> float:
        """Of the programs that reading power starts, as on a Raspberry Pi 5."""
        return self._programs_s

    def close(self) -> None:
        """Nothing is held."""

    def _sample(self, at_s: float, seconds: float, rails: Mapping[str, float]) -> Sample:
        memory = sampler.memory(self._root)
        known = {"MemTotal", "MemAvailable"} <= set(memory)
        return Sample(
            at_s,
            seconds,
            dict(rails),
            gpu_percent=self._largest(self._gpu_load, 10),  # thousandths
            gpu_mhz=self._largest(self._gpu_clock, 1e6),
            emc_mhz=emc_mhz(self._root).value,
            cpu_mhz=self._largest(self._clocks, 1e3),
            temperature_c=hottest(self._temperatures()),
            ram_used_mb=(memory["MemTotal"] - memory["MemAvailable"]) / _MIB if known else None,
        )

    def _temperatures(self) -> Iterator[Tuple[str, float]]:
        for kind, name in self._zones:
            thousandths = read(name, parse_number, self._root).value
            if thousandths is not None:
                yield kind, thousandths / 1e3

    def _largest(self, names: List[str], unit: float) -> Optional[float]:
        """Of the files that can be read now."""
        values = [read(name, parse_number, self._root).value for name in names]
        return max((value / unit for value in values if value is not None), default=None)


def _of_children_s() -> float:
    """Processor time of the children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
