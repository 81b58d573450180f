"""This machine, as a device like any other."""

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import runtimes
from devices.answers import plain_names, read_probe
from devices.protocol import Finished
from runtimes.errors import UserError
from runtimes.files import replacing
from runtimes.lifetime import END_WITH

_PATIENCE_S = 10.0  # between asking a command to end and killing it


class Local:
    """Runs commands as child processes, with the interpreter that runs this one."""

    name = "local"
    python = sys.executable

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[str]] = set()
        self._closed = False

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        """Run `command` in the folder `place`; it is ended if this is interrupted.

        `python -m runtimes` also ends when this is killed. Linux takes the end of the thread that calls this for that.
        """
        with subprocess.Popen(
            list(command),
            cwd=place,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        ) as process:
            self._running.add(process)
            try:
                stdout, stderr = _read_both(process, on_line)
            except BaseException:
                _end(process)
                raise
            finally:
                self._running.discard(process)
        if self._closed:
            raise UserError("this machine: the command was ended here", "give the same command again")
        return Finished(process.returncode, stdout, stderr)

    def push(self, folder: Path) -> str:
        """Nothing to carry: the folder is where it is."""
        return str(folder.resolve())

    def pull(self, place: str, names: Sequence[str], folder: Path) -> None:
        """Copy the files; each appears whole or not at all."""
        for name in plain_names("this machine", names):
            there = Path(place) / name
            if there.is_symlink() or not there.is_file():
                raise UserError(f"{there} is not there, or no file of its own", "measure again")
            with replacing(folder / name) as temporary:
                shutil.copyfile(there, temporary)

    def probe(self) -> dict[str, Any]:
        """What `python -m runtimes probe` says, in a process of its own: it imports the runtimes' libraries."""
        beside = str(Path(next(iter(runtimes.__path__))).parent)
        finished = self.run([self.python, "-m", "runtimes", "probe"], beside)
        return read_probe("this machine", finished)

    def by_hand(self, command: Sequence[str], place: str) -> str:
        """For a shell."""
        return f"cd {shlex.quote(place)} && {shlex.join(command)}"

    def close(self) -> None:
        """There is no connection; what runs in another thread is ended."""
        self._closed = True
        for process in list(self._running):
            _end(process)


def _environment() -> dict[str, str]:
    """Ours, but the working folder comes first on the path: a bundle brings its own `runtimes`, and stays clean.

    What is started ends with this process. That is told here and not by an option: a bundle of an older edgeprune
    passes it over, and a measurement keeps the command that made it, in which a process id means nothing to anybody.
    """
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", END_WITH: str(os.getpid())}


def _read_both(process: subprocess.Popen[str], on_line: Callable[[str], None] | None) -> tuple[str, str]:
    """Standard output in a thread, standard error here, so that neither pipe fills up."""
    stdout: list[str] = []
    reader = threading.Thread(target=_drain, args=(process.stdout, stdout.append), daemon=True)
    reader.start()
    stderr: list[str] = []
    for line in process.stderr or ():
        stderr.append(line)
        if on_line is not None:
            on_line(line.rstrip("\n"))
    reader.join()
    return "".join(stdout), "".join(stderr)


def _drain(stream: IO[str], take: Callable[[str], None]) -> None:
    for line in stream:
        take(line)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
