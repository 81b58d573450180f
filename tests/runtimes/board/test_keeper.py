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
from fake_programs import Board, set_mode

from runtimes import sampler
from runtimes.board import keeper, settings
from runtimes.board.settings import Settings, applied, kept_in, settings_left
from runtimes.errors import UserError

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
    process = subprocess.Popen([sys.executable, "-S", "-c", MEASURES], stdout=subprocess.PIPE, text=True)
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
    return json.loads((kept_in()[0] / "settings.json").read_text())


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
    """By a process with a session of its own and none of our outputs: an ssh session ends when these are closed, even
    while the board is being restored."""
    keeper = journal()["keeper"]
    assert journal()["state"] == "changed"
    assert settings_left(board.root) == (None, "a measurement is at work that has changed them, and restores them")
    assert os.getsid(keeper) == keeper
    ours = {Path(f"/proc/{measuring.pid}/fd/{number}").readlink() for number in (1, 2)}
    assert ours.isdisjoint(path.readlink() for path in Path(f"/proc/{keeper}/fd").iterdir())
    with board.held("jetson_clocks"):
        measuring.kill()
        assert measuring.stdout.read() == ""
        assert lives(keeper), "it is still restoring"
    wait_until(lambda: not lives(keeper))
    assert own(board)
    assert (journal()["state"], journal()["problems"]) == ("restored", [])
    assert journal()["settings"]["power_mode"]["asked"] == "MAXN_SUPER"


def test_sigterm_ends_the_measuring_process_when_the_settings_are_back(board, measuring):
    measuring.terminate()
    assert measuring.wait(PATIENCE_S) == 143
    assert own(board)
    assert journal()["state"] == "restored"


def test_a_keeper_that_is_asked_to_end_restores_first_and_ctrl_c_in_the_terminal_does_not_ask_it(board, measuring):
    keeper = journal()["keeper"]
    os.kill(keeper, signal.SIGINT)
    time.sleep(0.3)
    assert lives(keeper)
    assert changed(board)
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


def test_two_measurements_never_change_a_board_at_once_whoever_starts_them(board, measuring, monkeypatch, tmp_path):
    """The second waits until the first has restored, or it would take MAXN_SUPER for the board's own mode; another
    user's journal does not say what the first has changed."""
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    found = []

    def measure():
        with applied(Settings(power_mode="15W"), str, board.root) as report:
            found.append(report["power_mode"]["before"]["name"])

    second = threading.Thread(target=measure)
    with board.held("jetson_clocks"):
        asked = len(board.all_calls())
        second.start()
        wait_until(lambda: len(keepers_at_work(board)) == 2)
        measuring.kill()
        wait_until(lambda: len(board.all_calls()) > asked)
        second.join(0.3)
        assert second.is_alive()
        assert changed(board)
        assert [name for name, _, _ in board.all_calls()[asked:]] == ["jetson_clocks"]
    second.join(PATIENCE_S)
    assert found == ["25W"]
    assert own(board)


CALLS = ["nvpmodel -q", "nvpmodel -m", "nvpmodel -q", "nvpmodel -q", "jetson_clocks --store", "jetson_clocks "]


def test_a_kill_in_the_middle_of_the_change_leaves_nothing_changed(board):
    """At the switch, right after it, and when the clocks are about to be fixed."""
    for number, found in ((2, "as it was"), (3, "changed"), (6, "changed")):
        before = len(board.all_calls())
        with board.held(before + number):
            process = subprocess.Popen([sys.executable, "-S", "-c", MEASURES], stdout=subprocess.DEVNULL)
            wait_until(lambda: len(board.all_calls()) == before + number)  # noqa: B023  # it is called here
            assert ("as it was" if own(board) else "changed") == found
            process.kill()
            process.wait()
        wait_until(lambda: not keepers_at_work(board))
        assert own(board)
        calls = [f"{name} {' '.join(words[:1])}" for name, words, _ in board.all_calls()[before:]]
        assert calls[:number] == CALLS[:number]


# What a measurement left behind ------------------------------------------------------------------------------------


@pytest.fixture
def left(board, measuring):
    """The board as it is when a measurement and its keeper have been killed."""
    keeper = journal()["keeper"]
    os.kill(keeper, signal.SIGKILL)
    measuring.kill()
    measuring.wait()
    wait_until(lambda: not lives(keeper))  # a kill is not the end yet, and the lock goes with the end
    assert changed(board)
    return board


def lines_of_a_next_measurement(board):
    said = []
    with applied(Settings(power_mode="15W"), said.append, board.root) as report:
        assert board.mode() == "15W"
    return report["power_mode"]["before"]["name"], said[:-2]


def test_what_was_left_changed_is_restored_by_the_next_measurement_which_says_so(left):
    assert "power mode 25W, the clocks' ranges not restored since" in settings_left(left.root).value
    assert sampler.facts(root=left.root)["settings_left"] == settings_left(left.root).value
    before, said = lines_of_a_next_measurement(left)
    since = said[0].rpartition(" ")[2]
    assert said == [
        f"restored power mode 25W, left by a measurement of {since}",
        f"restored the clocks' ranges, left by a measurement of {since}",
    ]
    assert before == "25W"
    assert own(left)
    assert settings_left(left.root).value is None
    assert list(kept_in()[0].glob("clocks-*")) == []


def test_what_somebody_has_chosen_since_is_left_alone(left):
    """The switch also let the clocks go."""
    set_mode(Board(str(left.folder)), "0")
    assert settings_left(left.root).value is None
    assert lines_of_a_next_measurement(left) == ("15W", [])
    assert left.mode() == "15W"
    assert settings_left(left.root).value is None


