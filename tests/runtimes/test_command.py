"""`python -m runtimes`, as a person types it in the bundle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fake_boards import make_board

from runtimes import RUNTIMES
from runtimes.records import Measurement

LONG = ["--runtime", "null", "--rounds", "5000"]


def command(bundle, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "runtimes", *arguments], cwd=bundle, capture_output=True, text=True, check=False
    )


def started(bundle, *more, **environment):
    """A measurement that would take minutes, in its first rounds, and the process ids of its children.

    It hears a hangup, also where the tests were started by `nohup`.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "runtimes", "measure", ".", *LONG, *more],
        cwd=bundle,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    while " round " not in process.stderr.readline():
        assert process.poll() is None
    return process, [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def all_end(pids):
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, pids))


def test_the_last_line_is_json_and_results_lie_in_the_bundle(bundle):
    finished = command(
        bundle, "measure", ".", "--runtime", "null", "--network", "sparse", "--rounds", "2", "--batch", "3",
        "--passes", "2", "--builds", "1", "--cpus", "0-0", "--sample-s", "0",
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert answer["measurements"] == ["null-sparse.json"]
    assert answer["outputs"] == []
    found = Measurement.read(bundle / "results" / "null-sparse.json")
    assert (len(found.latency_ns), found.batch, found.bundle) == (4, 3, answer["bundle"])
    assert (found.workload["passes"], found.workload["builds"], found.workload["cpus"]) == (2, 1, [0])
    assert (found.settings, found.reasons["settings"]) == (None, "no setting was asked for")
    assert (found.workload["sample_s"], found.watch) == (0, None)
    assert found.argv[1:5] == ["-m", "runtimes", "measure", "."]
    assert finished.stderr.splitlines()[-1].startswith("progress 7/7 ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runtime", "orrt"], "unknown runtime 'orrt'\ndid you mean 'ort'?"),
        (["--network", "spars"], "unknown network 'spars'\ndid you mean 'sparse'?"),
        (["--protocol", "quik"], "unknown protocol 'quik'\ndid you mean 'quick'?"),
        (["--batch", "0"], "workload: batch is 0\n"),
        (["--passes", "0"], "workload: passes is 0\n"),
        (["--cpus", "0,x"], "--cpus 0,x is no list of processors\nfor example: --cpus 0-3,6"),
        (["--cpus", "3-1"], "--cpus 3-1 is no list of processors\n"),
        (["--runtime", "null", "--cpus", "4095"], "the engines cannot be kept to the processors 4095"),
        (["--sample-s", "0.001"], "workload: sample_s is 0.001\n"),
        (["--option", "busy"], "--option busy is not NAME=VALUE\n"),
        (["--runtime", "null", "--option", "busy_us=x"], "null: option busy_us is 'x'"),
    ],
)
def test_bad_arguments_are_two_lines_and_exit_code_2(bundle, arguments, says):
    finished = command(bundle, "measure", ".", *arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith(says)
    assert len(finished.stderr.splitlines()) == 2
    assert finished.stdout == ""
    assert not (bundle / "results").exists()


def test_a_power_mode_that_is_not_to_be_had_is_told_and_nothing_is_measured(bundle):
    finished = command(bundle, "measure", ".", "--runtime", "null", "--power-mode", "15W")
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[-2].startswith("there are no power modes here")
    assert not (bundle / "results").exists()


def test_a_changed_file_is_named(bundle):
    (bundle / "model.onnx").write_bytes(b"")
    finished = command(bundle, "measure", ".")
    assert finished.returncode == 2
    assert finished.stderr.startswith("model.onnx in the bundle")


def test_a_worker_killed_in_a_round_ends_the_measurement_with_its_name(bundle):
    process, (first, *others) = started(bundle)
    assert len(others) == 2  # dense's are the first and the twin
    os.kill(first, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    message, hint = stderr.splitlines()[-2:]
    assert message.startswith("network 'dense' on runtime 'null': its process was killed by SIGKILL")
    assert hint
    assert all_end(others)


ENDINGS = pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGINT, 130),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)


@ENDINGS
def test_workers_do_not_outlive_the_coordinator(bundle, number, code):
    process, workers = started(bundle)
    assert len(workers) == 3
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert all_end(workers)


