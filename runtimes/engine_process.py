"""The coordinator's end of one worker: start it, ask it, and never leave it behind."""

import collections
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Dict, Mapping, Optional, Type

from runtimes.errors import UserError

_LAST_LINES = 3
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # numpy's own pools, before it is imported


class LostError(UserError):
    """The worker died, or said nothing for too long."""


class EngineProcess:
    """A process of `runtimes.worker` with one engine, blocked unless it was asked something.

    Leaving the `with` block ends the process, whatever state it is in.
    """

    def __init__(
        self, network: str, runtime: str, job: Mapping[str, Any], twin: bool = False, python: Optional[str] = None
    ) -> None:
        """Start the process and hand it its job, without waiting: several can import their library at once.

        Args:
            network, runtime: names, for error messages.
            job: as described in `runtimes.worker`.
            twin: whether another process has the same engine; only the name differs.
            python: the interpreter that has the runtime's library; None: this one.
        """
        self.name = "{}-{}{}".format(runtime, network, " (twin)" if twin else "")
        self._network, self._runtime = network, runtime
        self._timeout_s = float(job["workload"]["timeout_s"])
        self._unread = b""
        # A file, not a pipe, which would fill up and stop the engine; `__exit__` closes it.
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [python or sys.executable, "-m", "runtimes.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            cwd=str(Path(__file__).resolve().parent.parent),
            env={**os.environ, **dict.fromkeys(_THREADS, str(job["workload"]["threads"]))},
            start_new_session=True,  # a Ctrl-C of the terminal is the coordinator's
            bufsize=0,
        )
        self._send(job)

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    def ask(
        self, do: str, on_progress: Optional[Callable[[int], None]] = None, silent_s: float = 0.0, **arguments: Any
    ) -> Dict[str, Any]:
        """Give a command and wait for its answer.

        Args:
            silent_s: how long the command may take without a word even where all is well.

        Raises:
            UserError: the worker's own.
            LostError: it died, or said nothing for the workload's `timeout_s` beyond that.
        """
        self._send({"do": do, **arguments})
        return self.answer(do, on_progress, silent_s)

    def answer(
        self, doing: str, on_progress: Optional[Callable[[int], None]] = None, silent_s: float = 0.0
    ) -> Dict[str, Any]:
        """Wait for the answer to what was asked; `doing` names it if there is none."""
        while True:
            reply = self._read_line(doing, self._timeout_s + silent_s)
            if "at" in reply:
                if on_progress is not None:
                    on_progress(reply["at"])
            elif "error" in reply:
                message, hint = reply["error"]
                raise UserError("{} ({}, network '{}')".format(message, self._runtime, self._network), hint)
            else:
                found: Dict[str, Any] = reply["ok"]
                return found

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(
        self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        """End the process: asked nicely after success, killed otherwise."""
        self.end(5.0 if kind is None else 0.0)

    def end(self, patience_s: float = 5.0) -> None:
        """End the process, which gets `patience_s` seconds to do so by itself; it may have ended already."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._chatter.close()

    def _send(self, content: Mapping[str, Any]) -> None:
        stdin = self._process.stdin
        if stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died: `answer` says so, with its last words
                stdin.write(json.dumps(content).encode("utf-8") + b"\n")

    def _read_line(self, doing: str, patience_s: float) -> Dict[str, Any]:
        stdout = self._process.stdout
        if stdout is None:
            raise RuntimeError("the worker was started without a pipe")
        deadline = time.monotonic() + patience_s
        while b"\n" not in self._unread:
            if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise self._lost(doing, "said nothing for {:g} s".format(patience_s))
            received = os.read(stdout.fileno(), 1 << 16)
            if not received:
                raise self._lost(doing, self._how_it_ended())
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        found: Dict[str, Any] = json.loads(line)
        return found

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return "ended with exit code {}".format(code)
        killed = signal.Signals(-code).name
        return "was killed by {}{}".format(killed, " (out of memory?)" if killed == "SIGKILL" else "")

    def _lost(self, doing: str, how: str) -> LostError:
        message = "network '{}' on runtime '{}': its process {} during '{}'"
        words = self._last_words()
        hint = "its last words: {}".format(words) if words else "it wrote nothing to standard error; measure it alone"
        return LostError(message.format(self._network, self._runtime, how, doing), hint)

    def _last_words(self) -> str:
        """The last lines the worker wrote to standard error, on one line.

        Its file position is shared with the worker, so it is read without moving it.
        """
        size = os.fstat(self._chatter.fileno()).st_size
        tail = os.pread(self._chatter.fileno(), 1 << 14, max(0, size - (1 << 14))).decode("utf-8", "replace")
        return " | ".join(collections.deque(filter(None, map(str.strip, tail.splitlines())), _LAST_LINES))
