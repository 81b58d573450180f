"""What a person sees while a run is at work: a bar with the remaining time on a terminal, a line a minute elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

Tick = Callable[[int, int, str], None]  # (done, of, a short note)
LINE_EVERY_S = 60.0  # in a log


@dataclass(frozen=True)
class Step:
    """What a running step may tell."""

    tick: Tick
    skipped: Callable[[], None]


class Progress(Protocol):
    """Shows the steps of a run, or of several devices that are at work at once, each in a thread of its own."""

    def step(self, name: str, number: int, total: int) -> AbstractContextManager[Step]:
        """A context in which step `number` of `total` is at work."""
        ...


class Lines:
    """For logs, pipes and CI: a line when a step gets to work, at most one a minute, and one when it ends."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` tells seconds."""
        self._clock = clock

    @contextmanager
    def step(self, name: str, number: int, total: int) -> Iterator[Step]:
        """See `Progress`. A step gets to work with its first tick; one that is skipped has only the last line."""

        def say(told: str) -> None:
            print(f"[{number}/{total}] {name}: {told}", file=sys.stderr, flush=True)

        started, words = self._clock(), list[str]()
        yield Step(_Pulse(say, self._clock).tick, lambda: words.append("already done"))
        say(words[0] if words else f"{self._clock() - started:.1f} s")


class _Pulse:
    """Turns a step's many ticks into few lines."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._say, self._clock = say, clock
        self._next_line: float | None = None  # when one is due; None: nothing was said yet
        self._of = self._done = 0  # of the last tick
        self._since = (0.0, 0)  # (when, done) of the first tick of what is being counted

    def tick(self, done: int, of: int, note: str) -> None:
        """A `Tick`. A step may count several things, one after the other: each has an estimate of its own."""
        now = self._clock()
        if of != self._of or done < self._done:
            self._since = (now, done)
        self._of, self._done = of, done
        if self._next_line is None:
            self._say("at work")
        elif now < self._next_line:
            return
        else:
            self._say(f"{done} of {of}, {note}{self._left(now)}")
        self._next_line = now + LINE_EVERY_S

    def _left(self, now: float) -> str:
        """What remains at the pace so far, where there is a pace."""
        when, first = self._since
        if self._done <= first:
            return ""
        seconds = (now - when) / (self._done - first) * (self._of - self._done)
        return f", about {duration(seconds)} left"


class Bars:
    """A bar a step, with what it is at and the time that remains; steps at work at once stand below each other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: Any = None  # the display, while a step is at work
        self._at_work = 0

    @contextmanager
    def step(self, name: str, number: int, total: int) -> Iterator[Step]:
        """See `Progress`. Several threads may each be in a step of their own."""
        bars = self._begin()
        try:
            task = bars.add_task(f"[{number}/{total}] {name}", total=None, note="")

            def tick(done: int, of: int, note: str) -> None:
                bars.update(task, completed=done, total=of, note=note)

            yield Step(tick, lambda: bars.update(task, completed=1, total=1, note="already done"))
            whole = next(entry.total for entry in bars.tasks if entry.id == task) or 1
            bars.update(task, completed=whole, total=whole)
        finally:
            self._end()

    def _begin(self) -> Any:
        with self._lock:
            if not self._at_work:
                self._shown = _display()
                self._shown.start()
            self._at_work += 1
            return self._shown

    def _end(self) -> None:
        with self._lock:
            self._at_work -= 1
            if not self._at_work:
                self._shown.stop()


def _display() -> Any:
    """The bars on standard error; rich allows one such display at a time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", style="bold", markup=False),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=False),
        TextColumn("{task.fields[note]}", style="dim", markup=False),  # a board's words may hold brackets
        console=Console(stderr=True),
    )


def duration(seconds: float) -> str:
    """Seconds as a person reads them: `45 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def for_terminal() -> Progress:
    """Bars where standard error is a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()
