"""A command on the far side: it does not outlive its connection. The text of this file is sent there, see `far_side`.

Without a terminal nothing tells a remote command that its user has gone: it would run on. So this process stays beside
it, and ends it when the host closes its end, is cut off, or falls silent.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from devices.ssh.far_files import RefusedError
from devices.ssh.wire import BLOCK, Wire

_STRAY_S = 2.0  # a child that the command left behind may hold its pipes open for so long, and no longer
_END_WITH = "EDGEPRUNE_END_WITH"  # as in `runtimes.lifetime`: the command is killed even when this process is


class Pump(threading.Thread):
    """Carries what the command writes into one of its pipes; goes on reading when nobody listens any more."""

    def __init__(self, pipe: IO[bytes], kind: bytes, wire: Wire) -> None:
        super().__init__(daemon=True)
        self._pipe, self._kind, self._wire = pipe, kind, wire
        self._waits_since: float | None = None

    def run(self) -> None:
        """Until the last process that holds the pipe has closed it."""
        listened = True
        while True:
            self._waits_since = time.monotonic()
            block = os.read(self._pipe.fileno(), BLOCK)
            self._waits_since = None
            if not block:
                return
            try:
                if listened:
                    self._wire.send(self._kind, block)
            except OSError:  # the connection is gone: the command must not stop at a full pipe while it ends
                listened = False

    def finish(self) -> None:
        """Wait until all was carried; a child that the command left behind is not waited for."""
        while self.is_alive():
            since = self._waits_since
            if since is not None and time.monotonic() - since > _STRAY_S:
                return
            self.join(0.05)


def run(
    wire: Wire,
    over: threading.Event,
    command: Sequence[str],
    place: str,
    environment: Mapping[str, str | None],
    patience_s: float,
) -> int:
    """Run the command in the folder `place`; its exit code, negative where a signal killed it.

    Args:
        over: ends the command when it is set, or sets itself when the command has ended.
        environment: what is set there, or left out where the value is None.
        patience_s: between asking the command to end and killing it: it may be putting clocks back.
    """
    child = _started(command, place, environment)
    pumps = [Pump(pipe, kind, wire) for pipe, kind in ((child.stdout, b"o"), (child.stderr, b"e")) if pipe is not None]
    try:
        for work in (child.wait, lambda: _listen(wire)):
            threading.Thread(target=_then, args=(work, over), daemon=True).start()
        for pump in pumps:
            pump.start()
        over.wait()
    finally:
        _end(child, patience_s)
    for pump in pumps:
        pump.finish()
    return child.returncode


def _started(command: Sequence[str], place: str, environment: Mapping[str, str | None]) -> subprocess.Popen[bytes]:
    """From the main thread: where Linux ends the command with its parent, it means the thread that started it."""
    kept = {name: value for name, value in os.environ.items() if name not in environment}
    given = {name: value for name, value in environment.items() if value is not None}
    words = [os.path.expanduser(command[0]), *command[1:]]  # noqa: PTH111 (a bare name stays one)
    try:
        return subprocess.Popen(
            words,
            cwd=place,
            env={**kept, **given, _END_WITH: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # what the end of the login sends to its processes is not for this one
        )
    except OSError as error:
        what = str(error.filename or words[0])
        raise RefusedError("start", path=what, why=os.strerror(error.errno or 0)) from error


def _then(work: Callable[[], object], over: threading.Event) -> None:
    work()
    over.set()


def _listen(wire: Wire) -> None:
    """Until the host has closed its end."""
    while wire.receive()[0]:
        pass


def _end(child: subprocess.Popen[bytes], patience_s: float) -> None:
    """Ask it, then kill it: its own process id only."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
