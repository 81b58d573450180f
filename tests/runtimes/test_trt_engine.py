"""`TrtEngine`: what it asks of TensorRT and CUDA, in which order, and that it gives everything back.

NVIDIA's objects are stand-ins with the names of a published release; the CUDA runtime is a stand-in that counts.
"""

from __future__ import annotations

import gc
import json

import numpy as np
import pytest
from standin_cuda import StandIn
from trt_stand_ins import CLASSES, ELSEWHERE, IMAGE, LAYERS, RELEASES, Release

from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library
from runtimes.trt_engine import TrtEngine

PLAN = {"batch": "-1", "held": "fp32", "batches": [1, 2, 8]}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> StandIn:
    return StandIn(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(compiled):
    compiled.set()
    yield compiled
    assert compiled.held() == 0


def nothing_lives(release: Release) -> None:
    """Only a refusal, whose traceback refers to its frames in a circle, may wait for the collector."""
    if release.engines:
        gc.collect()
    assert (release.engines, release.contexts) == (0, [])


@pytest.fixture(params=RELEASES)
def release(request, standin):
    made = Release(request.param, standin.enqueue)
    yield made
    nothing_lives(made)


@pytest.fixture
def newest(standin):
    made = Release(RELEASES[-1], standin.enqueue)
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


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 20])
def test_any_number_of_images_gets_its_own_logits(release: Release, standin: StandIn, n: int) -> None:
    engine = opened(release, standin)
    logits = engine.run(images(n))
    assert (logits.dtype, logits.shape) == (np.float32, (n, CLASSES))
    np.testing.assert_allclose(logits, by_hand(images(n)), rtol=1e-5, atol=1e-6)
    engine.close()


def test_an_answer_is_not_overwritten_by_the_next(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    first = engine.run(images(2))
    engine.run(images(3))
    np.testing.assert_allclose(first, by_hand(images(2)), rtol=1e-5, atol=1e-6)
    engine.close()


def test_a_fixed_batch_is_filled_up_with_zeros(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin, batch="4", batches=None)
    for n in (4, 1, 6):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
        assert not engine._output.host[n % 4 or 4 :].any()
    assert set(newest.said("images")) == {4}
    engine.close()


def test_the_shape_is_set_only_when_it_changes(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    newest.asked.clear()
    for n in (2, 2, 2, 3, 2):
        engine.run(images(n))
    assert newest.said("images") == [2, 3, 2]
    assert newest.said("address") == []
    engine.close()


def test_gpu_time_is_one_number_for_each_run(newest: Release, standin: StandIn) -> None:
    """A piece of work is 0.25 ms on the stand-in's clock; 20 images are three of them where 8 is the most."""
    engine = opened(newest, standin)
    for n in (1, 8, 20):
        engine.run(images(n))
    assert engine.gpu_ns == [250_000, 250_000, 750_000]
    engine.close()


def test_layers_are_timed_in_a_context_that_is_gone_before_the_next(release: Release, standin: StandIn) -> None:
    engine = opened(release, standin)
    assert release.said("context") == ["made"]
    assert engine.layer_times_ms() == {"conv1": 0.5}
    assert release.said("context") == ["made", "gone", "made", "gone", "made"]
    profiled = [profiled for _, profiled in release.said("run")]
    assert len(profiled) == 12
    assert all(profiled)
    release.asked.clear()
    engine.run(images(1))
    assert release.said("run") == [(1, False)]
    engine.close()


def test_layers_are_timed_at_the_batch_that_kernels_were_chosen_for(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    assert newest.said("run") == []
    engine.layer_times_ms()
    assert {images for images, _ in newest.said("run")} == {2}
    engine.close()


@pytest.mark.parametrize(("version", "size"), [("8.6.1", 1000), ("10.3.0", 2000), ("11.4.0.106", 2000)])
def test_memory_is_asked_by_the_name_that_a_release_has(standin: StandIn, version: str, size: int) -> None:
    engine = opened(Release(version, standin.enqueue), standin)
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


def test_a_graph_is_captured_once_for_each_batch(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin, graph=True)
    for n in (2, 2, 5, 2, 5):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
    assert standin.held("exec") == 2
    assert engine.graph_reason is None
    assert newest.said("run").count((2, False)) == 2  # one plain run and the capture; launches are not TensorRT's
    engine.close()


def test_without_a_graph_the_plain_way_is_taken_and_the_reason_told(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin, graph=True)
    standin.set(refuse_capture=True)
    for n in (2, 3):
        np.testing.assert_allclose(engine.run(images(n)), by_hand(images(n)), rtol=1e-5, atol=1e-6)
    assert engine.graph_reason.startswith("it cannot be captured: TensorRT did not run model.engine")
    assert standin.held("exec") == 0
    engine.close()


def test_no_graph_is_made_where_none_is_asked_for(newest: Release, standin: StandIn) -> None:
    engine = opened(newest, standin)
    engine.run(images(1))
    assert (engine.graph_reason, standin.held("exec")) == ("not asked for", 0)
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
    standin.set(room=100)  # the input's buffers are 128 bytes, streams and events fit
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
