"""A watch beside the run: it samples the machine in a thread of the coordinator, which is idle while engines work.

What that costs is measured: its own processor time, and that of tegrastats where that is its source.
"""

import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Iterator, List, NamedTuple, Optional, Sequence, Type

from runtimes.board.commands import find_program
from runtimes.readings import ROOT, Reading
from runtimes.watch_files import Files
from runtimes.watch_sources import Sample, Source
from runtimes.watch_tegrastats import Child

_OFF = Reading(None, "the watch was switched off: sample_s is 0")
_REACH_S, _REACH = 1.0, 5  # seconds, intervals
_PATIENCE_S = 10.0  # for the thread to come back from a slow file


def open_source(interval_s: float, root: Path = ROOT, cpus: Sequence[int] = ()) -> Source:
    """tegrastats where it is on PATH and speaks of power, or where nothing else does; else the files of /sys.

    Args:
        cpus: processors whose clock is looked at first; (): all alike.
    """
    files = Files(interval_s, root, cpus)
    program = find_program("tegrastats")
    if program is None:
        return files
    try:
        child = Child(program, interval_s)
    except OSError as error:
        files.pass_over("tegrastats cannot be run: {}".format(error.strerror))
        return files
    if child.samples() and (child.power.value or not files.power.value):
        return child
    child.close()
    files.pass_over(str(child.power.reason))
    return files


class Seen(NamedTuple):
    """What a watch has seen until it ended."""

    source: str  # tegrastats or sysfs
    power: Reading  # the name of what the rails are read from, or None and why there is none
    started_s: float  # time.monotonic
    samples: List[Sample]  # by time
    interval_s: float  # between two samples
    rate_hz: float  # reached
    overhead_cores: float  # processors kept busy by watching
    note: Optional[str] = None  # why another source was not taken
    stopped: Optional[str] = None  # why there are no samples any more, where it ended too early

    @property
    def reach_s(self) -> float:
        """For how long after a sample a watch that takes none may still be at work: a file can be slow."""
        return _reach_s(self.interval_s)


class Watch:
    """Samples the machine each `interval_s` seconds while the `with` block lasts; 0: not at all."""

    def __init__(self, interval_s: float, root: Path = ROOT, engines_on: Sequence[int] = ()) -> None:
        """`engines_on`: processors to keep away from, where there are others; (): none are known."""
        self._interval_s, self._root, self._engines_on = interval_s, root, engines_on
        self._stop = threading.Event()
        self._source: Optional[Source] = None
        self._error: Optional[Exception] = None
        self._thread_s, self._marks_s, self._begin, self._seconds = 0.0, 0.0, 0.0, 0.0

    @property
    def power(self) -> Reading:
        """The name of what power is read from, or None and why it is not."""
        return self._source.power if self._source else _OFF

    def mark(self) -> float:
        """The time, `time.monotonic`, as a border: samples before it and after it are told apart."""
        if self._source is None:
            return time.monotonic()
        begin = time.thread_time()
        try:
            return self._source.mark()
        finally:
            self._marks_s += time.thread_time() - begin

    def seen(self) -> Optional[Seen]:
        """What there was to see, once the block has ended; None without a watch."""
        source = self._source
        if source is None:
            return None
        samples = source.samples()
        return Seen(
            source=source.name,
            power=source.power,
            started_s=self._begin,
            samples=samples,
            interval_s=source.interval_s,
            rate_hz=source.followed() / self._seconds,
            overhead_cores=(self._thread_s + self._marks_s + source.cpu_s()) / self._seconds,
            note=source.note,
            stopped=self._stopped(source, samples),
        )

    def _stopped(self, source: Source, samples: Sequence[Sample]) -> Optional[str]:
        last_s = max(0.0, samples[-1].at_s - self._begin) if samples else 0.0
        if self._error is not None:
            return "the watch failed after {:.1f} s: {!r}".format(last_s, self._error)
        if self._seconds - last_s > _reach_s(source.interval_s):
            return "{} said nothing after {:.1f} s".format(source.name, last_s)
        return None

    def __enter__(self) -> "Watch":
        if self._interval_s > 0:
            with _kept_off(self._engines_on):  # threads and children are born with this
                self._source = open_source(self._interval_s, self._root, self._engines_on)
                self._begin = time.monotonic()
                self._thread = threading.Thread(target=self._follow, args=(self._source,), daemon=True)
                self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End the thread and the child. An error in the thread costs no measurement: `Seen.stopped` tells it."""
        if self._source is None:
            return
        self._seconds = time.monotonic() - self._begin
        self._stop.set()
        try:
            self._thread.join(_PATIENCE_S)
        finally:
            self._source.close()

    def _follow(self, source: Source) -> None:
        begin = time.thread_time()
        try:
            source.follow(self._stop)
        except Exception as error:  # kept: nobody sees what a thread raises
            self._error = error
        finally:
            self._thread_s = time.thread_time() - begin


def _reach_s(interval_s: float) -> float:
    return max(_REACH_S, _REACH * interval_s)


@contextlib.contextmanager
def _kept_off(cpus: Sequence[int]) -> Iterator[None]:
    """This thread runs on other processors than these, where there are any."""
    everywhere = os.sched_getaffinity(0) if cpus and hasattr(os, "sched_getaffinity") else set()
    others = everywhere - set(cpus)
    if not others:
        yield
        return
    os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, everywhere)
