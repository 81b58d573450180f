"""The folder of a measurement: writable, its own, and clean."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes import results
from runtimes.errors import UserError

HOLDING = "import sys, pathlib, time; from runtimes.results import own\nwith own(pathlib.Path(sys.argv[1])):\n"


def test_the_folder_is_made_and_nothing_stays_in_it_but_what_was_written(tmp_path) -> None:
    folder = tmp_path / "new" / "results"
    with results.own(folder):
        (folder / "a.json").write_text("{}")
    assert [path.name for path in folder.iterdir()] == ["a.json"]


def test_a_folder_that_was_made_for_nothing_goes_again_and_one_that_was_there_stays(tmp_path) -> None:
    (tmp_path / "old").mkdir()
    for name in ("new", "old"):
        with pytest.raises(ZeroDivisionError), results.own(tmp_path / name):
            raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_another_measurement_is_named_and_left_alone(tmp_path) -> None:
    script = HOLDING + "    print('in', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "in\n"
        with pytest.raises(UserError) as caught, results.own(tmp_path):
            raise AssertionError("two are in")
        assert caught.value.message == f"another measurement is writing to {tmp_path} (pid {other.pid})"
        assert "--out" in caught.value.hint
        other.communicate("", timeout=30)
        assert other.returncode == 0
    with results.own(tmp_path):
        assert list(tmp_path.iterdir())
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_measurement_left_is_taken_over_and_removed(tmp_path) -> None:
    script = (
        HOLDING
        + "    (pathlib.Path(sys.argv[1]) / '.logits-a.npy.x.tmp').touch(); print('in', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "in\n"
        other.send_signal(signal.SIGKILL)
    (tmp_path / "logits-a.npy").touch()
    assert len(list(tmp_path.iterdir())) == 3
    with results.own(tmp_path):
        assert (tmp_path / ".measuring").read_text() == str(os.getpid())
    assert [path.name for path in tmp_path.iterdir()] == ["logits-a.npy"]


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_again(tmp_path, monkeypatch) -> None:
    """The owner before removes its file between our opening and our locking of it: that lock would be of no file."""
    lock, calls = fcntl.flock, []

    def late(file, how):
        calls.append(how)
        if len(calls) == 1:
            (tmp_path / ".measuring").unlink()
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with results.own(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / ".measuring").is_file()


def test_a_file_system_without_locks_is_no_obstacle_and_another_failure_is_one(tmp_path, monkeypatch) -> None:
    def failing(number: int) -> None:
        def flock(file, how):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(fcntl, "flock", flock)

    failing(errno.ENOLCK)
    with results.own(tmp_path):
        pass
    failing(errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), results.own(tmp_path):
        pass


def a_file(folder: Path) -> Path:
    (folder / "file").touch()
    return folder / "file"


def below_a_file(folder: Path) -> Path:
    return a_file(folder) / "results"


def a_link_to_nowhere(folder: Path) -> Path:
    (folder / "link").symlink_to("nowhere/at/all")
    return folder / "link"


@pytest.mark.parametrize("make", [a_file, below_a_file, a_link_to_nowhere])
def test_what_is_no_folder_is_told(tmp_path, make) -> None:
    folder = make(tmp_path)
    with (
        pytest.raises(UserError, match=r"cannot be written: (Not a directory|File exists)") as caught,
        results.own(folder),
    ):
        raise AssertionError("it cannot be written")
    assert "another --out" in caught.value.hint
