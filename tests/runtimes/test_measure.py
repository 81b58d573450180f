import os
import signal
import subprocess
import sys
from pathlib import Path

import compiled_runtime
import numpy as np
import pytest
from tiny_networks import PREPROCESS, QUICK, WEIGHTS

from runtimes import RUNTIMES
from runtimes.bundle import read_bundle
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.measure import measure, read_round, rotated
from runtimes.readings import Reading
from runtimes.records import Measurement
from runtimes.sampler import Sample
from runtimes.timing import time_calls
from runtimes.worker import Session


def job(bundle, **changes):
    return {
        "runtime": "null",
        "file": str(bundle / "model.onnx"),
        "precision": "fp32",
        "engines": str(bundle / "engines"),
        "images": [str(bundle / "inputs/0000.npy")],
        "preprocess": PREPROCESS,
        "workload": QUICK.changed(**changes).to_json(),
    }


def test_rotation_gives_each_engine_each_place_once():
    turns = [rotated("ABC", turn) for turn in range(3)]
    assert turns == [["A", "B", "C"], ["B", "C", "A"], ["C", "A", "B"]]
    assert rotated("ABC", 3) == turns[0]


def test_only_the_call_is_timed_and_inputs_go_around():
    seen = []
    samples = time_calls(seen.append, ["a", "b", "c"], lambda n, seconds: n < 5, start=2)
    assert seen == ["c", "a", "b", "c", "a"]
    assert len(samples) == 5


def test_other_load_is_what_the_engine_did_not_use():
    def at(seconds, busy, mhz):
        return Sample(seconds, Reading(busy), Reading(mhz))

    reading = read_round(at(10.0, 100.0, 1500.0), at(12.0, 105.0, 1400.0), cpu_s=2.0)
    assert reading == (1.5, 1400.0)
    silent = Sample(0.0, Reading(None, "no"), Reading(None, "no"))
    assert read_round(silent, silent, 1.0) == (-1.0, -1.0)


def test_measurements_logits_and_the_order_of_rounds(pristine_bundle, images, tmp_path):
    lines = []
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["null", "ort"], [], QUICK, lines.append)
    assert list(measured) == ["null-dense.json", "null-sparse.json", "ort-dense.json", "ort-sparse.json"]
    for name, measurement in measured.items():
        assert Measurement.read(tmp_path / name) == measurement
        assert len(measurement.latency_ns) == QUICK.rounds
        assert measurement.n >= QUICK.min_samples
        assert measurement.device is None
        assert measurement.memory_mb["peak_rss"] >= measurement.memory_mb["baseline"] > 0
        assert measurement.facts["affinity"]
    assert measured["null-dense.json"].outputs is None
    x = (images.astype(np.float64) * 0.0625 - 0.5) / 0.25
    for name in ("dense", "sparse"):
        outputs = measured[f"ort-{name}.json"].outputs
        assert (outputs["n"], outputs["classes"]) == (50, 10)
        logits = np.load(tmp_path / outputs["file"], allow_pickle=False)
        np.testing.assert_allclose(logits, x.reshape(50, 64) @ WEIGHTS[name], rtol=1e-3, atol=1e-3)
    engines = ["null-dense", "null-sparse", "ort-dense", "ort-sparse"]
    rounds = [line.split(" ", 2)[2] for line in lines if " round " in line]
    assert rounds == [f"{name} round {turn + 1}" for turn in range(3) for name in rotated(engines, turn)]
    assert [line.split()[1] for line in lines] == [f"{step + 1}/{len(lines)}" for step in range(len(lines))]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_slow_engine_gets_its_samples_and_is_doubted_where_it_cannot(pristine_bundle, tmp_path):
    """Calls of 2 ms in rounds of 1 ms: a round goes on to its share of samples, but not for longer than 5 ms."""
    hurried = QUICK.changed(round_s=0.001, rounds=2, min_samples=100, options={"busy_us": "2000"})
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], hurried, str)
    found = measured["null-dense.json"]
    assert 2 <= found.n <= 6
    assert "too_few_samples" in [doubt.code for doubt in found.warnings]
    assert found.latency_ms["min"] >= 2.0


