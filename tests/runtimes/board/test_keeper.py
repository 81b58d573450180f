"""The settings come back when the measuring process is killed, when their keeper is, and when both are."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from architecture_rules import ROOT
from fake_boards import make_board

from runtimes.board.settings import Settings, applied, kept_in

PATIENCE_S = 30.0
MEASURES = """
import signal, sys, time
from runtimes.board.settings import Settings, applied
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with applied(Settings("MAXN_SUPER", lock_clocks=True), lambda line: print(line, file=sys.stderr)):
    print("at work", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def board(tmp_path, monkeypatch):
    board = make_board(tmp_path / "board", "orin-nano-super")
    for variable, value in board.environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    return board


@pytest.fixture
def measuring(board):
    """A process that has changed the settings and is at work."""
    process = subprocess.Popen([sys.executable, "-c", MEASURES], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    assert changed(board)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def changed(board):
    return board.mode() == "MAXN_SUPER" and board.gpu_range() == (1020000000, 1020000000)


def own(board):
    return board.mode() == "25W" and board.gpu_range() == (306000000, 918000000)


def journal():
    return json.loads((kept_in() / "settings.json").read_text())


def wait_until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.05)


def lives(pid):
    """A zombie does not: it only waits for whoever started it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_kill_9_of_the_measuring_process_restores_and_leaves_a_record(board, measuring):
    keeper = journal()["keeper"]
    assert journal()["state"] == "changed"
    measuring.kill()
    wait_until(lambda: journal()["state"] != "changed")
    assert own(board)
    assert (journal()["state"], journal()["problems"]) == ("restored", [])
    assert journal()["settings"]["power_mode"]["asked"] == "MAXN_SUPER"
    wait_until(lambda: not lives(keeper))


def test_the_keeper_has_a_session_of_its_own_and_none_of_our_outputs(board, measuring):
    """An ssh session ends when its outputs are closed, even while the board is being restored."""
    keeper = journal()["keeper"]
    assert os.getsid(keeper) == keeper
    ours = {Path(f"/proc/{measuring.pid}/fd/{number}").readlink() for number in (1, 2)}
    assert ours.isdisjoint(path.readlink() for path in Path(f"/proc/{keeper}/fd").iterdir())
    board.behave(slow_s={"jetson_clocks": 1.0})
    measuring.kill()
    assert measuring.stdout.read() == ""
    assert lives(keeper), "it is still restoring"
    wait_until(lambda: not lives(keeper))
    assert own(board)


def test_sigterm_ends_the_measuring_process_when_the_settings_are_back(board, measuring):
    measuring.terminate()
    assert measuring.wait(PATIENCE_S) == 143
    assert own(board)
    assert journal()["state"] == "restored"


def test_ctrl_c_in_the_terminal_does_not_reach_the_keeper_before_its_time(board, measuring):
    keeper = journal()["keeper"]
    os.kill(keeper, signal.SIGINT)
    time.sleep(0.3)
    assert lives(keeper)
    assert changed(board)


def test_a_keeper_that_is_asked_to_end_restores_first(board, measuring):
    keeper = journal()["keeper"]
    os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: not lives(keeper))
    assert own(board)
    assert journal()["state"] == "restored"


def test_when_the_keeper_is_killed_another_one_restores_from_the_journal(board, measuring):
    os.kill(journal()["keeper"], signal.SIGKILL)
    assert changed(board)
    measuring.terminate()
    assert measuring.wait(PATIENCE_S) == 143
    assert own(board)
    assert journal()["state"] == "restored"


def test_when_both_are_killed_the_next_measurement_starts_from_the_own_settings(board, measuring):
    os.kill(journal()["keeper"], signal.SIGKILL)
    measuring.kill()
    measuring.wait()
    assert changed(board)
    with applied(Settings(power_mode="15W"), str, board.root) as report:
        assert report["power_mode"]["before"]["name"] == "25W"
        assert board.mode() == "15W"
    assert own(board)


def test_a_measurement_waits_until_the_one_before_has_restored(board, measuring):
    """Or it would take MAXN_SUPER for the board's own mode, and leave it in that."""
    board.behave(slow_s={"nvpmodel": 0.5})
    measuring.kill()
    with applied(Settings(power_mode="15W"), str, board.root) as report:
        assert report["power_mode"]["before"]["name"] == "25W"
    assert own(board)


def test_two_measurements_never_change_a_board_at_once(board, measuring):
    """The second waits for the first to end; it does not take its changes for forgotten ones."""
    found = []

    def measure():
        with applied(Settings(power_mode="15W"), str, board.root) as report:
            found.append(report["power_mode"]["before"]["name"])

    second = threading.Thread(target=measure)
    second.start()
    second.join(1.5)
    assert second.is_alive()
    assert changed(board)
    measuring.terminate()
    second.join(PATIENCE_S)
    assert found == ["25W"]
    assert own(board)


def test_a_kill_at_any_moment_of_the_change_leaves_nothing_changed(board):
    """From before the first step to after the last one, which take about half a second together."""
    for delay_s in (0.05, 0.15, 0.25, 0.35, 0.45, 0.6):
        process = subprocess.Popen([sys.executable, "-c", MEASURES], stdout=subprocess.DEVNULL)
        time.sleep(delay_s)
        process.kill()
        process.wait()
        wait_until(lambda: not keepers_at_work())
        assert own(board), f"killed after {delay_s} s"


def keepers_at_work():
    """Processes of this test's own home: others test at the same time."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"HOME={os.environ['HOME']}".encode() in (path / "environ").read_bytes().split(b"\0")
            if ours and b"runtimes.board.keeper" in (path / "cmdline").read_bytes() and lives(path.name):
                found.append(path.name)
    return found
