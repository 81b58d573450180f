"""Running a board's own programs with root's rights, without ever being asked for a password."""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Sequence

from runtimes.board.clocks import cpu_policies
from runtimes.board.commands import find_program
from runtimes.board.facts import parse_user
from runtimes.errors import UserError
from runtimes.readings import ROOT, read

GOVERNOR = "sys/devices/system/cpu/cpufreq/{}/scaling_governor"  # of a group of processors
_TIMEOUT_S = 60.0  # jetson_clocks takes seconds, a switch of the power mode too
_MOST_SAID = 500


def is_root(root: Path = ROOT) -> bool:
    """Whether this process may do everything, as /proc has it."""
    return bool(read("proc/self/status", parse_user, root).value == "root")


def as_root(command: Sequence[str], root: Path = ROOT, given: str = "") -> str:
    """Run a program as root, by `sudo -n` where this process is not; all that it says.

    Its exit code is not looked at: nvpmodel's is 0 after a switch that failed. Read back what was to change. `-k`
    passes over a password that was given a while ago: it may have been forgotten by the time the settings are to be
    restored.

    Args:
        given: its standard input. Nothing, so that a question (nvpmodel: reboot now?) is never answered with yes.

    Raises:
        UserError: sudo is not there or wants a password, or the program does not end.
    """
    by_hand = "{}sudo {}".format("echo {} | ".format(given) if given else "", " ".join(command))
    words = list(command) if is_root(root) else [_sudo(by_hand, root), "-n", "-k", *command]
    with tempfile.TemporaryFile() as said:
        code = _run(words, given, said)
        text = os.pread(said.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip()
    refusal = next((line for line in text.splitlines() if line.startswith("sudo:")), None)
    if code and refusal:
        raise _refused(refusal, by_hand, root)
    return text


def _run(words: Sequence[str], given: str, said: IO[bytes]) -> int:
    """Its exit code. One that does not end is left behind where it is root's: nobody else may kill it."""
    asked, answered = os.pipe()
    os.write(answered, given.encode("utf-8"))  # a word: it fits
    os.close(answered)
    try:
        process = subprocess.Popen(
            list(words),
            stdin=asked,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        raise UserError("`{}` cannot be run: {}".format(words[0], error.strerror), "is it executable?") from error
    finally:
        os.close(asked)
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


def _sudo(by_hand: str, root: Path) -> str:
    found = find_program("sudo")
    if found is None:
        raise _refused("there is no sudo here, and this is not root", by_hand, root)
    return found


def sudo_rule(root: Path = ROOT) -> str:
    """The line that lets this user change the power mode and the clocks here without a password."""
    allowed = [path for path in map(find_program, ("nvpmodel", "jetson_clocks")) if path]
    if not allowed:  # the digits one by one: `*` would also stand for a space and a second file
        names = {str(root / GOVERNOR.format(re.sub("[0-9]", "[0-9]", policy))) for policy in cpu_policies(root)}
        allowed = ["{} {}".format(tee(), name) for name in names]
    return '`echo "$(id -un) ALL=(root) NOPASSWD: {}" | sudo tee /etc/sudoers.d/edgeprune`'.format(
        ", ".join(sorted(allowed))
    )


def tee() -> str:
    """The program that writes what it is given to a file: sudo runs programs only."""
    return find_program("tee") or "tee"


def _refused(why: str, by_hand: str, root: Path) -> UserError:
    return UserError(
        "changing this machine's settings needs root: {}".format(why),
        "run {} there once, or `{}` by hand before measuring without the option".format(sudo_rule(root), by_hand),
    )
