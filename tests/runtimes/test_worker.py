"""One worker: what it is asked, what it answers, and what is said where it dies, hangs or fails."""

import os
import signal
import subprocess
import sys

import compiled_runtime
import numpy as np
import pytest
from tiny_networks import QUICK, job

from runtimes import RUNTIMES
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.timing import time_calls
from runtimes.worker import Session, keep_to


def test_only_the_call_is_timed_and_inputs_go_around():
    seen = []
    samples = time_calls(seen.append, ["a", "b", "c"], lambda n, seconds: n < 5, start=2)
    assert seen == ["c", "a", "b", "c", "a"]
    assert len(samples) == 5


@pytest.mark.parametrize(("side", "most", "expected"), [(224, 64, [6, 4]), (224, 4, [4, 4, 2]), (32, 64, [10])])
def test_images_are_answered_in_batches_of_at_most_four_mebibytes(bundle, tmp_path, monkeypatch, side, most, expected):
    """A 224 px image is 588 KiB of float32: six are 3.4 MiB, seven 4.02."""
    monkeypatch.setitem(RUNTIMES, "compiled", "compiled_runtime")
    engine, seen = compiled_runtime.Counting(), []
    whole = engine.run
    monkeypatch.setattr(engine, "run", lambda batch: (seen.append(len(batch)), whole(batch))[1])
    monkeypatch.setattr(compiled_runtime, "load", lambda path, options: engine)
    np.save(tmp_path / "large.npy", np.zeros((10, side, side, 3), np.uint8))
    how = {"scale": 0.0625, "mean": [0.5] * 3, "std": [0.25] * 3}
    asked = {**job(bundle, accuracy_batch=most), "runtime": "compiled", "images": [str(tmp_path / "large.npy")]}
    session = Session({**asked, "preprocess": how}, [].append)
    session.load()
    seen.clear()
    session.answer(str(tmp_path / "logits.npy"), 10, 10)
    assert seen == expected
    assert np.load(tmp_path / "logits.npy").shape == (10, 10)


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
        os.kill(process.pid, signal.SIGKILL)  # it would not end by itself


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


def test_a_runtime_that_does_not_compile_has_no_engine_file_and_no_gpu_times(pristine_bundle):
    session = Session(job(pristine_bundle), [].append)
    session.load()
    reply = session.round()
    assert (reply["gpu_ns"], reply["enqueue_ns"], reply["launch"]) == (None, None, None)
    assert not (pristine_bundle / "engines").exists()
