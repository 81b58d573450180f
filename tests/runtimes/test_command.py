"""`python -m runtimes`, as a person types it in the bundle."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtimes import RUNTIMES
from runtimes.records import Measurement

LONG = ["--runtime", "null", "--rounds", "10000"]


def command(bundle, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "runtimes", *arguments], cwd=bundle, capture_output=True, text=True, check=False
    )


def started(bundle):
    """A measurement that would take minutes, in its first rounds, and its two workers' process ids."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runtimes", "measure", ".", *LONG],
        cwd=bundle,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while " round " not in process.stderr.readline():
        assert process.poll() is None
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) == 2
    return process, workers


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
        bundle, "measure", ".", "--runtime", "null", "--network", "sparse", "--rounds", "2", "--batch", "3"
    )
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout.splitlines()[-1])
    assert answer["measurements"] == ["null-sparse.json"]
    assert answer["outputs"] == []
    found = Measurement.read(bundle / "results" / "null-sparse.json")
    assert (len(found.latency_ns), found.batch, found.bundle) == (2, 3, answer["bundle"])
    assert found.argv[1:5] == ["-m", "runtimes", "measure", "."]
    assert finished.stderr.splitlines()[-1].startswith("progress 4/4 ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--runtime", "orrt"], "unknown runtime 'orrt'\ndid you mean 'ort'?"),
        (["--network", "spars"], "unknown network 'spars'\ndid you mean 'sparse'?"),
        (["--protocol", "quik"], "unknown protocol 'quik'\ndid you mean 'quick'?"),
        (["--batch", "0"], "workload: batch is 0\n"),
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


def test_a_changed_file_is_named(bundle):
    (bundle / "model.onnx").write_bytes(b"")
    finished = command(bundle, "measure", ".")
    assert finished.returncode == 2
    assert finished.stderr.startswith("model.onnx in the bundle")


def test_a_worker_killed_in_a_round_ends_the_measurement_with_its_name(bundle):
    process, (first, second) = started(bundle)
    os.kill(first, signal.SIGKILL)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    message, hint = stderr.splitlines()[-2:]
    assert message.startswith("network 'dense' on runtime 'null': its process was killed by SIGKILL")
    assert hint
    assert all_end([second])


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_workers_do_not_outlive_the_coordinator(bundle, number, code):
    process, workers = started(bundle)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    assert all_end(workers)


def test_probe_says_what_is_here(bundle):
    answer = json.loads(command(bundle, "probe").stdout.splitlines()[-1])
    assert set(answer["runtimes"]) == set(RUNTIMES)
    assert answer["runtimes"]["null"]["missing"] is None
    assert answer["facts"]["python"] == sys.version.split()[0]
