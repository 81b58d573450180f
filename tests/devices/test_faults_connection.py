"""The connection breaks, over real OpenSSH: what is told, what is left, and that a second try ends well."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
from faults import (
    arrived,
    at_the_moment,
    clients,
    content_of,
    doors_open,
    ends_well,
    impatient,
    nothing_runs,
    two_lines,
    waited_for,
)
from small_bundles import QUICK, onnx_bundle

from devices.deploy import measure_on
from runtimes.errors import UserError

MEGABYTES = 100  # in files of 32: over loopback they take more than half a second
LONG = QUICK.changed(
    rounds=3000, max_samples=10**6, options={"busy_us": "1000"}
)  # minutes; `ends_well` asks for two rounds
TIME_OUTS = [pytest.param(impatient, id="short"), pytest.param(nullcontext, id="real", marks=pytest.mark.slow)]


@pytest.fixture(scope="module")
def big(tmp_path_factory) -> Path:
    """A bundle whose transfer takes a while. No test changes it."""
    return onnx_bundle(tmp_path_factory.mktemp("big"), megabytes=MEGABYTES)


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    """A bundle whose measurement takes minutes, unless it is asked for fewer rounds. No test changes it."""
    return onnx_bundle(tmp_path_factory.mktemp("long"), LONG, runtime="null")


def some_but_not_all(server, bundle: Path) -> bool:
    return 0 < len(arrived(server)) < len(list(bundle.glob("inputs/*.npy")))


def test_a_push_that_is_cut_goes_on_by_itself(own, own_device, big):
    with at_the_moment(lambda: some_but_not_all(own, big), own.cut) as moment:
        place = Path(own_device.push(big))
    assert moment.came, "it was cut while it ran"
    assert content_of(place) == content_of(big)


def test_a_push_to_a_host_that_goes_down_is_told_and_the_next_one_sends_only_the_rest(own, own_device, big):
    before = content_of(big)
    with at_the_moment(lambda: some_but_not_all(own, big), own.stop) as moment, pytest.raises(UserError) as caught:
        own_device.push(big)
    assert moment.came
    assert own.url.rpartition("@")[2].partition(":")[0] in two_lines(caught)
    assert content_of(big) == before
    kept = {path: path.stat().st_ino for path in arrived(own)}
    assert kept
    own.start()
    place = Path(own_device.push(big))
    assert content_of(place) == before
    assert {path: path.stat().st_ino for path in kept} == kept, "what had arrived was not sent again"


def test_a_pull_that_is_cut_goes_on_by_itself(own, own_device, tmp_path):
    place, content = _large_file_there(own)
    with at_the_moment(lambda: any(tmp_path.glob("here/*")), own.cut) as moment:
        own_device.pull(place, ["large.bin"], tmp_path / "here")
    assert moment.came
    assert (tmp_path / "here/large.bin").read_bytes() == content
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["large.bin"]


def test_a_pull_from_a_host_that_goes_down_leaves_what_was_here(own, own_device, tmp_path):
    place, content = _large_file_there(own)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/large.bin").write_bytes(b"of an earlier pull")
    with (
        at_the_moment(lambda: len(list(tmp_path.glob("here/*"))) > 1, own.stop) as moment,
        pytest.raises(UserError) as caught,
    ):
        own_device.pull(place, ["large.bin"], tmp_path / "here")
    assert moment.came
    two_lines(caught)
    assert content_of(tmp_path / "here") == {"large.bin": b"of an earlier pull"}
    own.start()
    own_device.pull(place, ["large.bin"], tmp_path / "here")
    assert content_of(tmp_path / "here") == {"large.bin": content}


def _large_file_there(server) -> tuple[str, bytes]:
    place = server.home / "made there"
    place.mkdir()
    content = os.urandom(1 << 20) * 200
    (place / "large.bin").write_bytes(content)
    return str(place), content


def test_a_measurement_that_is_cut_is_told_ends_there_and_can_be_repeated(own, own_device, long, tmp_path):
    before = content_of(long)
    steps: list[str] = []
    with at_the_moment(lambda: len(steps) > 3, own.cut) as moment, pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
    assert moment.came
    assert "connection" in two_lines(caught)
    assert nothing_runs(own)
    assert not (tmp_path / "results").exists()
    assert content_of(long) == before
    ends_well(own_device, long, tmp_path / "results", "null")


def test_a_host_that_goes_down_while_it_measures_can_be_measured_once_it_is_back(own, own_device, long, tmp_path):
    steps: list[str] = []
    with at_the_moment(lambda: len(steps) > 3, own.stop), pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
    two_lines(caught)
    with pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results")
    assert "refused" in two_lines(caught)
    own.start()
    ends_well(own_device, long, tmp_path / "results", "null")


@pytest.mark.parametrize("time_outs", TIME_OUTS)
def test_a_host_that_falls_silent_while_it_measures_is_given_up(own, own_device, long, tmp_path, time_outs):
    """The network swallows everything: no reset tells that, only that nothing is heard for a while."""
    steps: list[str] = []
    frozen = own.frozen()
    began = time.monotonic()
    with (
        time_outs(),
        at_the_moment(lambda: len(steps) > 3, frozen.__enter__),
        pytest.raises(UserError) as caught,
    ):
        measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
    assert time.monotonic() - began < 60
    two_lines(caught)
    frozen.__exit__(None, None, None)
    assert nothing_runs(own, 45), own.commands()
    ends_well(own_device, long, tmp_path / "results", "null")


def test_a_board_that_hears_nothing_from_here_any_more_ends_what_it_runs(own, own_device, long, tmp_path, monkeypatch):
    """The lid of the host is closed: no connection ends, but no heartbeat comes."""
    monkeypatch.setattr("devices.ssh.call.BEAT_S", 0.5)
    monkeypatch.setattr("devices.ssh.call.SILENCE_S", 3.0)
    steps: list[str] = []
    ended: list[bool] = []

    def close_the_lid() -> None:
        pids = list(clients(own))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        ended.append(bool(pids) and nothing_runs(own, 20))
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    with at_the_moment(lambda: len(steps) > 3, close_the_lid), pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
    assert "it heard nothing from here for 3 s, and ended what ran there" in two_lines(caught)
    assert ended == [True]
    ends_well(own_device, long, tmp_path / "results", "null")


@pytest.mark.parametrize("time_outs", TIME_OUTS)
def test_a_host_that_answers_nothing_at_all_is_told_in_seconds(own, own_device, long, tmp_path, time_outs):
    began = time.monotonic()
    with time_outs(), own.frozen(), pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results")
    assert time.monotonic() - began < 45
    assert "timed out" in two_lines(caught) or "does not answer" in two_lines(caught)
    doors_open(own_device, long, tmp_path / "doors")


def test_a_host_with_another_key_is_refused_with_the_way_out(own, own_device, long, tmp_path):
    own.trust(own.folder / "user_key.pub")
    with pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results")
    assert "ssh-keygen" in two_lines(caught)
    (own.folder / "known_hosts").write_text("")
    with pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results")
    assert "ssh-keyscan" in two_lines(caught)
    own.trust(own.folder / "host_key.pub")
    doors_open(own_device, long, tmp_path / "doors")


MEASURES = """
import sys
from pathlib import Path
from devices import open_device
from devices.deploy import measure_on
url, config, python, bundle, results = sys.argv[1:]
device = open_device(url, ssh_config=Path(config), python=python)
try:
    measure_on(device, Path(bundle), Path(results), on_progress=lambda *step: print(step, flush=True))