@pytest.fixture
def nano(tmp_path):
    """An Orin Nano that does not exist, in its 25W mode, and the environment of what runs on it."""
    board = make_board(tmp_path / "board", "orin-nano-super")
    return board, {**board.environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_settings_hold_for_the_measurement_and_are_written_down_with_what_was_restored(bundle, nano):
    board, environment = nano
    asked = ["--power-mode", "15W", "--lock-clocks", "--runtime", "null", "--rounds", "5", "--passes", "1"]
    asked += ["--option", "busy_us=30000"]  # tegrastats prints ten lines a second: one for each round of two calls
    whole = {**os.environ, **environment}
    command = [sys.executable, "-m", "runtimes", "measure", ".", *asked]
    finished = subprocess.run(command, cwd=bundle, env=whole, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert board.mode() == "25W"
    found = Measurement.read(bundle / "results" / "null-dense.json")
    mode = found.settings["power_mode"]
    assert [mode[when]["name"] for when in ("before", "after", "restored")] == ["25W", "15W", "25W"]
    assert found.facts["clocks_pinned"]["before"]["gpu"] is True
    assert found.facts["power_mode"]["name"] == "15W"
    assert found.watch["source"] == found.power["source"] == "tegrastats"
    assert found.power["scope"] == "module"
    assert "settings" not in found.reasons
    codes = [doubt.code for doubt in found.warnings]
    assert "stand_in" in codes
    assert not {"unpinned", "not_restored"} & set(codes)


def test_a_board_that_is_left_alone_is_doubted_for_its_clock(bundle, nano):
    board, environment = nano
    command = [sys.executable, "-m", "runtimes", "measure", ".", "--runtime", "null", "--rounds", "1", "--passes", "1"]
    subprocess.run(command, cwd=bundle, env={**os.environ, **environment}, capture_output=True, check=True)
    found = Measurement.read(bundle / "results" / "null-dense.json")
    assert "unpinned" in [doubt.code for doubt in found.warnings]
    assert found.settings is None
    assert board.calls("sudo") == []


@ENDINGS
def test_the_board_is_as_it_was_however_the_measurement_ends(bundle, nano, number, code):
    """After SIGKILL, too: the keeper does it. tegrastats ends with the others."""
    board, environment = nano
    process, children = started(bundle, "--power-mode", "15W", **environment)
    mode = board.mode()
    said = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert all_end(children)
    assert mode == "15W"
    assert any(b"tegrastats" in words for words in said)
    deadline = time.monotonic() + 20
    while board.mode() != "25W" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert board.mode() == "25W"


def test_a_second_signal_does_not_stop_the_unwinding_of_the_first(tmp_path):
    """What is unwound here takes a second, and is done all the same."""
    code = (
        "import os, pathlib, signal, sys, time, runtimes.__main__ as command\n"
        "def measure(arguments):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)\n"
        "    finally:\n"
        "        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT): os.kill(os.getpid(), number)\n"
        "        pathlib.Path(sys.argv[1]).write_text('put back')\n"
        "command._COMMANDS['measure'] = measure\n"
        "sys.exit(command.main(['measure', '.']))"
    )
    finished = subprocess.run([sys.executable, "-c", code, tmp_path / "done"], check=False, timeout=50)
    assert finished.returncode == 128 + signal.SIGTERM
    assert (tmp_path / "done").read_text() == "put back"


def test_a_hangup_that_is_ignored_as_under_nohup_stays_ignored(bundle):
    code = (
        "import os, signal, sys, runtimes.__main__ as command\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "command._COMMANDS['measure'] = lambda arguments: os.kill(os.getpid(), signal.SIGHUP)\n"
        "sys.exit(command.main(['measure', '.']))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=50).returncode == 0


def test_probe_says_what_is_here(bundle):
    answer = json.loads(command(bundle, "probe").stdout.splitlines()[-1])
    assert set(answer["runtimes"]) == set(RUNTIMES)
    assert answer["runtimes"]["null"]["missing"] is None
    assert answer["facts"]["python"] == sys.version.split()[0]
