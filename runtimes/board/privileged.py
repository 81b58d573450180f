"""Running a board's own programs with root's rights, without ever being asked for a password."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, List, Optional, Sequence

from runtimes.board.facts import parse_user
from runtimes.errors import UserError
from runtimes.readings import ROOT, read

_TIMEOUT_S = 60.0  # jetson_clocks takes seconds, a switch of the power mode too
_MORE_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on the PATH of every shell that ssh starts
_MOST_SAID = 500


def find_program(name: str) -> Optional[str]:
    """The path of a program on PATH or where administrators' programs lie; None where there is none."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES]))


def is_root(root: Path = ROOT) -> bool:
    """Whether this process may do everything, as /proc has it."""
    return bool(read("proc/self/status", parse_user, root).value == "root")


def as_root(command: Sequence[str], root: Path = ROOT) -> str:
    """Run a program as root, by `sudo -n` where this process is not; all that it says.

    Its exit code is not looked at: nvpmodel's is 0 after a switch that failed. Read back what was to change. Standard
    input is empty, so that a question (nvpmodel: reboot now?) is never answered with yes. `-k` passes over a password
    that was given a while ago: it may have been forgotten by the time the settings are to be restored.

    Raises:
        UserError: sudo is not there or wants a password, or the program does not end.
    """
    words = list(command) if is_root(root) else [_sudo(command), "-n", "-k", *command]
    with tempfile.TemporaryFile() as said:
        code = _run(words, said)
        text = os.pread(said.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip()
    refusal = next((line for line in text.splitlines() if line.startswith("sudo:")), None)
    if code and refusal:
        raise _refused(refusal, command)
    return text


def _run(words: Sequence[str], said: IO[bytes]) -> int:
    """Its exit code. One that does not end is left behind where it is root's: nobody else may kill it."""
    try:
        process = subprocess.Popen(
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise UserError("`{}` cannot be run: {}".format(words[0], error.strerror), "is it executable?") from error
    try:
        return process.wait(_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(PermissionError):
            process.kill()
            process.wait()
        what = "`{}` did not end within {:g} s".format(" ".join(words), _TIMEOUT_S)
        raise UserError(what, "run it by hand to see what it waits for") from None


def last_words(text: str) -> str:
    """What a program said, on one line."""
    return " | ".join(line.strip() for line in text.splitlines() if line.strip())[-_MOST_SAID:] or "it said nothing"


def _sudo(command: Sequence[str]) -> str:
    found = find_program("sudo")
    if found is None:
        raise _refused("there is no sudo here, and this is not root", command)
    return found


def sudo_rule(*programs: str) -> str:
    """The line that lets this user run nvpmodel, jetson_clocks and `programs` as root without a password."""
    known: List[Optional[str]] = [*programs, *map(find_program, ("nvpmodel", "jetson_clocks"))]
    paths = ", ".join(sorted({path for path in known if path}))
    return '`echo "$(id -un) ALL=(root) NOPASSWD: {}" | sudo tee /etc/sudoers.d/edgeprune`'.format(paths)


def _refused(why: str, command: Sequence[str]) -> UserError:
    return UserError(
        "changing this machine's settings needs root: {}".format(why),
        "run {} there once, or `sudo {}` by hand before measuring without the option".format(
            sudo_rule(command[0]), " ".join(command)
        ),
    )
