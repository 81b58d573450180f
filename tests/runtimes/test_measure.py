"""The coordinator and its workers: passes, turns and twins, and what happens when one of them fails."""

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
from runtimes.bundle import Network, read_bundle
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.jobs import Job
from runtimes.measure import baselines, measure, rotated
from runtimes.readings import Reading
from runtimes.records import Measurement
from runtimes.sampler import Sample
from runtimes.timing import time_calls
from runtimes.trial import read_round
from runtimes.worker import Session, keep_to

NO_TWIN = "only the baseline of two or more networks of a precision has a twin"


def job(bundle, **changes):
    return {
        "runtime": "null",
        "file": str(bundle / "model.onnx"),
        "precision": "fp32",
        "engines": str(bundle / "engines"),
        "build": 0,
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
        assert [entry["rounds"] for entry in measurement.passes] == [QUICK.rounds]
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
    engines = ["null-dense", "null-sparse", "ort-dense", "ort-sparse", "null-dense (twin)", "ort-dense (twin)"]
    rounds = [line.split(" ", 2)[2] for line in lines if " round " in line]
    assert all(measured[f"{name}-dense.json"].twin_ns for name in ("null", "ort"))
    assert rounds == [f"{name} round {turn + 1}" for turn in range(3) for name in rotated(engines, turn)]
    assert [line.split()[1] for line in lines] == [f"{step + 1}/{len(lines)}" for step in range(len(lines))]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_each_pass_has_fresh_processes_that_end_before_the_next_ones_start(pristine_bundle, tmp_path, monkeypatch):
    """Both baselines have a twin in every turn, and only they."""
    started, whole = [], subprocess.Popen

    def popen(command, **more):
        if "runtimes.worker" in command:
            started.append([process.poll() for process in processes])
        process = whole(command, **more)
        processes.append(process)
        return process

    processes: list[subprocess.Popen] = []
    monkeypatch.setattr(subprocess, "Popen", popen)
    lines = []
    work = QUICK.changed(passes=3, rounds=2, accuracy=False)
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["null"], [], work, lines.append)
    assert [line.split()[1] for line in lines] == [f"{step + 1}/27" for step in range(27)]  # 3 x 3 x (load, 2 rounds)
    assert len(processes) == 9
    assert [ended.count(None) for ended in started] == [0, 1, 2] * 3
    dense, sparse = measured["null-dense.json"], measured["null-sparse.json"]
    assert [entry["rounds"] for entry in dense.passes] == [2, 2, 2]
    assert len(dense.latency_ns) == len(dense.twin_ns) == len(sparse.latency_ns) == 6
    assert (sparse.twin_ns, sparse.reasons["twin_ns"]) == (None, NO_TWIN)
    assert dense.memory_mb["peak_rss"] == max(entry["peak_rss_mb"] for entry in dense.passes)
    assert dense.load_ms == sorted(entry["load_ms"] for entry in dense.passes)[1]
    assert dense.first_inference_ms == sorted(entry["first_inference_ms"] for entry in dense.passes)[1]


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        (["teacher", "dense", "sparse"], ["dense"]),
        (["teacher", "dense", "dense-fp16", "sparse", "sparse-fp16", "sparse-int8"], ["dense", "dense-fp16"]),
        (["a", "b"], ["a"]),
        (["a", "b-int8"], ["a"]),
        (["sparse"], []),
    ],
)
def test_the_dense_network_of_each_precision_is_a_baseline(networks: list[str], expected: list[str]) -> None:
    jobs = [Job(Network(name, "", name.partition("-")[2] or "fp32", ""), "ort", {}) for name in networks]
    assert [job.network.name for job in baselines(jobs)] == expected


def test_one_network_alone_has_no_twin(pristine_bundle, tmp_path):
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], QUICK, str)["null-dense.json"]
    assert found.twin_ns is None
    assert found.reasons["twin_ns"]


