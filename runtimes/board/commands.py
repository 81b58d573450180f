"""Asking a board's own programs (nvpmodel, vcgencmd, dpkg-query, ...): what they print, or None with the reason."""

import os
import shutil
import subprocess
import tempfile
from typing import Any, Callable, Optional, Sequence, Set

from runtimes.readings import Reading

Run = Callable[[Sequence[str]], Reading]

_TIMEOUT_S = 5.0
_MOST_BYTES = 1 << 20
# A shell that ssh starts often has no `sbin` on its PATH, and nvpmodel lies there.
_MORE_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_HUNG: Set[str] = set()  # paths of programs that did not answer this process: asking again would take as long


def find_program(name: str) -> Optional[str]:
    """The path of a program on PATH or where administrators' programs lie; None where there is none."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PLACES]))


def run_command(command: Sequence[str]) -> Reading:
    """What a program on PATH prints, at most 1 MiB of it; None with the reason where it fails or takes more than 5 s.

    Its standard input is empty, so that one which asks a question does not wait for an answer. A program that took too
    long once is not asked again by this process.
    """
    name = command[0]
    found = find_program(name)
    if found is None:
        return Reading(None, "{} is not on PATH".format(name))
    if found in _HUNG:
        return Reading(None, "{} did not answer before and is not asked again".format(name))
    try:
        return _run(name, [found, *command[1:]])
    except subprocess.TimeoutExpired:
        _HUNG.add(found)
        return Reading(None, "{} did not answer within {:g} s".format(name, _TIMEOUT_S))
    except OSError as error:  # it is no program, or there is no room for what it prints
        return Reading(None, "{}: {}".format(name, error.strerror))


def _run(name: str, words: Sequence[str]) -> Reading:
    # Files, not pipes: a grandchild that keeps a pipe open would hold us beyond the time-out.
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complaint:
        finished = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=complaint,
            env={**os.environ, "LC_ALL": "C"},
            timeout=_TIMEOUT_S,
            check=False,
        )
        contents = [os.pread(file.fileno(), _MOST_BYTES, 0) for file in (printed, complaint)]
    text, complained = (content.decode("utf-8", "replace") for content in contents)
    if finished.returncode == 0:
        return Reading(text)
    lines = (complained + "\n" + text).splitlines()
    said = next((line.strip() for line in lines if line.strip()), "it says nothing")
    return Reading(None, "{} ended with exit code {}: {:.200}".format(name, finished.returncode, said))


def ask(run: Run, command: Sequence[str], parse: Callable[[str], Any]) -> Reading:
    """What `parse` makes of a program's answer; None with the reason where there is none or it is not understood."""
    answer = run(command)
    if answer.value is None:
        return answer
    found = parse(answer.value)
    told = " ".join(str(answer.value).split())[:80]
    reason = "{}: not in a known form: {!r}".format(" ".join(command), told)
    return Reading(found) if found is not None else Reading(None, reason)
