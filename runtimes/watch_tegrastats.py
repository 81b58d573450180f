"""Samples for the watch from NVIDIA's tegrastats."""

import os
import select
import subprocess
import threading
import time
from pathlib import Path
from typing import List, Optional, Tuple

from runtimes.board.rails import total
from runtimes.board.tegrastats import Tegrastats, parse_tegrastats
from runtimes.board.thermal import hottest
from runtimes.lifetime import end_with_parent
from runtimes.readings import Reading, read
from runtimes.watch_sources import Sample

_FIRST_LINE_S = 3.0
_MOST_UNREAD = 1 << 16  # bytes without an end of line


class Child:
    """tegrastats in a process of its own. Its lines are kept as they are and parsed afterwards."""

    name = "tegrastats"
    note: Optional[str] = None

    def __init__(self, program: str, interval_s: float) -> None:
        """An OSError: the program cannot be run."""
        self.interval_s = interval_s
        self._first = 0  # line that `follow` read
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

    def follow(self, stop: threading.Event) -> None:
        """Read its lines as they come."""
        self._first = len(self._lines)
        while not stop.is_set() and self._wait(0.2):
            pass

    def mark(self) -> float:
        """It cannot be asked: a sample belongs to the moment in which it arrives."""
        return time.monotonic()

    def samples(self) -> List[Sample]:
        """Those of the lines that are known as tegrastats'."""
        return self._samples_from(0)

    def followed(self) -> int:
        """Lines that are known as tegrastats'."""
        return len(self._samples_from(self._first))

    def _samples_from(self, first: int) -> List[Sample]:
        parsed = [(at_s, parse_tegrastats(line.decode("utf-8", "replace"))) for at_s, line in self._lines[first:]]
        return [_of_line(at_s, self.interval_s, line) for at_s, line in parsed if line is not None]

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
        *lines, unread = (self._unread + received).split(b"\n")
        self._unread = unread[-_MOST_UNREAD:]
        self._lines.extend((at_s, line) for line in lines)
        return bool(received)


def _of_line(at_s: float, interval_s: float, line: Tegrastats) -> Sample:
    clocks = [core.mhz for core in line.cpu if core is not None and core.mhz is not None]
    return Sample(
        at_s,
        interval_s,
        {rail: float(power) for rail, power in line.rails_mw.items()},
        gpu_percent=line.gpu_percent,
        gpu_mhz=line.gpu_mhz,
        emc_mhz=line.emc_mhz,
        cpu_mhz=max(clocks) if clocks else None,
        temperature_c=hottest(line.temperatures_c.items()),
        ram_used_mb=line.ram_used_mb,
    )
