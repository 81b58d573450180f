"""The coordinator and its workers: passes, turns and twins, and what happens when one of them fails."""

import os
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_networks import QUICK, WEIGHTS

from runtimes import RUNTIMES, null, sampler
from runtimes.bundle import Network, read_bundle
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.files import read_json, write_json
from runtimes.jobs import Job
from runtimes.measure import baselines, measure
from runtimes.readings import ROOT, Reading
from runtimes.records import Measurement
from runtimes.sampler import Sample
from runtimes.trial import read_round
from runtimes.turns import Turns
from runtimes.watch import Watch

NO_TWIN = "only the baseline of two or more networks of a precision has a twin"


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
    turns = Turns(6)
    turns.open()
    assert rounds == [f"{engines[each]} round {turn + 1}" for turn in range(3) for each in turns.order()]
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


def workers_alive() -> int:
    """Of this process; one that has ended and was not waited for counts."""
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return sum(b"runtimes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children)


def test_the_images_are_answered_at_the_end_of_the_first_pass_and_each_process_ends_with_its_answer(
    pristine_bundle, tmp_path
):
    """An engine may take far more memory for a large batch and never give it back: the twin has ended before."""
    said: list[tuple[str, int]] = []
    work = QUICK.changed(passes=2, rounds=1)
    measure(
        read_bundle(pristine_bundle), tmp_path, ["ort"], [], work, lambda line: said.append((line, workers_alive()))
    )
    assert [(line.split(" ", 2)[2], alive) for line, alive in said if "answers" in line] == [
        ("ort-dense answers", 1),
        ("ort-sparse answers", 0),
    ]
    loads = [number for number, (line, _) in enumerate(said) if " load" in line]
    answers = [number for number, (line, _) in enumerate(said) if " answers" in line]
    assert loads[2] < answers[0] < answers[1] < loads[3]


def test_what_fails_while_it_answers_keeps_its_times_and_says_why(pristine_bundle, tmp_path, monkeypatch):
    """One process is killed, as for want of memory; the other answers all the same."""
    whole = EngineProcess.ask

    def ask(self, do, **arguments):
        if do == "answer" and self.name == "ort-dense":
            os.kill(self.pid, signal.SIGKILL)
        return whole(self, do, **arguments)

    monkeypatch.setattr(EngineProcess, "ask", ask)
    work = QUICK.changed(passes=2, rounds=2)
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["ort"], [], work, str)
    dense, sparse = (Measurement.read(tmp_path / f"ort-{name}.json") for name in ("dense", "sparse"))
    assert measured["ort-dense.json"] == dense
    assert len(dense.latency_ns) == len(dense.twin_ns) == 4
    assert dense.outputs is None
    why = "network 'dense' on runtime 'ort': its process was killed by SIGKILL (out of memory?) during 'answer'"
    assert dense.reasons["outputs"] == dense.reasons["top1"] == why
    (doubt,) = [doubt for doubt in dense.warnings if doubt.code == "not_answered"]
    assert why in doubt.message
    assert sparse.outputs["n"] == 50
    assert "not_answered" not in [doubt.code for doubt in sparse.warnings]


def test_too_little_memory_is_told_after_the_first_load(pristine_bundle, tmp_path, monkeypatch):
    looks = iter([700 << 20, 300 << 20])
    monkeypatch.setattr("runtimes.sampler.memory", lambda *root: {"MemAvailable": next(looks)})
    lines = []
    with pytest.raises(UserError, match="2 networks and a twin do not fit into the 700 MiB"):
        measure(read_bundle(pristine_bundle), tmp_path, ["null"], [], QUICK.changed(sample_s=0), lines.append)
    assert lines == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_started(pristine_bundle, tmp_path, monkeypatch):
    def popen(*arguments, **more):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", popen)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        measure(read_bundle(pristine_bundle), tmp_path / "file" / "out", [], [], QUICK, str)


def test_the_clock_is_that_of_the_engines_processors_and_is_read_before_the_mark(
    pristine_bundle, tmp_path, monkeypatch
):
    last, calls = max(os.sched_getaffinity(0)), []
    whole = sampler.sample

    def sample(root=ROOT, cpus=()):
        calls.append(tuple(cpus))
        return whole(root, cpus)

    def mark(watch):
        calls.append("mark")
        return 0.0

    monkeypatch.setattr(sampler, "sample", sample)
    monkeypatch.setattr(Watch, "mark", mark)
    measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], QUICK.changed(cpus=[last], rounds=2), str)
    assert calls == [(last,), "mark", (last,), "mark"] * 2


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


def test_a_runtime_gets_a_network_that_it_does_not_read_only_where_both_are_named(bundle, tmp_path):
    manifest = read_json(bundle / "manifest.json")
    manifest["networks"]["sparse"]["precision"] = "int8"
    write_json(bundle / "manifest.json", {**manifest, "runtimes": ["null", "sparse_cpu"]})
    work = QUICK.changed(rounds=1, accuracy=False)
    assert list(measure(read_bundle(bundle), tmp_path, [], ["sparse"], work, str)) == ["null-sparse.json"]
    write_json(bundle / "manifest.json", {**manifest, "runtimes": ["sparse_cpu"]})
    with pytest.raises(UserError, match="none of the networks sparse is for sparse_cpu"):
        measure(read_bundle(bundle), tmp_path, [], ["sparse"], work, str)
    with pytest.raises(UserError, match=r"model\.onnx has no program"):
        measure(read_bundle(bundle), tmp_path, ["sparse_cpu"], ["sparse"], work, str)


def test_what_the_environment_forces_on_a_runtime_is_told_in_the_workload(pristine_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(null, "stated", lambda options: {"forced": "1", **options}, raising=False)
    work = QUICK.changed(rounds=1, accuracy=False, options={"busy_us": "1"})
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)
    assert measured["null-dense.json"].workload["options"] == {"forced": "1", "busy_us": "1"}


def test_a_bundle_with_a_changed_file_is_not_run(bundle, tmp_path):
    with (bundle / "inputs/0000.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"inputs/0000\.npy"):
        measure(read_bundle(bundle), tmp_path / "out", [], [], QUICK, str)
    assert not (tmp_path / "out").exists()


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
