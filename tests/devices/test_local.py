"""What every device does, over the table and over a real SSH server; and what is this machine's own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from devices import DEVICES, open_device
from devices.deploy import measure_on
from devices.local import Local
from devices.protocol import Finished
from export.bundle import NetworkFile, write_bundle
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.lifetime import END_WITH
from runtimes.records import Measurement, Workload


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle that is measured in no time."""
    return null_bundle(tmp_path, Workload(warmup_s=0.01, rounds=2, round_s=0.01, min_samples=2, passes=1))


def null_bundle(tmp_path: Path, workload: Workload) -> Path:
    """A bundle for the null runtime, which opens no network."""
    for name in ("dense.onnx", "model.onnx"):
        (tmp_path / name).write_bytes(b"not a network")
    write_bundle(
        tmp_path / "bundle",
        name="tiny",
        networks={"dense": NetworkFile(tmp_path / "dense.onnx"), "sparse": NetworkFile(tmp_path / "model.onnx")},
        images=[np.zeros((5, 8, 8, 1), dtype=np.uint8)],
        preprocess={"scale": 1.0, "mean": [0.0], "std": [1.0]},
        runtimes=["null"],
        workload=workload,
    )
    return tmp_path / "bundle"


@pytest.fixture(params=[*DEVICES, "ssh"])
def device(request):
    """Each device of the table, and one behind the server on loopback; their file systems are the tests' own."""
    if request.param == "ssh":
        server = request.getfixturevalue("server")
        device = open_device(server.url, ssh_config=server.ssh_config, python=server.python)
    else:
        device = open_device(request.param)
    yield device
    device.close()


def test_run_gives_the_code_both_streams_and_each_line_of_stderr(device, tmp_path):
    code = "import sys, os; print(os.getcwd()); print('one\\ntwo', file=sys.stderr); sys.exit(3)"
    lines: list[str] = []
    place = device.push(tmp_path)
    finished = device.run([device.python, "-c", code], place, lines.append)
    assert finished == (3, f"{place}\n", "one\ntwo\n")
    assert lines == ["one", "two"]


def test_run_survives_more_output_than_a_pipe_holds(device, tmp_path):
    code = "import sys\nfor i in range(20000): print('o' * 20); print('e' * 20, file=sys.stderr)"
    finished = device.run([device.python, "-c", code], device.push(tmp_path))
    assert len(finished.stdout) == len(finished.stderr) == 20000 * 21


