"""A machine that is reached by the system's OpenSSH client. Nothing is installed there, and no shell is relied on."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import runtimes
from devices.answers import plain_names, read_probe
from devices.protocol import Finished
from devices.ssh.address import interpreter_word, read_address
from devices.ssh.call import Call
from devices.ssh.carry import (
    Listed,
    listed,
    package_files,
    place_name,
    receive_files,
    send_files,
    travelling,
    what_is_held,
)
from devices.ssh.complaints import LostError, closed
from devices.ssh.connection import Connection
from devices.ssh.output import Output

FOLDER = "~/.cache/edgeprune"  # where bundles lie there
PYTHON = "python3"
# None: left out, since a bundle brings its own `runtimes`; it stays clean, too.
_ENVIRONMENT = {"PYTHONPATH": None, "PYTHONSAFEPATH": None, "PYTHONDONTWRITEBYTECODE": "1"}
_AGAIN = 2  # times that a transfer goes on after the connection was lost
_PAUSE_S = 1.0  # before that

_Done = TypeVar("_Done")


class Ssh:
    """A device at an address; each call is one process of Python there, all through one connection."""

    def __init__(
        self,
        url: str,
        *,
        name: str | None = None,
        python: str = PYTHON,
        ssh_config: Path | None = None,
        folder: str = FOLDER,
    ) -> None:
        """Nothing is connected yet.

        Args:
            url: `ssh://[user@]host[:port]`.
            name: as reports have it; None: that of the address.
            python: the interpreter there, a path or a name on its PATH; `~/` is its user's home.
            ssh_config: instead of the user's own.
            folder: where bundles lie there.
        """
        address = read_address(url)
        interpreter_word(python)
        self.name = name or address.name
        self.python = python
        self._folder = folder
        self._connection = Connection(self.name, address, ssh_config)
        self._lock = threading.Lock()
        self._calls: set[Call] = set()
        self._closed = False

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        """Run `command` in the folder `place` there; it is ended when this is interrupted or the connection is lost."""
        request = {"do": "run", "command": list(command), "place": place, "environment": _ENVIRONMENT}
        try:
            return self._ran(request, on_line)
        except LostError as error:
            if error.started:
                raise
        self._connection.forget()  # it was lost while nothing went through it
        return self._ran(request, on_line)

    def push(self, folder: Path) -> str:
        """Make a copy of the folder there, of which only what is missing travels."""
        files = travelling(folder)
        wanted = listed(files)
        return self._pushed(place_name(folder, wanted), files, wanted)

    def pull(self, place: str, names: Sequence[str], folder: Path) -> None:
        """Fetch the files; what has arrived whole is not fetched again when the connection is lost in between."""
        left = plain_names(self.name, names)
        if not left:
            return
        self._persist({"do": "give", "place": place, "names": left}, lambda call: receive_files(call, left, folder))

    def probe(self) -> dict[str, Any]:
        """What `python -m runtimes probe` of this edgeprune says there, and how much room bundles take."""
        files = package_files(Path(next(iter(runtimes.__path__))))
        place = self._pushed("probe", files, listed(files))
        found = read_probe(self.name, self.run([self.python, "-m", "runtimes", "probe"], place))
        held = self._persist({"do": "hold", "folder": self._folder}, what_is_held)
        return {**found, "needs": [*found["needs"], held]}

    def by_hand(self, command: Sequence[str], place: str) -> str:
        """For a shell here."""
        words = [interpreter_word(word) if word == self.python else shlex.quote(word) for word in command]
        return shlex.join([*self._connection.typed(), f"cd {shlex.quote(place)} && {' '.join(words)}"])

    def close(self) -> None:
        """End what runs there, then the connection."""
        with self._lock:
            self._closed = True
            calls = list(self._calls)
        for call in calls:
            call.stop()
        self._connection.close()

    def _ran(self, request: Mapping[str, Any], on_line: Callable[[str], None] | None) -> Finished:
        output = Output(on_line)
        return self._in_call(request, output.collect)

    def _pushed(self, name: str, files: Mapping[str, Path], wanted: Listed) -> str:
        request = {"do": "take", "folder": self._folder, "name": name, "files": wanted}
        return self._persist(request, lambda call: send_files(call, files, wanted))

    def _persist(self, request: Mapping[str, Any], work: Callable[[Call], _Done]) -> _Done:
        """Do it, and go on after a connection that was lost in between."""
        for attempt in range(_AGAIN):
            try:
                return self._in_call(request, work)
            except LostError:
                self._connection.forget()
                time.sleep(_PAUSE_S * (1 + attempt))
        return self._in_call(request, work)

    def _in_call(self, request: Mapping[str, Any], work: Callable[[Call], _Done]) -> _Done:
        call = Call(self._connection, self.python, request)
        with self._lock:
            self._calls.add(call)
        try:
            with call:
                if self._closed:  # since the call was started
                    raise closed(self._connection.way())
                return work(call)
        finally:
            with self._lock:
                self._calls.discard(call)
