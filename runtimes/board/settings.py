"""A board's power mode and clocks for the time of a measurement, and as they were afterwards, however it ends.

Nothing is changed unless it is asked for. This has been run against stand-ins of nvpmodel and jetson_clocks that print
what real ones were seen to print, and never on a Jetson.
"""

import contextlib
import fcntl
import json
import os
import select
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional

from runtimes.board.changes import named, still_set
from runtimes.errors import UserError
from runtimes.readings import ROOT, ROOT_NAME, Reading

JOURNAL = "settings.json"  # what is changed, how it is undone, and whether that worked
LOCK = "sys"  # held by the keeper at work: what is changed lies there, everybody may open it, it is on no network
LEFT = ("changed", "not restored")  # states of the journal in which the board may not be as it was
_SPARE = "/var/tmp"  # noqa: S108  # it outlives a restart; whose the folder in it is, is looked at
_LEAVE_S = 20.0  # a far side kills a measurement that does not end within half a minute
_PATIENCE_S = 300.0  # for a keeper, which may wait for another one, and for programs that take their time


class Settings(NamedTuple):
    """What is asked for; the defaults change nothing."""

    power_mode: Optional[str] = None  # by the name that nvpmodel has for it
    lock_clocks: bool = False


class _Keeper(NamedTuple):
    process: "subprocess.Popen[bytes]"
    chatter: IO[bytes]  # its standard error


def kept_in() -> List[Path]:
    """Where journals and the clocks as they were may lie: the user's own cache, and for one that cannot be written."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return [Path(cache) / "edgeprune" / "settings", Path(_SPARE) / "edgeprune-{}".format(os.getuid())]


def settings_left(root: Path = ROOT) -> Reading:
    """What a measurement of this user that is over has changed and not restored, or None."""
    if _at_work(root):
        return Reading(None, "a measurement is at work that has changed them, and restores them")
    told = [_left_in(folder, root) for folder in kept_in() if _is_ours(folder)]
    return next((Reading(left) for left in told if left), Reading(None, "no earlier measurement has left any"))


def _at_work(root: Path) -> bool:
    try:
        lock = os.open(str(root / LOCK), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def _left_in(folder: Path, root: Path) -> Optional[str]:
    try:
        journal = json.loads((folder / JOURNAL).read_text(encoding="utf-8"))
        left = [note for note in journal["undo"] if journal["state"] in LEFT and _may_be_set(note, root)]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # there is no journal, or none that says anything
    if not left:
        return None
    if journal["state"] == "changed":
        what = ", ".join(map(named, left))
        return "{} not restored since {}".format(what, journal.get("changed_at"))
    return "not restored: {}".format("; ".join(journal.get("problems", [])))


def _may_be_set(note: Mapping[str, Any], root: Path) -> bool:
    try:
        return still_set(note, root)
    except UserError:
        return True


def _is_ours(folder: Path) -> bool:
    """Whether nobody else can have written there: everybody may make folders in /var/tmp."""
    try:
        found = os.lstat(str(folder))
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022


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
        answer = _asked(keeper, settings)
        report: Dict[str, Any] = {**answer["ok"], "problems": []}
        for line in [*answer["said"], *_changed(report)]:
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
def _keeper(root: Path) -> Iterator[_Keeper]:
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
            yield _Keeper(process, chatter)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                process.stdout.close()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it goes on by itself
                process.wait(_LEAVE_S)


def _asked(keeper: _Keeper, settings: Settings) -> Dict[str, Any]:
    request = {"folders": _folders(), **settings._asdict()}
    if keeper.process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # it died: there will be no answer
            keeper.process.stdin.write(json.dumps(request).encode("utf-8") + b"\n")
    answer = _answer(keeper)
    if answer is None:
        said = os.pread(keeper.chatter.fileno(), 1 << 16, 0).decode("utf-8", "replace").strip()
        raise UserError(
            "the process that keeps the settings gave no answer: {}".format(
                said.splitlines()[-1] if said else "killed?"
            ),
            "try again; what it has changed is restored then",
        )
    if "error" in answer:
        raise UserError(*answer["error"])
    return answer


def _folders() -> List[str]:
    """Those that there are, the one to write to first."""
    own, spare = kept_in()
    for folder in (own, spare):
        with contextlib.suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_ours(folder) and os.access(str(folder), os.W_OK):
            return [str(folder), *(str(other) for other in (own, spare) if other != folder and _is_ours(other))]
    raise UserError(
        "neither {} nor {} can be a folder of this user's".format(own, spare),
        "what is changed is noted there, so that it can be restored; set XDG_CACHE_HOME to a folder for it",
    )


def _restore(keeper: _Keeper, report: Dict[str, Any], root: Path) -> None:
    """Have the keeper restore, or another one from the journal where that one has been killed."""
    report["problems"] = ["not yet restored"]  # what is left of this where a signal ends the waiting
    answer = _ended(keeper)
    if answer is None:
        with _keeper(root) as second:
            try:
                _asked(second, Settings())
                answer = _ended(second)
            except UserError as error:
                answer = {"error": [error.message, error.hint]}
    if answer is None:
        return
    report["problems"] = answer["error"] if "error" in answer else answer["ok"]["problems"]
    for what, found in answer.get("ok", {"restored": {}})["restored"].items():
        if what in report:
            report[what]["restored"] = found


def _ended(keeper: _Keeper) -> Optional[Dict[str, Any]]:
    if keeper.process.stdin is not None:
        keeper.process.stdin.close()
    return _answer(keeper)


def _answer(keeper: _Keeper) -> Optional[Dict[str, Any]]:
    """Its next line; None where it has ended, or takes far too long."""
    stdout = keeper.process.stdout
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
