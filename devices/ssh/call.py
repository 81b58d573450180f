"""One call of the far side: a process of ssh, our program at its other end, and frames between the two."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import subprocess
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

from devices.answers import printable
from devices.ssh.address import interpreter_word
from devices.ssh.complaints import (
    closed,
    lost,
    no_answer,
    no_start,
    nonsense,
    refused,
    too_much,
    too_old,
)
from devices.ssh.connection import Connection
from devices.ssh.far_side import OLDEST, first_words, program
from devices.ssh.wire import Wire, keep_alive
from runtimes.errors import UserError

BEAT_S = 10.0  # between two heartbeats, in both directions
SILENCE_S = 60.0  # without one, the far side ends what it runs
PATIENCE_S = 30.0  # it has between being asked to end and being killed: it may be putting clocks back
_LEAVES_S = 2.0  # what runs no command has between the end of its input and being cut off
_START_S = 60.0  # from the call to the first words of the Python there
_LOST_AFTER_S = 120.0  # without a heartbeat from there
_NOISE = 1 << 20  # bytes that a login's start-up files may print
_LAST_WORDS = 1 << 14  # bytes of what ssh writes to its standard error
_ANSWER = 16 << 20  # bytes of an answer in JSON


class Call:
    """Open from `with` to its end, at which the far side has come to its own, or the connection is cut."""

    def __init__(self, connection: Connection, python: str, request: Mapping[str, Any]) -> None:
        """Start ssh; `request` is what `far_side` understands."""
        self._connection, self._python = connection, python
        self._request = {**request, "beat_s": BEAT_S, "silence_s": SILENCE_S, "patience_s": PATIENCE_S}
        self._over = threading.Event()
        self._closed = self._silent = False
        self._runs = False  # whether a command may be running there, which has time to put things back
        self._said = b""
        self._program, self._token = program(), f"edgeprune-{secrets.token_hex(12)}"
        words = first_words(self._token, len(self._program))
        self._process = connection.start(f"{interpreter_word(python)} -E -c '{words}'")
        self._stdin, self._stdout, stderr = _pipes(self._process)
        self.wire = Wire(self._stdout, self._stdin)
        self._reader = threading.Thread(target=self._listen, args=(stderr,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Call:
        try:
            self._begin()
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The end of its input tells the far side to end what it runs; it is waited for, but not for ever."""
        try:
            if self._process.poll() is None:
                self._end_in_order(PATIENCE_S + 10.0 if self._runs else _LEAVES_S)
        finally:
            self._over.set()
            _kill(self._process)
            self._stdout.close()

    def stop(self) -> None:
        """From another thread: the far side comes to its end, and whoever waits for it gets a `UserError`."""
        self._closed = True
        if not self.wire.close(5.0) or not self._over.wait(PATIENCE_S + 10.0):
            self._process.kill()

    def nonsense(self, what: str) -> UserError:
        """The far side's answer is none that ours gives."""
        return nonsense(self._connection.way(), printable(what))

    def too_much(self, what: str, limit: int) -> UserError:
        """The far side sends more than `limit` bytes of something."""
        return too_much(self._connection.way(), what, limit)

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame; an `x` is the far side's last word, and a good one.

        Raises:
            LostError: there is none, and there has been no last word.
            UserError: the far side refused.
        """
        try:
            kind, content = self.wire.receive()
        except ValueError as error:
            raise self.nonsense(str(error)) from error
        if self._closed:
            raise closed(self._connection.way())
        if not kind:
            said = f"nothing was heard for {_LOST_AFTER_S:g} s" if self._silent else self._last_words()
            raise lost(self._connection.way(), said)
        if kind == b"x":
            answer = self.read_json(content)
            if not isinstance(answer.get("code"), int):
                raise refused(self._connection.way(), answer, str(self._request.get("folder", "")))
        return kind, content

    def answer(self) -> dict[str, Any]:
        """The far side's answer in JSON, where the next frame has to be one."""
        kind, content = self.receive()
        if kind != b"j":
            raise self.nonsense("no answer")
        return self.read_json(content)

    def finish(self) -> None:
        """Read on to the last word."""
        left = _NOISE
        while left > 0:
            kind, content = self.receive()
            if kind == b"x":
                return
            left -= len(content) + 1
        raise self.nonsense("more than was asked for")

    def read_json(self, content: bytes) -> dict[str, Any]:
        """An object in JSON; a `UserError` for anything else."""
        if len(content) > _ANSWER:
            raise self.too_much("its answer", _ANSWER)
        try:
            found = json.loads(content.decode("utf-8"))
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self.nonsense("no JSON object")
        return found

    def _begin(self) -> None:
        """Send nothing before the Python there has answered: a start-up file would read it."""
        starting = threading.Timer(_START_S, self._process.kill)
        starting.start()
        try:
            version = self._first_words()
        finally:
            starting.cancel()
        if version < OLDEST:
            told, oldest = (".".join(map(str, numbers)) for numbers in (version, OLDEST))
            raise too_old(self._connection.way(), self._python, told, oldest)
        with contextlib.suppress(BrokenPipeError):  # the connection is gone: `receive` says so
            self._runs = self._request["do"] == "run"
            self._stdin.write(self._program)
            self.wire.send_json(b"j", self._request)
        keep_alive(self.wire, self._over, BEAT_S, _LOST_AFTER_S, self._give_up)

    def _give_up(self) -> None:
        self._silent = True
        self._process.kill()

    def _first_words(self) -> tuple[int, int]:
        """The version of the Python there; what came before is what the login's start-up files print."""
        left, noise = _NOISE, b""
        wanted = re.compile(rf"{self._token} (\d+)\.(\d+)".encode())
        while left > 0:
            line = self._stdout.readline(left)
            left -= len(line)
            found = wanted.fullmatch(line.strip())
            if found:
                return int(found[1]), int(found[2])
            if not line:
                raise self._no_start(noise)
            noise = line if line.strip() else noise
        raise self.too_much("what the login's start-up files print there", _NOISE)

    def _no_start(self, noise: bytes) -> UserError:
        """`noise`: the last line that came instead."""
        code = self._code()
        if self._closed:
            return closed(self._connection.way())
        if code < 0:
            return no_answer(self._connection.way(), self._python, _START_S)
        said = self._last_words()
        return no_start(self._connection.way(), self._python, code, said or noise.decode("utf-8", "replace"))

    def _code(self) -> int:
        """ssh's exit code; its standard output has ended already."""
        try:
            return self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _end_in_order(self, patience_s: float) -> None:
        if not self.wire.close(1.0):
            return
        limit = threading.Timer(patience_s, self._process.kill)
        limit.start()
        try:
            while self._stdout.read1(1 << 16):
                pass
            self._process.wait()
        finally:
            limit.cancel()

    def _listen(self, stderr: IO[bytes]) -> None:
        """What ssh complains of; the child of a ProxyCommand may hold the pipe for longer than the call."""
        with stderr:
            while block := stderr.read1(1 << 12):  # type: ignore[attr-defined]
                self._said = (self._said + block)[-_LAST_WORDS:]

    def _last_words(self) -> str:
        self._reader.join(1.0)
        return self._said.decode("utf-8", "replace")


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], Any, IO[bytes]]:
    if process.stdin is None or process.stdout is None or process.stderr is None:
        raise RuntimeError("ssh was started without pipes")
    return process.stdin, process.stdout, process.stderr


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # what was not sent yet is not needed any more
            process.stdin.close()
