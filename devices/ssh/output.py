"""What a command on the device wrote, as it comes."""

from __future__ import annotations

import codecs
from collections.abc import Callable

from devices.protocol import Finished
from devices.ssh.call import Call

LARGEST_OUTPUT = 64 << 20
_LONGEST_LINE = 1 << 16  # characters; a longer one is taken for several


class Output:
    """Both streams of one command; `on_line` gets each line of its standard error once it is whole."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self._on_line = on_line
        self._streams = {b"o": bytearray(), b"e": bytearray()}
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._unfinished = ""

    def collect(self, call: Call) -> Finished:
        """Read until the command has ended; a `UserError` where it writes without end."""
        left = LARGEST_OUTPUT
        while True:
            kind, content = call.receive()
            if kind == b"x":
                break
            if kind not in self._streams:
                raise call.nonsense("a file instead of what a command writes")
            left -= len(content) + 1
            if left < 0:
                raise call.too_much("what the command wrote", LARGEST_OUTPUT)
            self._streams[kind] += content
            if kind == b"e":
                self._lines(self._decoder.decode(content))
        self._lines(self._decoder.decode(b"", final=True))
        if self._unfinished and self._on_line is not None:
            self._on_line(self._unfinished)
        stdout, stderr = (self._streams[kind].decode("utf-8", "replace") for kind in (b"o", b"e"))
        return Finished(int(call.read_json(content)["code"]), stdout, stderr)

    def _lines(self, text: str) -> None:
        *whole, self._unfinished = (self._unfinished + text).split("\n")
        if len(self._unfinished) > _LONGEST_LINE:
            whole, self._unfinished = [*whole, self._unfinished], ""
        for line in whole:
            if self._on_line is not None:
                self._on_line(line)