def test_after_a_power_cut_the_mode_that_outlived_it_is_restored_and_the_clocks_are_as_they_are(left):
    set_mode(Board(str(left.folder)), "2")
    before, [said] = lines_of_a_next_measurement(left)
    assert said.startswith("restored power mode 25W, left by ")
    assert before == "25W"
    assert own(left)
    assert list(kept_in()[0].glob("clocks-*")) == []


def test_what_could_not_be_restored_is_tried_again_by_the_next(left):
    left.behave(silent=[1])
    with pytest.raises(UserError) as raised, applied(Settings(power_mode="15W"), str, left.root):
        pass
    assert raised.value.message == "an earlier measurement could not restore this board's settings"
    assert (
        settings_left(left.root).value
        == "not restored: the power mode was not restored: run `sudo nvpmodel -m 1` (25W)"
    )
    left.behave(silent=[])
    assert lines_of_a_next_measurement(left)[0] == "25W"
    assert own(left)


# Failures of the keeper itself -------------------------------------------------------------------------------------


def full(path, content):
    raise UserError(f"no room to write {path}", "free some space")


@pytest.fixture
def noted(board, monkeypatch):
    """A journal with one change, on a disk that is full from then on."""
    monkeypatch.setattr(keeper, "ROOT", board.root)
    kept_in()[0].mkdir(parents=True)
    journal = keeper.Journal(kept_in()[0])
    journal.note({"do": "power_mode", "set": ["power_mode", 2], "name": "25W", "id": 1})
    set_mode(Board(str(board.folder)), "2")
    monkeypatch.setattr(keeper, "write_json", full)
    return journal


def test_on_a_full_disk_the_settings_come_back_and_no_journal_says_otherwise(board, noted):
    assert noted.undo(board.root) == []
    assert own(board)
    assert not noted.path.exists()
    assert noted.undo(board.root) == [], "nor where it could not be written in the first place"


def test_on_a_full_disk_the_journal_of_what_is_still_changed_stays(board, noted, monkeypatch):
    monkeypatch.setattr(keeper.time, "sleep", lambda seconds: None)
    board.behave(silent=[1])
    assert len(noted.undo(board.root)) == 1
    assert journal()["state"] == "changed"
    assert "power mode 25W not restored" in settings_left(board.root).value


def test_restored_and_not_noted_is_told_when_the_journal_can_neither_be_written_nor_deleted(board):
    """Its folder is a file meanwhile: nobody may write into that, not even root."""
    with applied(Settings(power_mode="MAXN_SUPER"), str, board.root) as report:
        kept_in()[0].rename(kept_in()[0].with_name("away"))
        kept_in()[0].touch()
    assert own(board)
    assert report["problems"] == [f"restored, but not noted: delete {kept_in()[0] / 'settings.json'}"]
    assert report["power_mode"]["restored"]["name"] == "25W"


def test_a_lock_that_cannot_be_had_is_an_answer_and_no_traceback(board, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", board.root)
    (board.root / "sys").rename(board.root / "away")
    with pytest.raises(UserError) as raised, applied(Settings(power_mode="15W"), str, board.root):
        pass
    assert raised.value.message.startswith("this board's settings cannot be kept: [Errno 2] ")
    assert str(board.root / "sys") in raised.value.message


def stands_in(tmp_path, program):
    """A process in the keeper's place."""
    chatter = (tmp_path / "chatter").open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=chatter, bufsize=0
    )
    return settings._Keeper(process, chatter)


def closed(keeper):
    keeper.process.wait(PATIENCE_S)
    keeper.process.stdout.close()
    keeper.process.stdin.close()
    keeper.chatter.close()


def test_the_last_line_of_a_keeper_that_fails_is_quoted(tmp_path, board):
    failing = stands_in(tmp_path, "import sys; sys.stdin.readline(); print('noise', file=sys.stderr); 1 / 0")
    with pytest.raises(UserError) as raised:
        settings._asked(failing, Settings(power_mode="15W"))
    assert raised.value.message.endswith("gave no answer: ZeroDivisionError: division by zero")
    closed(failing)


def test_a_keeper_that_fails_when_it_is_to_restore_is_a_problem_and_no_traceback(tmp_path, board):
    failing = stands_in(tmp_path, """print('{"error": ["no rights", "ask for them"]}')""")
    report = {"problems": []}
    settings._restore(failing, report, board.root)
    assert report == {"problems": ["no rights", "ask for them"]}
    closed(failing)


WAITS = """
import json, sys
from runtimes.board.settings import Settings, applied
import signal
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
try:
    with applied(Settings("MAXN_SUPER"), lambda line: None) as report:
        print("at work", flush=True)
        sys.stdin.read()
finally:
    print(json.dumps(report), flush=True)
"""


def test_a_report_that_is_written_before_the_settings_are_back_says_so(board):
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", WAITS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stdout.readline() == "at work\n"
    calls = len(board.all_calls())
    with board.held("nvpmodel"):
        process.stdin.close()
        wait_until(lambda: len(board.all_calls()) > calls)
        process.terminate()
        time.sleep(0.2)
    report = json.loads(process.stdout.readline())
    assert report["problems"] == ["not yet restored"]
    assert process.wait(PATIENCE_S) == 143
    process.stdout.close()
    assert own(board)


def keepers_at_work(board):
    """Processes of this test's own board: others test at the same time."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = f"EDGEPRUNE_ROOT={board.root}".encode() in (path / "environ").read_bytes().split(b"\0")
            if ours and b"runtimes.board.keeper" in (path / "cmdline").read_bytes() and lives(path.name):
                found.append(path.name)
    return found