def test_each_pass_is_measured_on_a_build_of_its_own_as_far_as_there_are(bundle, tmp_path, compiled):
    lines = []
    work = QUICK.changed(passes=3, builds=2, rounds=1, accuracy=False)
    measured = measure(read_bundle(bundle), tmp_path, ["compiled"], [], work, lines.append)
    assert [line.split(" ", 2)[2] for line in lines[:4]] == [
        "compiled-dense compile 1",
        "compiled-sparse compile 1",
        "compiled-dense compile 2",
        "compiled-sparse compile 2",
    ]
    assert len(lines) == 4 + 3 * 3 * 2
    first, second, third = (entry["engine_sha256"] for entry in measured["compiled-dense.json"].passes)
    assert first == third != second
    assert measured["compiled-sparse.json"].passes[0]["engine_sha256"] not in (first, second)
    assert "builds_differ" in [doubt.code for doubt in measured["compiled-dense.json"].warnings]


def test_no_more_engines_are_built_than_passes_use_them(bundle, tmp_path, compiled):
    lines = []
    measure(read_bundle(bundle), tmp_path, ["compiled"], ["dense"], QUICK.changed(builds=3), lines.append)
    assert [line for line in lines if " compile " in line] == [f"progress 1/{len(lines)} compiled-dense compile 1"]


def test_engines_keep_to_the_processors_that_are_asked_for(bundle, tmp_path, compiled):
    """The stand-in's engine notes where it may run when its library is imported."""
    last = max(os.sched_getaffinity(0))
    work = QUICK.changed(cpus=[last])
    found = measure(read_bundle(bundle), tmp_path, ["compiled"], ["dense"], work, str)["compiled-dense.json"]
    assert found.workload["cpus"] == [last]
    assert found.engine["affinity"] == [last]
    assert last in found.facts["affinity"]


@pytest.mark.parametrize("cpus", [[4095], [0, 4095]])
def test_processors_that_are_not_there_are_a_user_error(pristine_bundle, tmp_path, cpus):
    here = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    with pytest.raises(UserError, match=r"cannot be kept to the processors .*4095") as caught:
        measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], QUICK.changed(cpus=cpus), str)
    assert caught.value.hint == f"this process may use {here}"
    assert not list(tmp_path.iterdir())


def test_all_threads_that_are_there_are_kept_to_the_processors():
    code = (
        "import os, threading; from runtimes.worker import keep_to\n"
        "stop = threading.Event(); thread = threading.Thread(target=stop.wait); thread.start()\n"
        "last = max(os.sched_getaffinity(0)); keep_to([last]); found = os.sched_getaffinity(thread.native_id)\n"
        "stop.set(); print(sorted(found) == [last])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "True\n"


def test_no_processors_named_leaves_all():
    before = os.sched_getaffinity(0)
    keep_to(())
    assert os.sched_getaffinity(0) == before


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


def test_a_round_may_be_silent_for_as_long_as_it_may_last(pristine_bundle):
    """A round of 0.4 s at most five times that, and the patience on top: longer than the patience alone."""
    samples = {"min_samples": 10**6, "max_samples": 10**6, "options": {"busy_us": "1000"}}
    work = {"timeout_s": 1, "round_s": 0.4, **samples}
    with EngineProcess("sparse", "null", job(pristine_bundle, **work)) as process:
        process.answer("start")
        process.ask("load")
        silent_s = QUICK.changed(**work).longest_round_s
        assert process.ask("round", silent_s=silent_s)["timed_s"] == pytest.approx(2.0, rel=0.2)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(UserError, match=r"said nothing for 1\.2 s during 'round'"):
            process.ask("round", silent_s=0.2)


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
    assert made["engine"]["options"] == {"threads": "1", "batch": "1", "precision": "fp16", "build": "0"}


def test_an_engine_is_compiled_in_a_process_that_ends_before_the_others_start(bundle, tmp_path, compiled):
    lines = []
    work = QUICK.changed(options={"cuda_graph": "1"})
    measured = measure(read_bundle(bundle), tmp_path, ["compiled", "null"], [], work, lines.append)
    assert len(compiled) == 9  # one to see whether null is there, two builders, four engines, two twins
    assert [line.split(" ", 2)[2] for line in lines[:2]] == ["compiled-dense compile 1", "compiled-sparse compile 1"]
    assert [line.split()[1] for line in lines] == [f"{step + 1}/{len(lines)}" for step in range(len(lines))]
    found = measured["compiled-dense.json"]
    asked = {"cuda_graph": "1", "threads": "1", "batch": "1", "precision": "fp32", "build": "0"}
    assert found.engine["options"] == asked
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
