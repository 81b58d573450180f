"""One connection to a machine, through the system's ssh: a master in the background, through which every call goes.

The user's ssh config holds, except for what would make a call something else: a forwarding, a terminal, a command or a
control socket of the user's own. The master ends with `close`, or a minute after the last call of a host that was
killed.
"""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from devices.ssh.address import Address
from devices.ssh.complaints import Way, at_connect, closed, no_client
from runtimes.errors import UserError

_PREFIX = "edgeprune-ssh-"
_LONGEST_SOCKET = 80  # bytes; the system takes about 104, and ssh adds 17 while it makes the socket
_CONNECT_S = 90.0  # for all jump hosts together; ssh's own limit below is for each
_PERSIST_S = 60  # after the last call of a host that was killed and could not say goodbye
_ASK_S = 10.0  # for a question to our own master
_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "LogLevel=ERROR",
    "RemoteCommand=none",
    "RequestTTY=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
)


class Connection:
    """Opened by the first call, and again by the next one after it was lost. Several threads may use it."""

    def __init__(self, device: str, address: Address, ssh_config: Path | None) -> None:
        """`device`: the name in messages."""
        self._address = address
        self._device = device
        self._config = ["-F", str(ssh_config)] if ssh_config is not None else []
        self._lock = threading.Lock()
        self._end: weakref.finalize[..., Connection] | None = None
        self._socket: str | None = None
        self._connecting: subprocess.Popen[bytes] | None = None
        self._closed = False

    def start(self, command: str) -> subprocess.Popen[bytes]:
        """Start `command` there: its three streams are pipes."""
        with self._lock:
            socket = self._ready()
        words = self._words("-T", "-o", "ControlMaster=no", "-o", f"ControlPath={socket}")
        pipe = subprocess.PIPE
        return _ssh([*words, *self._address.words(), command], stdin=pipe, stdout=pipe, stderr=pipe)

    def forget(self) -> None:
        """The connection is not to be trusted any more: the next call makes another."""
        with self._lock:
            self._disconnect()

    def close(self) -> None:
        """End it for good."""
        self._closed = True
        connecting = self._connecting
        if connecting is not None:
            connecting.kill()
        self.forget()

    def typed(self) -> list[str]:
        """How a person starts ssh to there."""
        return ["ssh", *self._config, *self._address.typed()]

    def way(self) -> Way:
        """For messages: the host as ssh resolves it, which may be another than the one that was named."""
        found = {"hostname": self._address.host, "port": str(self._address.port or 22)}
        found["userknownhostsfile"] = "~/.ssh/known_hosts"
        with contextlib.suppress(OSError, subprocess.SubprocessError):  # messages do without
            told = subprocess.run(
                ["ssh", *self._config, "-G", *self._address.words()],  # noqa: S607
                capture_output=True,
                timeout=_ASK_S,
                check=True,
                text=True,
                errors="replace",
            )
            pairs = (line.partition(" ") for line in told.stdout.splitlines())
            found.update((name, value) for name, _, value in pairs)
        known_hosts = found["userknownhostsfile"].split(" ")[0]
        return Way(self._device, shlex.join(self.typed()), found["hostname"], int(found["port"]), known_hosts)

    def _ready(self) -> str:
        """The socket of a master that lives."""
        if self._socket is None or not self._asked("check", self._socket):
            self._disconnect()
            self._connect()
        if self._socket is None or self._closed:
            raise closed(self.way())
        return self._socket

    def _connect(self) -> None:
        if self._closed:
            return
        folder = _private_folder()
        socket = str(folder / "s")
        words = self._words("-f", "-N", "-o", "ControlMaster=yes", "-o", f"ControlPath={socket}")
        words += ["-o", f"ControlPersist={_PERSIST_S}", *self._address.words()]
        self._end = weakref.finalize(self, _remove_master, self._asking("exit", socket), folder)
        # A file and not a pipe, which the master in the background would hold open.
        with tempfile.TemporaryFile() as said:
            null = subprocess.DEVNULL
            self._connecting = process = _ssh(words, stdin=null, stdout=null, stderr=said.fileno())
            try:
                code: int | None = process.wait(_CONNECT_S)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                self._connecting = None
                if process.poll() is None:
                    process.kill()
                    process.wait()
            said.seek(0)
            told = said.read(1 << 16).decode("utf-8", "replace")
        if self._closed or code != 0:
            self._disconnect()
            raise closed(self.way()) if self._closed else at_connect(self.way(), told or "timed out")
        self._socket = socket

    def _disconnect(self) -> None:
        self._socket = None
        if self._end is not None:
            self._end()
            self._end = None

    def _asked(self, what: str, socket: str) -> bool:
        try:
            asked = subprocess.run(self._asking(what, socket), capture_output=True, timeout=_ASK_S, check=False)
        except subprocess.TimeoutExpired:
            return False
        return asked.returncode == 0

    def _asking(self, what: str, socket: str) -> list[str]:
        return ["ssh", *self._config, "-O", what, "-o", f"ControlPath={socket}", *self._address.words()]

    def _words(self, *more: str) -> list[str]:
        return ["ssh", *self._config, *(word for option in _OPTIONS for word in ("-o", option)), *more]


def _ssh(words: Sequence[str], *, stdin: int, stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    """In a session of its own: a Ctrl-C in the terminal is ours, and ssh still carries what we then say."""
    environment = {**os.environ, "SSH_ASKPASS_REQUIRE": "never"}
    try:
        return subprocess.Popen(
            words, stdin=stdin, stdout=stdout, stderr=stderr, env=environment, start_new_session=True
        )
    except FileNotFoundError:
        raise no_client() from None


def _private_folder() -> Path:
    """A folder for the socket, whose path must be short: not in the run folder, and not in macOS's own $TMPDIR."""
    for place in (os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):  # noqa: S108
        fits = len(f"{place}/{_PREFIX}12345678/s") <= _LONGEST_SOCKET
        if fits and re.fullmatch(r"/[A-Za-z0-9._/-]+", place):
            with contextlib.suppress(OSError):  # of another user, or not there
                folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
                _sweep(folder.parent)
                return folder
    raise UserError("there is no folder for ssh's control socket", "make /tmp writable, or set XDG_RUNTIME_DIR")


def _sweep(place: Path) -> None:
    """Remove the empty folders that hosts which were killed have left; a master takes its own socket away."""
    for folder in place.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or in use: not empty
            if time.time() - folder.lstat().st_mtime > 2 * _CONNECT_S:
                folder.rmdir()


def _remove_master(asking: Sequence[str], folder: Path) -> None:
    """Also when Python ends: nothing of ours stays behind."""
    if (folder / "s").exists():
        with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs: its keep-alive ends it
            subprocess.run(asking, capture_output=True, timeout=_ASK_S, check=False)
    shutil.rmtree(folder, ignore_errors=True)