finally:
    device.close()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_end_of_the_host_is_the_end_of_the_measurement(own, own_device, long, tmp_path, how):
    """Ctrl-C, and `kill -9`, by which nothing of ours can say goodbye."""
    arguments = [own.url, str(own.ssh_config), own.python, str(long), str(tmp_path / "results")]
    with subprocess.Popen(
        [sys.executable, "-c", MEASURES, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as host:
        assert host.stdout is not None
        host.stdout.readline()
        assert any("runtimes" in line for line in own.commands().values())
        host.send_signal(how)
        assert host.wait(30) != 0
    assert nothing_runs(own, 15), own.commands()
    assert not (tmp_path / "results").exists()
    if how == signal.SIGKILL:  # the connection itself waits a minute for another call
        assert all("ControlPersist=" in line for line in clients(own).values()), clients(own)
        own.cut()
    assert waited_for(lambda: not clients(own)), clients(own)
    ends_well(own_device, long, tmp_path / "results", "null")


@pytest.mark.parametrize(
    ("words", "told"),
    [("-E -c import sys", "lost"), ("-m runtimes measure", "SIGKILL"), ("-m runtimes.worker", "SIGKILL")],
)
def test_a_process_of_ours_that_is_killed_there_takes_the_others_along(own, own_device, long, tmp_path, words, told):
    """As where memory runs out: ours beside the command, the command, and one of its engines."""
    steps: list[str] = []

    def kill_one() -> None:
        os.kill(next(pid for pid, line in own.commands().items() if words in line), signal.SIGKILL)

    with at_the_moment(lambda: len(steps) > 3, kill_one) as moment, pytest.raises(UserError) as caught:
        measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
    assert moment.came
    assert told in two_lines(caught)
    assert nothing_runs(own), own.commands()
    doors_open(own_device, long, tmp_path / "doors")


def test_only_what_we_started_is_ended(own, own_device, long, tmp_path):
    """A process of the same user on the board, also a Python, lives through a cut measurement."""
    words = ["ssh", "-F", str(own.ssh_config), own.url, f"{own.python} -c 'import time; time.sleep(600)'"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as other:
        assert waited_for(lambda: any("time.sleep(600)" in line for line in own.commands().values()))
        sessions = own.sessions()
        steps: list[str] = []
        with at_the_moment(lambda: len(steps) > 3, lambda: own.cut(spared=sessions)), pytest.raises(UserError):
            measure_on(own_device, long, tmp_path / "results", on_progress=lambda name, *_: steps.append(name))
        own_device.close()
        assert waited_for(lambda: not [line for line in own.commands().values() if "runtimes" in line])
        assert [line for line in own.commands().values() if "time.sleep(600)" in line]
        other.kill()
    for pid, line in own.commands().items():
        if "time.sleep(600)" in line:
            os.kill(pid, signal.SIGKILL)
