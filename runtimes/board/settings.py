"""A board's power mode and clocks for the time of a measurement, and as they were afterwards, however it ends.

Nothing is changed unless it is asked for. This has been run against stand-ins of nvpmodel and jetson_clocks that print
what real ones were seen to print, and never on a Jetson.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional

from runtimes.errors import UserError
from runtimes.readings import ROOT, ROOT_NAME

JOURNAL = "settings.json"  # what is changed, how it is undone, and whether that worked
_LEAVE_S = 20.0  # a far side kills a measurement that does not end within half a minute
_PATIENCE_S = 300.0  # for a keeper, which may wait for another one, and for programs that take their time


class Settings(NamedTuple):
    """What is asked for; the defaults change nothing."""

    power_mode: Optional[str] = None  # by the name that nvpmodel has for it
    lock_clocks: bool = False


def kept_in() -> Path:
    """The folder of the journal, of the lock, and of the clocks as they were."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(cache) / "edgeprune" / "settings"


def forgotten() -> Optional[str]:
    """What a measurement has changed that could not restore it, or has not yet; None where all is as it was."""
    try:
        journal = json.loads((kept_in() / JOURNAL).read_text(encoding="utf-8"))
        state = journal["state"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is no journal, or none that says anything
    if state == "changed":
        return "changed since {} and not restored, unless one is at work now".format(journal.get("changed_at"))
    return "not restored: {}".format("; ".join(journal.get("problems", []))) if state == "not restored" else None


@contextlib.contextmanager
def applied(settings: Settings, say: Callable[[str], None], root: Path = ROOT) -> Iterator[Optional[Dict[str, Any]]]:
    """The settings hold inside the block, and are restored after it: by a process of its own, which outlives this one.

    Args:
        say: gets a line for people about each thing that is changed, restored or could not be restored.
        root: where the file system starts.

    Yields:
        None where nothing is asked for; else `power_mode`, {"asked", "before", "after", "restored"}, each but the
        first {"name", "id"}, and `clocks`, {"how", "before", "after", "restored"}, for what was asked for, and
        `problems`. `after` is read back after the change; after the block `restored` is what was read back then, and
        `problems` what is not as it was, each with the line to run by hand.

    Raises:
        UserError: what is asked for is not to be had, and what to do about it. Nothing is changed then. One that the
            block raises also says what could not be restored.
    """
    if settings == Settings():
        yield None
        return
    with _keeper(root) as keeper:
        report: Dict[str, Any] = {**_asked(keeper, settings), "problems": []}
        for line in _changed(report):
            say(line)
        failure: Optional[UserError] = None
        try:
            yield report
        except UserError as error:
            failure = error
            raise
        finally:
            _restore(keeper, report, root)
            problems = report["problems"]
            say("NOT RESTORED: " + "; ".join(problems) if problems else "settings restored")
            if failure is not None and problems:  # of the lines that are said, a person far away may see the last only
                raise UserError(failure.message, "; ".join([failure.hint, *problems])) from failure


def _changed(report: Mapping[str, Any]) -> List[str]:
    lines = []
    if "power_mode" in report:
        mode = report["power_mode"]
        lines.append("power mode {} (was {})".format(mode["after"]["name"], mode["before"]["name"]))
    if "clocks" in report:
        lines.append("clocks fixed by {}".format(report["clocks"]["how"]))
    return lines


@contextlib.contextmanager
def _keeper(root: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Closing its standard input is what makes it restore; it ends by itself, however long that takes.

    Its outputs are a pipe and a file of its own: an ssh session ends while it is still restoring.
    """
    with tempfile.TemporaryFile() as chatter:
        process = subprocess.Popen(
            [sys.executable, "-S", "-m", "runtimes.board.keeper"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            cwd=str(Path(__file__).resolve().parent.parent.parent),
            env={**os.environ, **({ROOT_NAME: str(root)} if root != Path("/") else {})},
            start_new_session=True,
            bufsize=0,
        )
        try:
            yield process
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
                process.wait(_LEAVE_S)


def _asked(keeper: "subprocess.Popen[bytes]", settings: Settings) -> Dict[str, Any]:
    folder = kept_in()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            "{} cannot be made: {}".format(folder, error.strerror),
            "what is changed is noted there, so that it can be restored; set XDG_CACHE_HOME to a folder for it",
        ) from error
    request = {"folder": str(folder), **settings._asdict()}
    if keeper.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died: there will be no answer
            keeper.stdin.write(json.dumps(request).encode("utf-8") + b"\n")
    answer = _answer(keeper)
    if answer is None:
        raise RuntimeError("the process that keeps the settings gave no answer")
    if "error" in answer:
        raise UserError(*answer["error"])
    report: Dict[str, Any] = answer["ok"]
    return report


def _restore(keeper: "subprocess.Popen[bytes]", report: Dict[str, Any], root: Path) -> None:
    """Have the keeper restore, or another one from the journal where that one has been killed."""
    if keeper.stdin is not None:
        keeper.stdin.close()
    answer = _answer(keeper)
    if answer is None:
        with _keeper(root) as second:
            try:
                _asked(second, Settings())
            except UserError as error:
                report["problems"] = [error.message, error.hint]
        return
    report["problems"] = answer["ok"]["problems"]
    for what, found in answer["ok"]["restored"].items():
        report[what]["restored"] = found


def _answer(keeper: "subprocess.Popen[bytes]") -> Optional[Dict[str, Any]]:
    """Its next line; None where it has ended, or takes far too long."""
    stdout = keeper.stdout
    received, deadline = b"", time.monotonic() + _PATIENCE_S
    while stdout is not None and b"\n" not in received:
        if not select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return None
        block = os.read(stdout.fileno(), 1 << 16)
        if not block:
            return None
        received += block
    found: Dict[str, Any] = json.loads(received)
    return found
