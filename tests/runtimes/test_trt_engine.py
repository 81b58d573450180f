"""`TrtEngine`: what it asks of TensorRT and CUDA, in which order, and that it gives everything back.

NVIDIA's objects are stand-ins with the names of a published release; the CUDA runtime is a stand-in that counts.
"""

from __future__ import annotations

import gc
import json
import time
import types

import numpy as np
import pytest
from standin_cuda import StandIn
from trt_stand_ins import CLASSES, ELSEWHERE, IMAGE, LAYERS, RELEASES, Release

from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library
from runtimes.trt_engine import TrtEngine

PLAN = {"batch": "-1", "held": "fp32", "batches": [4, 4, 4]}


def nothing_lives(release: Release) -> None:
    """Only a refusal, whose traceback refers to its frames in a circle, may wait for the collector."""
    if release.engines:
        gc.collect()
    assert (release.engines, release.contexts) == (0, [])


@pytest.fixture(params=RELEASES)
def release(request, standin):
    made = Release(request.param, standin.enqueue, standin.capturing)
    yield made
    nothing_lives(made)


@pytest.fixture
def newest(standin):
    made = Release(RELEASES[-1], standin.enqueue, standin.capturing)
    yield made
    nothing_lives(made)


def opened(release: Release, standin: StandIn, *, graph: bool = False, **changed: object) -> TrtEngine:
    plan = json.dumps({**PLAN, **changed}).encode()
    return TrtEngine(Library(release.module), plan, "model.engine", standin.cuda, Journal(), graph)


def images(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=(n, *IMAGE)).astype(np.float32)


def by_hand(batch: np.ndarray) -> np.ndarray:
    sums = np.array([image.ravel().astype(np.float64).sum() for image in batch])
    return np.stack([sums * factor for factor in range(1, CLASSES + 1)], axis=1)


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 20])
def test_any_number_of_images_gets_its_own_logits(release: Release, standin: StandIn, n: int) -> None:
    engine = opened(release, standin)
    logits = engine.run(images(n))
    assert (logits.dtype, logits.shape) == (np.float32, (n, CLASSES))
    np.testing.assert_allclose(logits, by_hand(images(n)), rtol=1e-5, atol=1e-6)
    assert set(release.said("images")) == {4}
    engine.close()


