"""The process that changes a board's settings and restores them: `python3 -m runtimes.board.keeper`, for `settings`.

It has a session of its own and outlives the measurement, however that ends: what it waits for is the end of its
standard input, which the kernel brings about even after `kill -9`. It reads one JSON line, {"folders", "power_mode",
"lock_clocks"}, makes the changes and answers {"ok": report, "said": lines} or {"error": [message, hint]}; when its
input ends it restores, and answers once more. In the first folder lies `settings.json`, its journal: what is changed,
how it is undone, and at the end whether that worked. What a journal says to be changed when no keeper lives is undone
by the next one, unless somebody has changed it since.
"""

import contextlib
import datetime
import fcntl
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import IO, Any, Dict, Iterator, List, Mapping, Optional, Sequence, cast

from runtimes.board.changes import (
    STORED,
    Place,
    clocks,
    lock_clocks,
    named,
    power_mode,
    still_set,
    switch_power_mode,
    undo,
)
from runtimes.board.settings import JOURNAL, LEFT, LOCK
from runtimes.errors import UserError
from runtimes.files import read_json, write_json
from runtimes.readings import ROOT

_PATIENCE_S = 60.0  # for another keeper, which may be restoring
_POLL_S = 0.1


class _EndedError(Exception):
    """Somebody asks this process to end."""


class Ending:
    """SIGTERM and SIGHUP end the waiting, or the waiting that is to come; nothing else is cut short by them."""

    def __init__(self) -> None:
        self._asked = self._waiting = False

    def wait(self, stream: IO[bytes]) -> None:
        """Until the other end of `stream` is closed by whatever means, or somebody asks this process to end."""
        with contextlib.suppress(_EndedError):
            self._waiting = True
            while not self._asked and stream.read(1):
                pass
        self._waiting = False

    def take(self, number: int, frame: Optional[FrameType]) -> None:
        """A signal. This is a function, not SIG_IGN, which nvpmodel and jetson_clocks would inherit."""
        self._asked = self._asked or number != signal.SIGINT  # Ctrl-C in the terminal is the measurement's
        if self._waiting and self._asked:
            self._waiting = False
            raise _EndedError


class Journal:
    """What is changed, on disk before it is."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / JOURNAL
        self.content: Dict[str, Any] = {"state": "nothing changed", "undo": [], "settings": {}, "problems": []}

    def note(self, note: Mapping[str, Any]) -> None:
        """A change that is about to be made."""
        self.content["undo"].append(dict(note))
        self.content.update(state="changed", keeper=os.getpid(), changed_at=_now())
        write_json(self.path, self.content)

    def undo(self, root: Path) -> List[str]:
        """Undo everything, the latest change first, whatever fails; what could not be undone."""
        problems = [problem for note in reversed(self.content["undo"]) for problem in [_undo(note, root)] if problem]
        if self.content["state"] != "nothing changed":
            self.content.update(state="not restored" if problems else "restored", problems=problems, restored_at=_now())
            return problems + self._written()
        return problems

    def _written(self) -> List[str]:
        """On a full disk a journal that says `changed` of a board that is as it was goes instead."""
        try:
            write_json(self.path, self.content)
        except (UserError, OSError):
            try:
                if self.content["state"] == "restored":
                    self.path.unlink(missing_ok=True)
            except OSError:
                return ["restored, but not noted: delete {}".format(self.path)] if self.content["undo"] else []
        return []


def _undo(note: Mapping[str, Any], root: Path) -> Optional[str]:
    """Twice, if need be: a board that is busy refuses now and then."""
    problem = undo(note, root)
    if problem is None:
        return None
    time.sleep(1.0)
    return undo(note, root)


def main() -> int:
    """Do what standard input asks for until it ends; exit code 0, or 1 where something was not restored."""
    ending = Ending()
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, ending.take)
    asked = json.loads(sys.stdin.buffer.readline() or b"null")
    if asked is None:
        return 0
    folders = [Path(folder) for folder in asked["folders"]]
    try:
        with _alone():
            said = [line for folder in folders for line in _undo_forgotten(folder)]
            return _keep(asked, Journal(folders[0]), ending, said)
    except UserError as error:
        _answer({"error": [error.message, error.hint]})
    except OSError as error:
        _answer({"error": ["this board's settings cannot be kept: {}".format(error), "put that right and try again"]})
    return 1


def _keep(asked: Mapping[str, Any], journal: Journal, ending: Ending, said: Sequence[str]) -> int:
    place = Place(ROOT, journal.path.parent, journal.note)
    try:
        report = _change(asked, place)
    except UserError as error:
        problems = journal.undo(ROOT)
        raise UserError(error.message, "; ".join([error.hint, *problems])) from error
    except BaseException:
        journal.undo(ROOT)
        raise
    journal.content["settings"] = report
    _answer({"ok": report, "said": said})
    ending.wait(sys.stdin.buffer)
    problems = journal.undo(ROOT)
    _answer({"ok": {"restored": _read_back(place), "problems": problems}})
    return 1 if problems else 0


def _change(asked: Mapping[str, Any], place: Place) -> Dict[str, Any]:
    """The power mode first: it sets the range in which the clocks are then fixed."""
    report: Dict[str, Any] = {}
    before = clocks(place.root)
    if asked["power_mode"] is not None:
        report["power_mode"] = switch_power_mode(asked["power_mode"], place)
    if asked["lock_clocks"]:
        report["clocks"] = {"before": before, **lock_clocks(place), "restored": None}
    return report


def _read_back(place: Place) -> Dict[str, Any]:
    found: Dict[str, Any] = {"clocks": clocks(place.root)}
    with contextlib.suppress(UserError):  # there is none, or that it is not told is among the problems already
        found["power_mode"] = power_mode(place.root)
    return found


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One keeper at a time on a board, whoever's: a second would take the changes of the first for the board's own."""
    lock = os.open(str(ROOT / LOCK), os.O_RDONLY | os.O_DIRECTORY)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    what = "another measurement has changed this board's settings and is still at work"
                    raise UserError(what, "wait until it ends") from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(lock)


def _undo_forgotten(folder: Path) -> List[str]:
    """What a keeper left changed that was killed itself, or whose board lost its power; a line about each thing.

    What is no longer as it was left is not touched: somebody has chosen since, or a restart has undone it.
    """
    if not (folder / JOURNAL).exists():
        return []
    journal = Journal(folder)
    journal.content = cast(Dict[str, Any], read_json(journal.path))
    if journal.content["state"] not in LEFT:
        return []
    left = journal.content["undo"] = [note for note in journal.content["undo"] if still_set(note, ROOT)]
    problems = journal.undo(ROOT)
    if problems:
        raise UserError(
            "an earlier measurement could not restore this board's settings", "; ".join(problems) + "; then try again"
        )
    for stored in folder.glob(STORED):
        stored.unlink()
    return [
        "restored {}, left by a measurement of {}".format(named(note), journal.content["changed_at"]) for note in left
    ]


def _answer(content: Mapping[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):  # the measurement is gone; the journal has it
        os.write(1, json.dumps(content).encode("utf-8") + b"\n")


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main())
