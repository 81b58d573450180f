"""What a person sees while a run is at work: a bar with the remaining time on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

Tick = Callable[[int, int, str], None]  # (done, of, a short note)


@dataclass(frozen=True)
class Step:
    """What a running step may tell."""

    tick: Tick
    skipped: Callable[[], None]


class Progress(Protocol):
    """Shows the steps of a run."""

    def step(self, name: str, number: int, total: int) -> AbstractContextManager[Step]:
        """A context in which step `number` of `total` is at work."""
        ...


class Lines:
    """One line when a step begins to take time and one when it ends: for logs, pipes and CI."""

    def __init__(self) -> None:
        self.finished: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, number: int, total: int) -> Iterator[Step]:
        """See `Progress`."""
        started, words = time.perf_counter(), []
        yield Step(lambda done, of, note: None, lambda: words.append("already done"))
        told = words[0] if words else f"{time.perf_counter() - started:.1f} s"
        print(f"[{number}/{total}] {name}: {told}", file=sys.stderr, flush=True)


class Bars:
    """A bar a step, with what it is at and the time that remains."""

    @contextmanager
    def step(self, name: str, number: int, total: int) -> Iterator[Step]:
        """See `Progress`."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("[dim]{task.fields[note]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bars:
            task = bars.add_task(f"[{number}/{total}] {name}", total=None, note="")

            def tick(done: int, of: int, note: str) -> None:
                bars.update(task, completed=done, total=of, note=note)

            yield Step(tick, lambda: bars.update(task, completed=1, total=1, note="already done"))
            bars.update(task, completed=bars.tasks[0].total or 1, total=bars.tasks[0].total or 1)


def for_terminal() -> Progress:
    """Bars where standard error is a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()
