"""Frames between the host and the far side: a letter, a length, the content. Both ends run this file.

    to the far side:    j the request, d a piece of a tar file, h a heartbeat; the end of the input: come to an end
    from the far side:  o and e what the command wrote (standard output, error), j an answer, d a piece of a tar file,
                        h a heartbeat, x the last word: {"code": 0} or {"error": ..., ...}

Without a last word the connection was lost: ssh's own exit code 255 may as well be the command's.
"""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable
from typing import IO

HEADER = struct.Struct(">cI")
BLOCK = 1 << 16  # bytes of a file in one piece: a board has little memory
LARGEST_FRAME = 1 << 26


class Wire:
    """Sends and receives frames; sending is safe from several threads, receiving is one thread's."""

    def __init__(self, source: IO[bytes], sink: IO[bytes]) -> None:
        self._source, self._sink = source, sink
        self._lock = threading.Lock()
        self._waits_since: float | None = None
        self._sends_since: float | None = None

    def send(self, kind: bytes, content: bytes = b"") -> None:
        """Write one frame; an `OSError` where nobody reads any more."""
        with self._lock:
            if self._sink.closed:
                raise BrokenPipeError
            self._sends_since = time.monotonic()
            try:
                self._sink.write(HEADER.pack(kind, len(content)) + content)
                self._sink.flush()
            finally:
                self._sends_since = None

    def send_json(self, kind: bytes, content: object) -> None:
        """Write one frame of JSON."""
        self.send(kind, json.dumps(content).encode("utf-8"))

    def receive(self) -> tuple[bytes, bytes]:
        """The next frame that is no heartbeat, as its letter and its content; no letter at the end of the input.

        A `ValueError` where it says that it is larger than any of ours.
        """
        while True:
            self._waits_since = time.monotonic()
            try:
                kind, content = self._frame()
            finally:
                self._waits_since = None
            if kind != b"h":
                return kind, content

    def _frame(self) -> tuple[bytes, bytes]:
        head = self._source.read(HEADER.size)
        if len(head) < HEADER.size:
            return b"", b""
        kind, size = HEADER.unpack(head)
        if size > LARGEST_FRAME:
            raise ValueError(f"a frame of {size} bytes")
        content = self._source.read(size)
        return (kind, content) if len(content) == size else (b"", b"")

    def silent_for(self) -> float:
        """Seconds for which the other end has kept this one waiting, with a frame of its own or with taking one."""
        since = [begin for begin in (self._waits_since, self._sends_since) if begin is not None]
        return time.monotonic() - min(since) if since else 0.0

    def close(self, patience_s: float) -> bool:
        """End what the other end receives; False where a frame is stuck on the way for longer than `patience_s`."""
        if not self._lock.acquire(timeout=patience_s):
            return False
        try:
            with contextlib.suppress(OSError):  # nobody reads any more, which is what was wanted
                self._sink.close()
        finally:
            self._lock.release()
        return True


def keep_alive(
    wire: Wire, stop: threading.Event, beat_s: float, silence_s: float, give_up: Callable[[], object]
) -> None:
    """Send heartbeats until `stop`, and call `give_up`, again and again, once the other end is silent for too long.

    Two threads, because a heartbeat may be stuck in a full pipe.
    """

    def beat() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(beat_s):
                wire.send(b"h")

    def watch() -> None:
        while not stop.wait(min(beat_s, silence_s / 4.0)):
            if wire.silent_for() > silence_s:
                give_up()

    for work in (beat, watch):
        threading.Thread(target=work, daemon=True).start()


class TarSink:
    """A file to write to, whose content leaves in frames."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def write(self, content: bytes) -> int:
        """Send it at once."""
        self._wire.send(b"d", content)
        return len(content)


class TarSource:
    """A file to read from, whose content arrives in frames."""

    def __init__(self, receive: Callable[[], tuple[bytes, bytes]]) -> None:
        self._receive = receive
        self._unread = b""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none where a frame of another kind says that there are no more."""
        if not self._unread:
            kind, content = self._receive()
            self._unread = content if kind == b"d" else b""
        found, self._unread = self._unread[:size], self._unread[size:]
        return found