def test_a_batch_larger_than_the_images_is_filled(pristine_bundle, tmp_path):
    wide = QUICK.changed(batch=128)
    found = measure(read_bundle(pristine_bundle), tmp_path, ["ort"], ["dense"], wide, str)["ort-dense.json"]
    assert found.batch == 128
    assert found.throughput_ips == pytest.approx(128e3 / found.latency_ms["mean"])


def test_a_bundle_with_a_changed_file_is_not_run(bundle, tmp_path):
    with (bundle / "inputs/0000.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"inputs/0000\.npy"):
        measure(read_bundle(bundle), tmp_path / "out", [], [], QUICK, str)
    assert not (tmp_path / "out").exists()


def test_a_killed_worker_is_named_with_its_signal(pristine_bundle):
    with EngineProcess("sparse", "null", job(pristine_bundle)) as process:
        process.answer("start")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(
            UserError, match=r"network 'sparse' on runtime 'null': .* killed by SIGKILL .* during 'load'"
        ):
            process.ask("load")


def test_a_hanging_worker_is_given_up_and_ended(pristine_bundle):
    process = EngineProcess("sparse", "null", job(pristine_bundle, timeout_s=1))
    process.answer("start")
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(UserError, match="said nothing for 1 s during 'load'"), process:
        process.ask("load")
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_worker_that_fails_is_quoted(pristine_bundle):
    with EngineProcess("sparse", "null", job(pristine_bundle)) as process:
        process.answer("start")
        with pytest.raises(UserError, match="exit code 1 during 'round'") as caught:
            process.ask("round")
    assert "RuntimeError: a command came before `load`" in caught.value.hint


def test_a_workers_own_user_error_comes_through(pristine_bundle):
    with EngineProcess("sparse", "null", job(pristine_bundle, options={"busy_us": "x"})) as process:
        process.answer("start")
        with pytest.raises(UserError, match=r"busy_us is 'x' \(null, network 'sparse'\)"):
            process.ask("load")


def test_what_a_library_prints_does_not_reach_the_coordinator():
    code = (
        "import os; from runtimes.worker import _private_channel\n"
        "commands, answers = _private_channel()\n"
        "print('chatter', flush=True); os.write(1, b'more')\n"
        "answers.write(commands.readline()); answers.flush()"
    )
    finished = subprocess.run([sys.executable, "-c", code], input="{}\n", capture_output=True, text=True, check=True)
    assert finished.stdout == "{}\n"
    assert finished.stderr == "chatter\nmore"


@pytest.fixture
def compiled(monkeypatch):
    """A runtime that compiles, in this process and in every worker."""
    monkeypatch.setitem(RUNTIMES, "compiled", "compiled_runtime")
    monkeypatch.setitem(RUNTIMES, "absent", "runtimes.null")
    start = (
        f"import sys; sys.path.append({str(Path(__file__).parent)!r})\n"
        "import runtimes, types; runtimes.RUNTIMES.update(compiled='compiled_runtime', absent='absent')\n"
        "sys.modules['absent'] = types.SimpleNamespace(missing=lambda: 'install it')\n"
        "from runtimes.worker import _end_with_the_coordinator, _private_channel, serve\n"
        "_end_with_the_coordinator(); serve(*_private_channel())"
    )
    whole = subprocess.Popen
    started = []

    def popen(command, **more):
        started.append(command)
        return whole([command[0], "-c", start], **more)

    monkeypatch.setattr(subprocess, "Popen", popen)
    return started


def test_the_last_gpu_times_are_those_of_the_timed_runs(bundle, monkeypatch):
    """The worker in this process, over a runtime that compiles and has a clock of its own."""
    monkeypatch.setitem(RUNTIMES, "compiled", "compiled_runtime")
    engine = compiled_runtime.Counting()
    monkeypatch.setattr(compiled_runtime, "load", lambda path, options: engine)
    session = Session({**job(bundle), "runtime": "compiled"}, [].append)
    assert session.version() == {"runtime_version": "7"}
    loaded = session.load()
    assert loaded["receipt"]["verdict"] == "no"
    assert loaded["memory_mb"]["engine"] == 5 / 2**20
    for _ in range(2):
        before = engine.runs
        reply = session.round()
        n = len(reply["latency_ns"])
        assert 0 < n <= engine.runs - before
        assert reply["gpu_ns"] == [1000 * run for run in range(engine.runs - n + 1, engine.runs + 1)]
        assert reply["enqueue_ns"] == [500 * run for run in range(engine.runs - n + 1, engine.runs + 1)]
        assert reply["launch"] == engine.launch
        assert (engine.gpu_ns, engine.enqueue_ns) == ([], [])


def test_a_worker_that_compiles_is_seen_to_be_alive(bundle, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "compiled", "compiled_runtime")
    said: list[dict[str, object]] = []
    made = Session({**job(bundle), "runtime": "compiled", "precision": "fp16"}, said.append).compile()
    assert said == [{"at": 0}]
    assert made["file"] == str(bundle / "engines" / "model.engine")
    assert made["engine"]["options"] == {"threads": "1", "batch": "1", "precision": "fp16"}


def test_an_engine_is_compiled_in_a_process_that_ends_before_the_others_start(bundle, tmp_path, compiled):
    lines = []
    work = QUICK.changed(options={"cuda_graph": "1"})
    measured = measure(read_bundle(bundle), tmp_path, ["compiled", "null"], [], work, lines.append)
    assert len(compiled) == 7  # one to see whether null is there, two builders, four engines
    assert [line.split(" ", 2)[2] for line in lines[:2]] == ["compiled-dense compile", "compiled-sparse compile"]
    assert [line.split()[1] for line in lines] == [f"{step + 1}/{len(lines)}" for step in range(len(lines))]
    found = measured["compiled-dense.json"]
    assert found.engine["options"] == {"cuda_graph": "1", "threads": "1", "batch": "1", "precision": "fp32"}
    assert found.engine["cuda_graph"] == "it cannot be captured: a stand-in"
    assert found.engine["host_wait"] == "spin"
    assert found.engine["enqueue_ms"]["median"] == pytest.approx(found.gpu_ms["median"] / 2)
    assert found.memory_mb["peak_rss"] < 256
    codes = [doubt.code for doubt in found.warnings]
    assert {"cuda_graph", "little_memory", "low-memory"} <= set(codes)
    assert "enqueue-bound" not in codes
    assert measured["null-dense.json"].engine is None
    assert Measurement.read(tmp_path / "compiled-dense.json") == found


def test_a_missing_runtime_is_told_before_an_engine_is_built_for_another(bundle, tmp_path, compiled):
    with pytest.raises(UserError, match="the runtime 'absent' cannot run here"):
        measure(read_bundle(bundle), tmp_path, ["compiled", "absent"], [], QUICK, str)
    assert not (bundle / "engines").exists()


def test_a_builder_that_is_killed_is_named_with_its_log(bundle, tmp_path, compiled):
    dying = QUICK.changed(options={"die": "1"})
    with pytest.raises(UserError, match=r"killed by SIGKILL .* during 'compile'") as caught:
        measure(read_bundle(bundle), tmp_path, ["compiled"], ["dense"], dying, str)
    assert caught.value.hint.endswith(f"what it said before is in {bundle / 'engines' / 'dense.engine.log'}")


def test_a_runtime_that_does_not_compile_has_no_engine_file_and_no_gpu_times(pristine_bundle):
    session = Session(job(pristine_bundle), [].append)
    session.load()
    reply = session.round()
    assert (reply["gpu_ns"], reply["enqueue_ns"], reply["launch"]) == (None, None, None)
    assert not (pristine_bundle / "engines").exists()