def test_pushed_files_come_back(device, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.bin").write_bytes(bytes(range(256)))
    device.pull(device.push(tmp_path / "there"), ["a.bin"], tmp_path / "here")
    assert (tmp_path / "here/a.bin").read_bytes() == bytes(range(256))


def test_probe_describes_the_machine_and_its_runtimes(device):
    answer = device.probe()
    assert set(answer["runtimes"]) == set(RUNTIMES)
    assert answer["facts"]["cores"] >= 1


def test_a_bundle_is_measured_and_the_measurements_carry_the_devices_name(device, bundle, tmp_path):
    results = tmp_path / "5-measure" / device.name
    results.mkdir(parents=True)
    (results / "ort-sparse.json").write_text("of an earlier measurement")
    steps = []
    paths = measure_on(device, bundle, results, batch=2, rounds=3, on_progress=lambda *step: steps.append(step))
    assert paths == [results / "null-dense.json", results / "null-sparse.json"]
    for path in paths:
        found = Measurement.read(path)
        assert (found.device, found.batch, len(found.latency_ns), found.top1) == (device.name, 2, 3, None)
    total = steps[0][2]
    assert total >= 2 * 3
    assert [step[1:] for step in steps] == [(done, total) for done in range(1, total + 1)]
    assert steps[0][0] == "null-dense load"
    assert (results / "ort-sparse.json").read_text() == "of an earlier measurement"
    assert sorted(path.name for path in results.iterdir()) == ["null-dense.json", "null-sparse.json", "ort-sparse.json"]
    place = Path(device.push(bundle))
    assert (place / "manifest.json").is_file()
    assert not list(place.glob("*results*"))
    assert not list(place.rglob("__pycache__"))


def test_what_is_asked_for_is_what_is_measured(device, bundle, tmp_path):
    paths = measure_on(device, bundle, tmp_path / "results", runtimes=["null"], networks=["sparse"], threads=2)
    assert [path.name for path in paths] == ["null-sparse.json"]
    assert Measurement.read(paths[0]).threads == 2


def test_a_failure_tells_the_devices_reason_and_the_line_that_reproduces_it(device, bundle, tmp_path):
    (bundle / "model.onnx").write_bytes(b"changed")
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results", rounds=1)
    assert caught.value.message.startswith(f"{device.name}: model.onnx in the bundle")
    _, by_hand = caught.value.hint.split("by hand: ")
    assert "-m runtimes measure . --rounds 1" in by_hand
    assert not (tmp_path / "results").exists()
    assert not list(Path(device.push(bundle)).glob("*results*"))


def test_the_line_by_hand_works_when_it_is_pasted(device, bundle):
    place = device.push(bundle)
    line = device.by_hand([device.python, "-m", "runtimes", "measure", ".", "--network", "sparse"], place)
    pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (pasted.returncode, json.loads(pasted.stdout)["measurements"]) == (0, ["null-sparse.json"]), pasted.stderr
    assert Measurement.read(Path(place) / "results/null-sparse.json").name == "sparse"
    shutil.rmtree(Path(place) / "results")


def test_further_options_reach_the_measurement(device, bundle, tmp_path):
    options = ["--option", "busy_us=200"]
    (path, _) = measure_on(device, bundle, tmp_path / "results", options=options)
    assert Measurement.read(path).argv[-6:-2] + options == [*Measurement.read(path).argv[-6:-2], *options]
    assert Measurement.read(path).workload["options"] == {"busy_us": "200"}


@pytest.mark.parametrize("name", ["../a.bin", "/etc/hostname", "link", "pipe", "folder", "missing"])
def test_only_files_in_the_place_itself_are_pulled(device, tmp_path, name):
    there = tmp_path / "there"
    (there / "folder").mkdir(parents=True)
    (there / "folder/a.bin").write_bytes(b"a")
    (tmp_path / "a.bin").write_bytes(b"outside")
    place = Path(device.push(there))
    with contextlib.suppress(FileExistsError):
        (place / "link").symlink_to(tmp_path / "a.bin")
        os.mkfifo(place / "pipe")
    with pytest.raises(UserError):
        device.pull(str(place), [name], tmp_path / "here")
    assert not list(tmp_path.glob("here/*"))


def test_what_closes_the_device_ends_what_runs_on_it(device, tmp_path):
    """From another thread, as when one of several boards is given up."""
    code = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)"
    pids: list[int] = []

    def close() -> None:
        while not pids:
            time.sleep(0.01)
        device.close()

    closing = threading.Thread(target=close)
    closing.start()
    with pytest.raises(UserError):
        device.run([device.python, "-c", code], device.push(tmp_path), lambda line: pids.append(int(line)))
    assert not is_alive(pids[0])
    closing.join()
    device.close()


def test_a_bug_on_the_device_is_told_by_the_end_of_its_traceback(device, bundle, tmp_path):
    (bundle / "runtimes/measure.py").write_text("raise RuntimeError('broken')\n")
    with pytest.raises(UserError, match="exit code 1: RuntimeError: broken"):
        measure_on(device, bundle, tmp_path / "results")


def test_an_unknown_device_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'local'"):
        open_device("locl")


def test_a_line_by_hand_can_be_pasted_into_a_shell():
    assert Local().by_hand(["python3", "a b"], "/tmp/x y") == "cd '/tmp/x y' && python3 'a b'"


