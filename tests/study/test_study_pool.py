"""Worker processes: side by side, each job's end told, a death that takes one job, none that outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgeprune.progress import Tick
from edgeprune.study.pool import Event, Pool
from runtimes.errors import UserError


@dataclass(frozen=True)
class Work:
    """A job: writes its process id to `folder`, then does what its name says."""

    name: str
    folder: Path

    def __call__(self, tick: Tick) -> None:
        (self.folder / f"{self.name}.pid").write_text(str(os.getpid()))
        getattr(self, f"_{self.name.split('-')[0]}")(tick)

    def _well(self, tick: Tick) -> None:
        tick(1, 2, "half")

    def _meet(self, tick: Tick) -> None:
        wait_for(lambda: len(list(self.folder.glob("meet-*.pid"))) == 2)

    def _refuse(self, tick: Tick) -> None:
        raise UserError("not so", "do it otherwise")

    def _crash(self, tick: Tick) -> None:
        print("said before")
        raise ZeroDivisionError("by nothing")

    def _die(self, tick: Tick) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _sleep(self, tick: Tick) -> None:
        tick(0, 1, "asleep")
        time.sleep(600)


def wait_for(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether the process is no more; a zombie is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def pids(folder: Path) -> dict[str, int]:
    return {path.stem: int(text) for path in folder.glob("*.pid") if (text := path.read_text())}


def ends(folder: Path, count: int, *names: str) -> dict[str, Event]:
    """Do the jobs, and give what ended each."""
    with Pool(count, folder / "logs") as pool:
        events = [*pool.perform([Work(name, folder) for name in names])]
    return {names[event.job]: event for event in events if event.kind != "at work"}


def test_jobs_run_side_by_side_and_workers_are_used_again(tmp_path: Path) -> None:
    found = ends(tmp_path, 2, "meet-1", "meet-2", "well-1", "well-2", "well-3")
    assert {event.kind for event in found.values()} == {"done"}
    assert len(found) == 5
    assert len(set(pids(tmp_path).values())) == 2
    assert not list((tmp_path / "logs").iterdir()), "nothing was said"


def test_what_goes_wrong_with_one_job_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    found = ends(tmp_path, 1, "refuse", "crash", "die", "well")
    assert {name: event.kind for name, event in found.items()} == {
        "refuse": "refused",
        "crash": "lost",
        "die": "lost",
        "well": "done",
    }
    assert (found["refuse"].told, found["refuse"].hint) == ("not so", "do it otherwise")
    assert found["crash"].told == "ZeroDivisionError: by nothing"
    log = Path(found["crash"].hint).read_text()
    assert "said before" in log
    assert "Traceback" in log
    assert "_crash" in log
    assert f"{-signal.SIGKILL}" in found["die"].told
    own = pids(tmp_path)
    assert own["refuse"] == own["crash"] == own["die"] != own["well"]


def test_leaving_the_pool_ends_its_workers(tmp_path: Path) -> None:
    def leave() -> None:
        with Pool(2, tmp_path / "logs") as pool:
            for event in pool.perform([Work("sleep-1", tmp_path), Work("sleep-2", tmp_path)]):
                assert (event.kind, event.told) == ("at work", "asleep, 0 %")
                wait_for(lambda: len(pids(tmp_path)) == 2)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert all(gone(pid) for pid in pids(tmp_path).values())


PARENT = """
import sys
sys.path[:] = {path!r}
from pathlib import Path
from test_study_pool import Pool, Work
if __name__ == "__main__":
    folder = Path({folder!r})
    with Pool(2, folder / "logs") as pool:
        list(pool.perform([Work("sleep-1", folder), Work("sleep-2", folder)]))
"""


def test_no_worker_outlives_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(path=sys.path, folder=str(tmp_path)))
    with subprocess.Popen([sys.executable, script]) as parent:
        wait_for(lambda: len(pids(tmp_path)) == 2)
        assert not any(gone(pid) for pid in pids(tmp_path).values())
        parent.kill()
    wait_for(lambda: all(gone(pid) for pid in pids(tmp_path).values()))
