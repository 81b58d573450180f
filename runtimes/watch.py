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

from runtimes.readings import ROOT, Reading
from runtimes.watch_sources import Sample, Source, open_source

_OFF = Reading(None, "the watch was switched off: sample_s is 0")
_PATIENCE_S = 10.0  # for the thread to come back from a slow file


class Seen(NamedTuple):
    """What a watch has seen until it ended."""

    source: str  # tegrastats or sysfs
    power: Reading  # the name of what the rails are read from, or None and why there is none
    started_s: float  # time.monotonic
    samples: List[Sample]  # by time
    interval_s: float  # asked for
    rate_hz: float  # reached
    overhead_cores: float  # processors kept busy by watching


class Watch:
    """Samples the machine each `interval_s` seconds while the `with` block lasts; 0: not at all."""

    def __init__(self, interval_s: float, root: Path = ROOT, engines_on: Sequence[int] = ()) -> None:
        """`engines_on`: processors to keep away from, where there are others; (): none are known."""
        self._interval_s, self._root, self._engines_on = interval_s, root, engines_on
        self._stop = threading.Event()
        self._source: Optional[Source] = None
        self._error: Optional[Exception] = None
        self._count, self._thread_s, self._begin, self._seconds = 0, 0.0, 0.0, 0.0

    @property
    def power(self) -> Reading:
        """The name of what power is read from, or None and why it is not."""
        return self._source.power if self._source else _OFF

    def mark(self) -> float:
        """The time, `time.monotonic`, as a border: samples before it and after it are told apart."""
        return self._source.mark() if self._source else time.monotonic()

    def seen(self) -> Optional[Seen]:
        """What there was to see, once the block has ended; None without a watch."""
        if self._source is None:
            return None
        busy_s = self._thread_s + self._source.cpu_s()
        return Seen(
            source=self._source.name,
            power=self._source.power,
            started_s=self._begin,
            samples=self._source.samples(),
            interval_s=self._interval_s,
            rate_hz=self._count / self._seconds,
            overhead_cores=busy_s / self._seconds,
        )

    def __enter__(self) -> "Watch":
        if self._interval_s > 0:
            with _kept_off(self._engines_on):  # threads and children are born with this
                self._source = open_source(self._interval_s, self._root)
                self._begin = time.monotonic()
                self._thread = threading.Thread(target=self._follow, args=(self._source,), daemon=True)
                self._thread.start()
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End the thread and the child; an error in the thread is raised here, where none is under way."""
        if self._source is None:
            return
        self._stop.set()
        try:
            self._thread.join(_PATIENCE_S)
        finally:
            self._source.close()
        self._seconds = time.monotonic() - self._begin
        if self._error is not None and kind is None:
            raise self._error

    def _follow(self, source: Source) -> None:
        begin = time.thread_time()
        try:
            self._count = source.follow(self._interval_s, self._stop)
        except Exception as error:  # kept: nobody sees what a thread raises
            self._error = error
        finally:
            self._thread_s = time.thread_time() - begin


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
