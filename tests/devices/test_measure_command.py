"""`edgeprune measure`, `report`, `doctor` and `compare` with boards behind a real OpenSSH server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Called, call
from sshd import Server
from whole_run import Run

ALONE = ["--runtime", "ort"]  # one runtime is enough to see what a connection does


@pytest.fixture
def run(whole: Run, tmp_path: Path) -> Path:
    """A copy of the small run as it is before anything was measured. A test may change it."""
    left = shutil.ignore_patterns("5-measure", "6-report")
    return Path(shutil.copytree(whole.folder, tmp_path / "run", ignore=left))


def through(server: Server) -> list[str]:
    """The options that name the server as a device."""
    return ["--device", server.url, "--ssh-config", str(server.ssh_config), "--python", server.python]


def measured(run: Path, device: str, network: str = "sparse") -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "5-measure" / device / f"ort-{network}.json").read_text())
    return content


def of(server: Server) -> str:
    """The device's name, as a folder's."""
    return server.url.removeprefix("ssh://").replace(":", "-")


def test_a_board_over_ssh_answers_as_this_machine_does_and_the_report_says_where_each_number_is_from(
    run: Path, server: Server, tmp_path: Path
) -> None:
    asked = ["measure", run, *ALONE, "--device", "local", *through(server)]
    code, out, err = call(*asked, says=tmp_path / "measure").wait()
    assert code == 0, err
    assert len(out.splitlines()) == 2 * 4, "four networks on each"
    assert f"measure on {of(server)}: " in err
    lines = [line.removeprefix("by hand: ") for line in err.splitlines() if line.startswith("by hand: ")]
    assert len(lines) == 2
    (there,) = [line for line in lines if line.startswith("ssh ")]
    options = " --network sparse --passes 1 --rounds 1 --no-accuracy"
    done = subprocess.run(["sh", "-c", there.rstrip("'") + options + "'"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["measurements"] == ["ort-sparse.json"]
    for network in ("teacher", "dense", "pruned", "sparse"):
        here, there = measured(run, "local", network), measured(run, of(server), network)
        assert (here["top1"], here["images"]) == (there["top1"], there["images"])
        answers = [np.load(run / "5-measure" / m["device"] / m["outputs"]["file"]) for m in (here, there)]
        np.testing.assert_array_equal(*answers)
    code, _, err = call("report", run, says=tmp_path / "report").wait()
    assert code == 0, err
    report = json.loads((run / "6-report" / "report.json").read_text())
    assert {row["device"] for row in report["rows"]} == {"local", of(server)}
    for row in report["rows"]:
        told = json.loads((run / row["source"]).read_text())
        assert (told["latency_ms"]["median"], told["top1"]) == (row["latency_ms"]["median"], row["top1"])


def test_what_one_board_measured_is_kept_when_another_one_fails(run: Path, server: Server, tmp_path: Path) -> None:
    entries = (
        f'[fine]\nurl = "{server.url}"\nssh_config = "{server.ssh_config}"\npython = "{server.python}"\n'
        f'[bare]\nurl = "{server.url}"\nssh_config = "{server.ssh_config}"\npython = "{server.bare_python}"\n'
    )
    (tmp_path / "devices.toml").write_text(entries)
    environment = {"EDGEPRUNE_DEVICES": str(tmp_path / "devices.toml")}
    asked = ["measure", run, "--device", "fine", "--device", "bare", "--runtime", "null"]
    code, _, err = call(*asked, says=tmp_path / "says", environment=environment).wait()
    assert code == 2
    message, hint = err.splitlines()[-2:]
    assert message.startswith("error: bare: ")
    assert "numpy" in message
    assert "1 of 2 devices were measured, and kept" in message
    assert "-m pip install numpy" in hint
    assert (run / "5-measure" / "fine" / "null-sparse.json").is_file()
    assert not (run / "5-measure" / "bare").exists()
    assert not list(run.glob(".measuring-*"))


def test_the_doctor_looks_at_a_board(server: Server, edgeprune) -> None:
    code, out, err = edgeprune("doctor", *through(server))
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if line.startswith("ok ") and " numpy " in line]
    bare = ["--device", server.url, "--ssh-config", str(server.ssh_config), "--python", server.bare_python]
    code, out, _ = edgeprune("doctor", *bare)
    assert code == 1
    (line,) = [line for line in out.splitlines() if line.split()[:2] == ["MISSING", "numpy"]]
    assert f"{server.bare_python} -m pip install numpy" in line


def test_the_same_board_twice_is_two_lines(run: Path, server: Server, edgeprune) -> None:
    code, out, err = edgeprune("measure", run, *through(server), "--device", server.url)
    assert (code, out) == (2, "")
    assert err.splitlines()[-2] == f"error: device {of(server)} is named twice"


def test_ctrl_c_ends_what_runs_on_the_board_and_the_next_call_ends_well(run: Path, own: Server, tmp_path: Path) -> None:
    asked = ["measure", run, *through(own), "--protocol", "mlperf-like", "--runtime", "null"]
    at_work: Called = call(*asked, says=tmp_path / "stopped")
    deadline = time.monotonic() + 60
    while not any("runtimes.worker" in line for line in own.commands().values()):
        assert time.monotonic() < deadline, (tmp_path / "stopped" / "stderr").read_text()
        time.sleep(0.1)
    assert at_work.process.pid is not None
    os.kill(at_work.process.pid, signal.SIGINT)
    code, _, err = at_work.wait()
    assert code == 130, err
    deadline = time.monotonic() + 40
    while own.commands() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not own.commands()
    assert not list(run.glob("5-measure/*/*.json"))
    code, out, err = call("measure", run, *through(own), "--runtime", "null", says=tmp_path / "again").wait()
    assert code == 0, err
    assert len(out.splitlines()) == 4


def test_two_networks_are_measured_in_turns_on_a_board_and_held_to_limits(
    run: Path, server: Server, tmp_path: Path
) -> None:
    """A network beside itself: nothing may be called faster, and the limit on speed is not kept."""
    out = tmp_path / "both"
    asked = ["compare", f"{run}:dense", f"{run}:dense", *ALONE, *through(server), "--out", out, "--format", "json"]
    limits = ["--min-top1", "1", "--min-speedup", "5", "--junit", tmp_path / "junit.xml"]
    code, said, err = call(*asked, *limits, says=tmp_path / "says").wait()
    assert code == 16, err
    told = json.loads(said)
    assert (told["a"], told["b"], told["alone"]) == (f"{run}:dense", f"{run}:dense", [])
    (pair,) = told["pairs"]
    assert (pair["device"], pair["a"], pair["b"], pair["together"]) == (of(server), "a", "b", True)
    assert pair["top1_difference"] == 0
    assert pair["differing_answers"] == 0
    assert pair["verdict"] != "faster" or pair["latency_ratio"] > 0.8
    assert pair["noise_floor"] > 0
    assert "FAILED  --min-speedup" in err
    assert "passed  --min-top1" in err
    assert (tmp_path / "junit.xml").read_text().count("<testcase") == 2
    code, said, err = call(
        "compare", f"{run}:dense", run, "--device", "local", "--out", run, says=tmp_path / "n"
    ).wait()
    assert code == 2
    assert err.splitlines()[-2] == f"error: {run} is there and holds something else"


def test_the_other_way_round_in_the_same_folder_is_another_comparison(run: Path, tmp_path: Path) -> None:
    shared = [*ALONE, "--device", "local", "--out", tmp_path / "both", "--format", "json"]
    differences = []
    for number, names in enumerate((["dense", "pruned"], ["pruned", "dense"])):
        sides = [f"{run}:{name}" for name in names]
        code, said, err = call("compare", *sides, *shared, says=tmp_path / str(number)).wait()
        assert code == 0, err
        (pair,) = json.loads(said)["pairs"]
        differences.append(pair["top1_difference"])
        assert {"a", "b"} == {path.stem.removeprefix("ort-") for path in (tmp_path / "both/5-measure").rglob("*.json")}
    assert differences[0] == -differences[1]
    assert differences[0], "or exchanging them would show nothing"