def test_an_interrupted_command_does_not_go_on(device, tmp_path):
    """Ctrl-C in the host, while the child runs: the child has ended when `run` raises."""
    code = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)"
    pids: list[int] = []

    def interrupt() -> None:
        while not pids:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        device.run([device.python, "-c", code], device.push(tmp_path), lambda line: pids.append(int(line)))
    assert not is_alive(pids[0])


def children(pid: int) -> list[int]:
    """The processes that `pid` started, theirs, and so on."""
    own = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return own + [below for child in own for below in children(child)]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


MEASURES = """
import sys
from pathlib import Path
from devices.deploy import measure_on
from devices.local import Local
measure_on(Local(), Path(sys.argv[1]), Path(sys.argv[2]), on_progress=lambda *step: print(step, flush=True))
"""


def test_a_measurement_does_not_outlive_a_kill_9_of_the_host(tmp_path: Path) -> None:
    """Its rounds last ten minutes: it has nothing to say by which it could notice that nobody listens."""
    rounds = Workload(warmup_s=0.01, rounds=2, round_s=600, min_samples=2, max_samples=10**9)
    command = [sys.executable, "-c", MEASURES, str(null_bundle(tmp_path, rounds)), str(tmp_path / "results")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        for _ in range(2):
            assert " load" in host.stdout.readline()
        pids = children(host.pid)
        assert len(pids) >= 3, "the coordinator and two workers"
        host.kill()
    deadline = time.monotonic() + 20
    while any(map(is_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    left = [pid for pid in pids if is_alive(pid)]
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_the_coordinator_of_a_host_that_is_gone_already_does_not_begin(bundle):
    """Killed between the start of the coordinator and its wish to end with it: another process is its parent then."""
    finished = subprocess.run(
        [sys.executable, "-m", "runtimes", "measure", "."],
        cwd=bundle,
        env={**os.environ, END_WITH: "0"},
        check=False,
        capture_output=True,
    )
    assert (finished.returncode, finished.stdout) == (128 + signal.SIGKILL, b"")
    assert not (bundle / "results").exists()


def test_every_call_has_a_results_folder_of_its_own_and_clears_away_those_of_killed_ones(bundle, tmp_path):
    class Watched(Local):
        """Local, and what stands in the bundle while something runs there."""

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[str] = []

        def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
            finished = super().run(command, place, on_line)
            self.seen += [path.name for path in Path(place).glob("*results*")]
            return finished

    killed, at_work = (bundle / f"{name}-results-on-the-way" for name in ("0123", "4567"))
    killed.mkdir()
    os.utime(killed, (1e9, 1e9))
    at_work.mkdir()  # of another host
    device = Watched()
    for _ in range(2):
        measure_on(device, bundle, tmp_path / "results", networks=["sparse"])
        own = (set(device.seen) - {killed.name, at_work.name}).pop()
        (bundle / f"{own.partition('-')[0]}-killed-results-on-the-way").mkdir()  # just now, by a call like this one
    assert len({name for name in device.seen if name.startswith(own.partition("-")[0])}) == 3
    measure_on(device, bundle, tmp_path / "results", networks=["sparse"])
    assert list(bundle.glob("*results*")) == [at_work]


def test_a_bundle_that_does_not_know_an_option_is_told_in_our_words(bundle, tmp_path):
    with pytest.raises(UserError) as caught:
        measure_on(Local(), bundle, tmp_path / "results", options=["--of-a-later-edgeprune", "3"])
    assert "the code in this bundle does not take what was asked for" in caught.value.message
    assert "--of-a-later-edgeprune" in caught.value.message
    assert "write it again with `edgeprune compile`" in caught.value.hint
    assert "usage" not in str(caught.value)


def test_scoring_is_a_change_of_the_record(bundle, tmp_path):
    """What the host does next: `replace`, then `write`."""
    (path, _) = measure_on(Local(), bundle, tmp_path / "results")
    replace(Measurement.read(path), top1=97.5, images=360).write(path)
    assert (Measurement.read(path).top1, Measurement.read(path).images) == (97.5, 360)
