"""A real OpenSSH server on loopback, with everything of its own: keys, port, known hosts, HOME, a venv as its Python.

Run as a program, this file keeps one server: it starts it, and when its standard input ends (it was closed, or the
tests died) it kills the server and everything that was ever started through it, daemons too.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
_STARTS_WITHIN_S = 20.0
_SERVER_CONFIG = """\
ListenAddress 127.0.0.1:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
KexAlgorithms curve25519-sha256
PrintMotd no
LogLevel VERBOSE
SetEnv {environment}
{more}
"""
_CLIENT_CONFIG = """\
Host *
  IdentityFile "{folder}/user_key"
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile "{folder}/known_hosts"
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""


def missing() -> str | None:
    """Why no server can be started here, or None."""
    if not sys.platform.startswith("linux"):
        return "the loopback SSH server needs Linux (child subreapers, /proc)"
    if _sshd() is None:
        return "no sshd here: apt-get install openssh-server"
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "no ssh client here: apt-get install openssh-client"
    return None


class Server:
    """One OpenSSH server on 127.0.0.1 for the user who runs the tests, who needs not be root."""

    def __init__(
        self, folder: Path, python: str, bare_python: str, environment: Mapping[str, str] | None = None, login: str = ""
    ) -> None:
        """Make keys and settings in `folder` and start the server.

        Args:
            python, bare_python: the board's interpreters, with numpy and onnxruntime, and without; see `board_pythons`.
            environment: variables of its sessions beside HOME. None of them may hold a double quote or a line's end.
            login: a shell that takes `-c COMMAND` in place of the user's login shell, for example `/bin/csh`.
        """
        self.folder, self.python, self.bare_python = folder, python, bare_python
        self.home = folder / "home"
        self.environment = {"HOME": str(self.home), **(environment or {})}
        self.port = _free_port()
        self.url = f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"
        self.ssh_config = folder / "ssh_config"
        self.log = folder / "sshd.log"
        self._shell = login
        self._keeper: subprocess.Popen[bytes] | None = None
        self.home.mkdir(parents=True, exist_ok=True)
        for name in ("host_key", "user_key"):
            _make_key(folder / name)
        self.trust(folder / "host_key.pub")
        self.ssh_config.write_text(_CLIENT_CONFIG.format(folder=folder))
        self.start()

    @property
    def inside(self) -> str:
        """The path of `folder` as the server has it."""
        return str(self.folder)

    def program(self) -> list[str]:
        """The words that start an sshd."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd of root empties itself; a service makes it
        return [str(_sshd())]

    def start(self) -> None:
        """Start the server, on the same port as ever; it answers when this returns."""
        (self.folder / "sshd_config").write_text(self._config())
        command = [*self.program(), "-D", "-f", f"{self.inside}/sshd_config", "-E", f"{self.inside}/sshd.log"]
        # Since OpenSSH 9.8 there are penalties for failed logins, which would shut out 127.0.0.1 as a whole.
        without_penalties = [*command, "-o", "PerSourcePenalties=no"]
        if subprocess.run([*without_penalties, "-t"], capture_output=True, check=False).returncode == 0:
            command = without_penalties
        self._keeper = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), *command],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is the tests' own
        )
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not self._answers():
            if self._keeper.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"sshd does not start: {self.log.read_text() if self.log.exists() else 'no log'}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End the server, its sessions and all that they started, as if the machine were switched off."""
        if self._keeper is not None:
            assert self._keeper.stdin is not None
            self._keeper.stdin.close()
            self._keeper.wait(_STARTS_WITHIN_S)
            self._keeper = None

    def sessions(self) -> list[int]:
        """The server's processes that serve a connection: sshd's own, not the commands that they run."""
        return [pid for pid in self._sshds() if _parent(pid) != self._pid()]

    def commands(self) -> dict[int, str]:
        """What runs because it was started through this server, daemons too: process id and command line."""
        below = [pid for pid in descendants(self._pid()) if not _name(pid).startswith("sshd")]
        return {pid: line for pid, line in ((pid, _command_line(pid)) for pid in below) if line}

    def cut(self, spared: Collection[int] = ()) -> None:
        """Cut all connections but those of the sessions `spared`: kill their sshd processes, not what they run."""
        _signal([pid for pid in self.sessions() if pid not in spared], signal.SIGKILL)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """The server and its sessions say nothing, as when the network swallows everything."""
        pids = self._sshds()
        _signal(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(pids, signal.SIGCONT)

    def trust(self, public_key: Path) -> None:
        """Make that key the one that the client knows this server by."""
        kind, key = public_key.read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def ssh(self, command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command there by the plain client, as a person does."""
        words = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", self.url, command]
        return subprocess.run(words, text=True, capture_output=True, check=False, timeout=60, **options)  # type: ignore[call-overload,no-any-return]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _config(self) -> str:
        """One SetEnv line: of several, sshd takes the first."""
        told = " ".join(f'"{name}={value}"' for name, value in self.environment.items())
        more = f'ForceCommand exec {self._shell} -c "$SSH_ORIGINAL_COMMAND"' if self._shell else ""
        return _SERVER_CONFIG.format(port=self.port, folder=self.inside, environment=told, more=more)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0) as connection:
            return connection.recv(4) == b"SSH-"
        return False

    def _pid(self) -> int:
        if self._keeper is None:
            raise RuntimeError("the server is stopped")
        return self._keeper.pid

    def _sshds(self) -> list[int]:
        return [pid for pid in descendants(self._pid()) if _name(pid).startswith("sshd")]


def board_pythons(folder: Path) -> tuple[str, str]:
    """Two venvs made in `folder`: one with numpy and onnxruntime of this environment, one with nothing.

    They are linked, not installed: nothing is downloaded. It is not this environment's site-packages as a whole, in
    which a board would find torch too, and edgeprune itself.
    """
    for name in ("python", "bare"):
        venv.create(folder / name, symlinks=True, with_pip=False)
    site = next((folder / "python").glob("lib/python*/site-packages"))
    for distribution in _needed(["numpy", "onnxruntime"]):
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(str(distribution.locate_file(top))).resolve())
    return str(folder / "python/bin/python"), str(folder / "bare/bin/python")


def _needed(names: list[str]) -> list[metadata.Distribution]:
    """These distributions and what they require, without extras."""
    found: dict[str, metadata.Distribution] = {}
    while names:
        name = names.pop()
        if name not in found:
            found[name] = metadata.distribution(name)
            wanted = [line for line in found[name].requires or () if ";" not in line]
            names += ["".join(c if c.isalnum() or c in "-_." else " " for c in line).split()[0] for line in wanted]
    return list(found.values())


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, theirs, and so on; those that have ended are left out."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _parent(int(entry.name))):
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def _stat(pid: int) -> list[str]:
    """State, parent and so on; a single `Z` where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ["Z"]


def _parent(pid: int) -> int:
    """Its parent, 0 where it has ended."""
    state, *rest = _stat(pid)
    return 0 if state in "ZX" else int(rest[0])


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _sshd() -> str | None:
    """Where it lies: usually out of an ordinary user's PATH."""
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_key(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "edgeprune tests", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def _keep(command: list[str]) -> None:
    """Run the server until standard input ends, then kill it and all that descends from it.

    Orphans come to this process, which is why it finds daemons as well.
    """
    libc = ctypes.CDLL(None)
    libc.prctl(_SET_CHILD_SUBREAPER, 1)
    server = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: libc.prctl(_SET_PDEATHSIG, signal.SIGKILL),
    )
    while not select.select([sys.stdin], [], [], 0.1)[0]:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0] not in (0, server.pid):
                pass
    with contextlib.suppress(ChildProcessError):  # until there is none left: an idle init would keep the zombies
        while True:
            _signal(descendants(os.getpid()), signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    _keep(sys.argv[1:])