def test_an_answer_is_not_overwritten_by_the_next(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    first = engine.run(images(2))
    engine.run(images(3))
    np.testing.assert_allclose(first, by_hand(images(2)), rtol=1e-5, atol=1e-6)
    engine.close()


@pytest.mark.parametrize("plan", [{"batch": "4", "batches": None}, {}], ids=["fixed", "chosen"])
def test_a_batch_is_filled_up_with_zeros(newest: Release, standin: StandIn, plan: dict[str, object]) -> None:
    engine = opened(newest, standin, **plan)
    for n in (4, 1, 6):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
        assert not engine._output.host[n % 4 or 4 :].any()
    engine.close()


def test_the_shape_is_set_once_and_never_again(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    for n in (2, 5, 4):
        engine.run(images(n))
    assert newest.said("images") == [4]
    assert newest.said("address") == ["input", "logits"]
    engine.close()


@pytest.mark.parametrize("graph", [False, True])
def test_gpu_time_is_one_number_for_each_run_without_the_copies(newest: Release, standin: StandIn, graph: bool) -> None:
    """A piece of work is 0.25 ms on the stand-in's clock, a copy 0.125; 20 images are five batches."""
    engine = opened(newest, standin, graph=graph)
    for n in (1, 4, 20):
        engine.run(images(n))
    assert engine.gpu_ns == [250_000, 250_000, 1_250_000]
    engine.close()


def test_the_host_s_time_to_hand_over_is_kept_for_each_run(newest: Release, standin: StandIn) -> None:
    def slow(stream: int, work: object) -> bool:
        time.sleep(0.003)
        return standin.enqueue(stream, work)

    engine = opened(newest, standin)
    engine.run(images(4))
    newest.enqueue = slow
    engine.run(images(8))
    quick, twice = engine.enqueue_ns
    assert quick < 3_000_000
    assert twice >= 6_000_000
    engine.close()


def test_layers_are_timed_in_a_context_that_is_gone_before_the_next(release: Release, standin: StandIn) -> None:
    engine = opened(release, standin)
    assert release.said("context") == ["made"]
    assert engine.layer_times_ms() == {"conv1": 7.5}  # the n-th run takes n ms in two pieces; 3 to 12 are looked at
    assert release.said("context") == ["made", "gone", "made", "gone", "made"]
    profiled = [profiled for _, profiled in release.said("run")]
    assert len(profiled) == 12
    assert all(profiled)
    release.asked.clear()
    engine.run(images(1))
    assert release.said("run") == [(4, False)]
    engine.close()


def test_layers_are_not_timed_where_there_is_no_memory_for_the_profiler(
    newest: Release, standin: StandIn, monkeypatch
) -> None:
    """The second context is the profiler's, the third the engine's own again."""
    refuse(newest, monkeypatch, {2})
    engine = opened(newest, standin)
    receipt = engine.receipt
    assert [entry["ms"] for entry in receipt["tactics"]] == [None]
    assert receipt["verdict"] == "yes"
    assert receipt["reasons"]["tactics.ms"].startswith("layers are not timed: TensorRT 11.4.0.106 cannot run")
    np.testing.assert_allclose(engine.run(images(3)), by_hand(images(3)), rtol=1e-5, atol=1e-6)
    engine.close()


def test_an_engine_that_gets_no_memory_after_the_profiler_is_refused(
    newest: Release, standin: StandIn, monkeypatch
) -> None:
    refuse(newest, monkeypatch, {3})
    engine = opened(newest, standin)
    with pytest.raises(UserError, match="gave no context"):
        _ = engine.receipt
    engine.close()


def test_an_engine_runs_on_after_its_profiler_failed(newest: Release, standin: StandIn) -> None:
    """The traceback must not keep the profiler's context, which holds the only profile."""
    engine = opened(newest, standin)
    calls: list[int] = []

    def third_run_refused(stream: int, work: object) -> bool:
        calls.append(stream)
        return len(calls) != 4 and standin.enqueue(stream, work)  # the first is the choice of the profile

    newest.enqueue = third_run_refused
    with pytest.raises(RuntimeError, match="did not run") as caught:
        engine.layer_times_ms()
    newest.enqueue = standin.enqueue
    np.testing.assert_allclose(engine.run(images(3)), by_hand(images(3)), rtol=1e-5, atol=1e-6)
    assert caught.traceback
    engine.close()


def refuse(release: Release, monkeypatch, numbers: set[int]) -> None:
    """No memory for the contexts of these numbers, counted from 1."""
    whole, made = release.module.ICudaEngine.create_execution_context, []

    def create(self):
        made.append(1)
        return None if len(made) in numbers else whole(self)

    monkeypatch.setattr(release.module.ICudaEngine, "create_execution_context", create)


@pytest.mark.parametrize(("version", "size"), [("8.6.1", 1000), ("10.3.0", 2000), ("11.4.0.106", 2000)])
def test_memory_is_asked_by_the_name_that_a_release_has(standin: StandIn, version: str, size: int) -> None:
    engine = opened(Release(version, standin.enqueue, standin.capturing), standin)
    assert engine.context_bytes == size
    assert engine.engine_bytes == len(json.dumps(PLAN))
    assert json.loads(engine.inspected()) == LAYERS
    engine.close()


def test_close_gives_everything_back(release: Release, standin: StandIn) -> None:
    engine = opened(release, standin, graph=True)
    engine.run(images(1))
    assert [standin.held(kind) for kind in ("device", "host", "stream", "event", "exec")] == [2, 2, 1, 2, 1]
    engine.close()
    assert standin.held() == 0
    assert (release.engines, release.contexts) == (0, [])


def test_nothing_that_is_used_is_given_back_first(newest: Release, standin: StandIn, monkeypatch) -> None:
    """Context and graph refer to the buffers."""
    free, seen = standin.cuda.free, []

    def watched(pointer: int) -> None:
        seen.append((newest.contexts == [], standin.held("exec")))
        free(pointer)

    monkeypatch.setattr(standin.cuda, "free", watched)
    engine = opened(newest, standin, graph=True)
    engine.run(images(1))
    assert standin.held("exec") == 1
    engine.close()
    assert seen == [(True, 0), (True, 0)]


def test_a_graph_is_captured_once_and_again_for_a_new_context(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin, graph=True)
    assert engine.launch["cuda_graph"] == "not captured yet"
    for n in (2, 4, 5):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
    assert (standin.held("exec"), engine.launch["cuda_graph"]) == (1, "used")
    assert newest.said("run") == [(4, False)] * 2  # a plain run and the capture; launches are not TensorRT's
    engine.layer_times_ms()
    assert (standin.held("exec"), engine.launch["cuda_graph"]) == (0, "not captured yet")
    np.testing.assert_allclose(engine.run(images(3)), by_hand(images(3)), rtol=1e-5, atol=1e-6)
    assert (standin.held("exec"), engine.launch["cuda_graph"]) == (1, "used")
    engine.close()


def test_without_a_graph_the_plain_way_is_taken_and_the_reason_told(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin, graph=True)
    standin.set(refuse_capture=True)
    for n in (2, 3):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
    assert engine.launch["cuda_graph"].startswith("it cannot be captured: TensorRT did not run model.engine")
    assert standin.held("exec") == 0
    engine.close()


def test_what_was_said_of_the_capture_is_not_why_a_later_run_fails(newest: Release, standin: StandIn) -> None:
    def refuse(stream: int, work: object) -> bool:
        if standin.capturing():
            Library(newest.module).logger.log(types.SimpleNamespace(name="ERROR"), "no capture of this")
            return False
        return standin.enqueue(stream, work)

    engine = opened(newest, standin, graph=True)
    newest.enqueue = refuse
    engine.run(images(1))
    assert engine.launch["cuda_graph"].endswith("no capture of this")
    newest.enqueue = lambda stream, work: False
    with pytest.raises(RuntimeError, match=r"did not run .*: no reason given"):
        engine.run(images(1))
    engine.close()


def test_no_graph_is_made_where_none_is_asked_for(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    engine.run(images(1))
    assert (engine.launch["cuda_graph"], standin.held("exec")) == ("not asked for", 0)
    engine.close()


def test_a_plan_from_elsewhere_is_refused_in_tensorrt_s_words(newest: Release, standin: StandIn) -> None:
    with pytest.raises(UserError, match=r"cannot load model\.engine: expecting compute 8.7 got compute 7.2"):
        TrtEngine(Library(newest.module), ELSEWHERE, "model.engine", standin.cuda, Journal(), False)


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"fail": "context"}, "gave no context"), ({"ports": "half"}, "is .*HALF.*, not float32")],
)
def test_what_cannot_run_is_refused_and_nothing_is_held(
    newest: Release, standin: StandIn, changed: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        opened(newest, standin, **changed)


def test_full_memory_half_way_gives_back_what_there_was(newest: Release, standin: StandIn) -> None:
    standin.set(room=60)  # the input's buffers are 64 bytes, streams and events fit
    with pytest.raises(UserError, match="no memory left"):
        opened(newest, standin)


def test_an_image_of_another_size_is_refused(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    with pytest.raises(UserError, match=r"takes images of the shape \(1, 2, 2\), and got \(1, 2, 3\)"):
        engine.run(np.zeros((1, 1, 2, 3), np.float32))
    engine.close()


def test_a_run_that_fails_is_told(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    newest.enqueue = lambda stream, work: False
    with pytest.raises(RuntimeError, match=r"TensorRT did not run model\.engine"):
        engine.run(images(1))
    engine.close()


def test_the_host_spins_and_that_is_set_before_there_is_a_stream(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    assert (engine.launch["host_wait"], standin.flags) == ("spin", 1)
    other = opened(Release(RELEASES[-1], standin.enqueue, standin.capturing), standin)
    assert other.launch["host_wait"].startswith("CUDA's default: cudaSetDeviceFlags")
    other.close()
    engine.close()


def test_a_graph_of_another_shape_answers_wrongly_in_the_stand_in(newest: Release, standin: StandIn) -> None:
    """So that a way in which that happens would be seen."""
    engine = opened(newest, standin, graph=True)
    engine.run(images(4))
    engine._working.set_input_shape("input", (4, *IMAGE))
    assert np.isnan(engine.run(images(4))).all()
    engine.close()
