"""Worker processes: each does one job after the other, several are at work at once, and none outlives this process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol

from edgeprune.progress import Tick
from runtimes.errors import UserError
from runtimes.lifetime import end_with_parent

_SPAWN = multiprocessing.get_context("spawn")  # a fork would share torch's threads and the GPU
_TELL_EVERY_S = 1.0


class Job(Protocol):
    """Something to do in a worker. It travels there, so it holds plain values."""

    @property
    def name(self) -> str:
        """What it is called, also as a file."""
        ...

    def __call__(self, tick: Tick) -> None:
        """Do it."""
        ...


@dataclass(frozen=True)
class Event:
    """What is heard of job number `job`: how far it is, or that it is done, refused (a `UserError`) or lost.

    `told` and `hint` are words to show: those of the error, or where the traceback stands.
    """

    job: int
    kind: Literal["at work", "done", "refused", "lost"]
    told: str = ""
    hint: str = ""


class Pool:
    """Up to `count` workers, in a `with`: when it ends, for whatever reason, they are killed."""

    def __init__(self, count: int, logs: Path) -> None:
        self._count, self._logs = count, logs
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in (*self._idle, *self._busy.values()):
            worker.kill()

    def perform(self, jobs: Sequence[Job]) -> Iterator[Event]:
        """Do all `jobs`, and yield what is heard of them. A worker that dies takes its own job with it and no other."""
        waiting = deque(enumerate(jobs))
        while waiting or self._busy:
            while waiting and len(self._busy) < self._count:
                worker = self._idle.pop() if self._idle else _Worker(self._logs)
                worker.give(*waiting.popleft())
                self._busy[worker.connection] = worker
            for connection in wait(list(self._busy)):
                if isinstance(connection, Connection):
                    yield self._heard(connection)

    def _heard(self, connection: Connection) -> Event:
        worker = self._busy[connection]
        event = worker.hear()
        if event.kind != "at work":
            del self._busy[connection]
            if worker.alive:
                self._idle.append(worker)
        return event


class _Worker:
    """One process, and the job it is at."""

    def __init__(self, logs: Path) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.alive, self._job, self._name, self._logs = True, -1, "", logs
        self._process: SpawnProcess = _SPAWN.Process(target=_work, args=(theirs, logs, os.getpid()), daemon=True)
        with _deaf_to_interrupts():
            self._process.start()
        theirs.close()

    def give(self, number: int, job: Job) -> None:
        self._job, self._name = number, job.name
        self.connection.send((number, job))

    def hear(self) -> Event:
        try:
            event = self.connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            self.alive = False
            told = f"its process ended with {self._process.exitcode}"
            return Event(self._job, "lost", told, str(_log(self._logs, self._name)))
        return event if isinstance(event, Event) else Event(self._job, "lost", f"{event!r}")

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started within ignores Ctrl-C, which a terminal sends to all: the parent hears it and ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(connection: Connection, logs: Path, parent: int) -> None:
    """The worker's whole life: jobs from `connection` until nobody sends one."""
    end_with_parent()
    if os.getppid() != parent:
        raise SystemExit(128 + signal.SIGKILL)
    while True:
        try:
            number, job = connection.recv()
        except EOFError:
            return
        log = _log(logs, job.name)
        _write_to(log)
        ended = _done(number, job, log, connection.send)
        sys.stdout.flush()
        sys.stderr.flush()
        if not log.stat().st_size:
            log.unlink()
        connection.send(ended)  # last: who hears of the end may end this process


def _done(number: int, job: Job, log: Path, send: Callable[[Event], None]) -> Event:
    told_at = 0.0

    def tick(done: int, of: int, note: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_EVERY_S:
            told_at = time.monotonic()
            send(Event(number, "at work", f"{note}, {100 * done // max(1, of)} %"))

    try:
        job(tick)
    except UserError as error:
        return Event(number, "refused", error.message, error.hint)
    except Exception as error:  # our bug: its traceback goes to the log, and the other jobs go on
        traceback.print_exc()
        return Event(number, "lost", f"{type(error).__name__}: {error}", str(log))
    return Event(number, "done")


def _log(logs: Path, name: str) -> Path:
    return logs / f"{name}.log"


def _write_to(log: Path) -> None:
    """Let all that this process says, in Python or below, go to `log` from now on."""
    sys.stdout.flush()
    sys.stderr.flush()
    log.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for descriptor in (1, 2):
        os.dup2(file, descriptor)
    os.close(file)
