"""`compile` and `load`: an engine is used where it fits and only there, and each reason against it is told.

TensorRT and the CUDA runtime are stand-ins; the real builder is in `test_trt_check.py`.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import sys

import numpy as np
import pytest
from trt_stand_ins import ELSEWHERE, IMAGE, SPARSITY, Release

from runtimes import cuda, trt
from runtimes.errors import UserError
from runtimes.files import sha256

OPTIONS = {"batch": "2", "threads": "1"}


@pytest.fixture
def board(compiled, monkeypatch):
    """A machine with a GPU and TensorRT 10.3.0."""
    compiled.set()
    release = Release("10.3.0", compiled.enqueue, compiled.capturing)
    monkeypatch.setattr(cuda, "libraries", lambda: [str(compiled.path)])
    monkeypatch.setitem(sys.modules, "tensorrt", release.module)
    yield release
    if release.engines:
        gc.collect()  # a refusal's traceback refers to its frames in a circle
    assert (compiled.held(), release.engines) == (0, 0)


@pytest.fixture
def onnx(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_text("held=fp16")
    return path


@pytest.fixture
def engine(board, onnx, tmp_path):
    path = trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    board.asked.clear()
    return path


def sidecar(path):
    return path.with_name(path.name + ".json")


def changed(path, *place_and_value) -> None:
    *place, last, value = place_and_value
    content = json.loads(sidecar(path).read_text())
    inner = content
    for key in place:
        inner = inner[key]
    inner[last] = value
    sidecar(path).write_text(json.dumps(content))


# Compile -------------------------------------------------------------------------------------------------------------


def test_the_sidecar_says_from_what_by_what_and_where(engine, onnx) -> None:
    content = json.loads(sidecar(engine).read_text())
    assert content["library"] == {"name": "tensorrt", "version": "10.3.0"}
    assert content["onnx"] == {"file": "model.onnx", "sha256": sha256(onnx)}
    wished = {"batch": 2, "precision": None, "sparsity": True, "workspace_mb": None, "build": 0}
    assert content["options"] == wished
    assert content["engine"] == {"file": engine.name, "bytes": engine.stat().st_size, "sha256": sha256(engine)}
    machine = content["machine"]
    assert (machine["device"], machine["compute_capability"], machine["multiprocessors"]) == ("Stand-in", "8.7", 8)
    assert (machine["driver"], machine["runtime"]) == ("12.6", "12.2")
    build = content["build"]
    assert (build["flags"], build["strongly_typed"], build["batches"]) == (["SPARSE_WEIGHTS"], True, [2, 2, 2])
    assert build["seconds"] > 0
    assert build["log_failure"] is None
    assert build["workspace_mb"] == min(1024, build["available_mb"] // 4)
    assert build["log"] == [f"[V] [TRT] {line}" for line in SPARSITY]


def test_beside_the_engine_stand_only_its_sidecar_its_log_and_the_timing_cache(engine) -> None:
    names = sorted(path.name for path in engine.parent.iterdir())
    cache = [name for name in names if name.startswith("timing-")]
    assert len(cache) == 1
    assert names == sorted([engine.name, f"{engine.name}.json", f"{engine.name}.log", *cache])
    assert SPARSITY[1] in (engine.parent / f"{engine.name}.log").read_text()


def test_an_engine_that_fits_is_taken_as_it_is(board, engine, onnx) -> None:
    before = engine.stat().st_mtime_ns
    assert trt.compile(onnx, engine.parent, {**OPTIONS, "cuda_graph": "1"}, lambda: None) == engine
    assert (board.said("build"), engine.stat().st_mtime_ns) == ([], before)


@pytest.mark.parametrize(
    "options", [{"batch": "1"}, {"sparsity": "0"}, {"workspace_mb": "9"}, {"precision": "fp16"}, {"build": "1"}]
)
def test_other_options_get_an_engine_of_their_own(board, engine, onnx, options: dict[str, str]) -> None:
    other = trt.compile(onnx, engine.parent, {**OPTIONS, **options}, lambda: None)
    assert other != engine
    assert engine.is_file()
    assert len(board.said("build")) == 1


def test_another_onnx_file_of_the_same_name_gets_an_engine_of_its_own(board, engine, onnx) -> None:
    onnx.write_text("held=fp16 other=1")
    assert trt.compile(onnx, engine.parent, OPTIONS, lambda: None) != engine


@pytest.mark.parametrize(
    "change",
    [
        ("library", "version", "10.3.1"),
        ("library", "name", "tensorrt_rtx"),
        ("machine", "device", "Xavier"),
        ("machine", "compute_capability", "7.2"),
        ("machine", "multiprocessors", 16),
        ("machine", "board", "another"),
        ("onnx", "sha256", "0" * 64),
        ("options", "batch", 8),
        ("engine", "sha256", "0" * 64),
        ("engine", "bytes", 1),
        ("schema_version", 0),
        ("kind", "something else"),
    ],
)
def test_an_engine_whose_sidecar_does_not_fit_is_built_again(board, engine, onnx, change) -> None:
    changed(engine, *change)
    assert trt.compile(onnx, engine.parent, OPTIONS, lambda: None) == engine
    assert len(board.said("build")) == 1
    trt.load(engine, OPTIONS).close()


@pytest.mark.parametrize("damage", ["empty", "missing", "no sidecar", "no JSON"])
def test_a_damaged_engine_is_built_again(board, engine, onnx, damage: str) -> None:
    if damage == "empty":
        engine.write_bytes(b"")
    elif damage == "no JSON":
        sidecar(engine).write_text("{")
    else:
        (engine if damage == "missing" else sidecar(engine)).unlink()
    trt.compile(onnx, engine.parent, OPTIONS, lambda: None)
    assert len(board.said("build")) == 1
    trt.load(engine, OPTIONS).close()


def test_an_engine_fits_whatever_memory_is_left(board, onnx, tmp_path, monkeypatch) -> None:
    made = []
    for left in (1000, 8000, None):
        monkeypatch.setattr(trt, "available_mb", lambda left=left: left)
        made.append(trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None))
    assert made[0] == made[1] == made[2]
    assert len(board.said("build")) == 1
    build = json.loads(sidecar(made[0]).read_text())["build"]
    assert (build["available_mb"], build["workspace_mb"]) == (1000, 250)
    trt.load(made[0], OPTIONS).close()


def test_another_power_mode_or_driver_does_not_make_an_engine_wrong(board, engine, onnx) -> None:
    changed(engine, "machine", "power_mode", "25W (1)")
    changed(engine, "machine", "driver", "13.0")
    trt.compile(onnx, engine.parent, OPTIONS, lambda: None)
    assert board.said("build") == []


def test_the_second_build_starts_from_the_timings_of_the_first(board, engine, onnx) -> None:
    other = trt.compile(onnx, engine.parent, {**OPTIONS, "sparsity": "0"}, lambda: None)
    assert json.loads(sidecar(engine).read_text())["build"]["timing_cache"] == "new"
    assert json.loads(sidecar(other).read_text())["build"]["timing_cache"] == "used"


def test_numbered_builds_are_engines_of_their_own_that_know_nothing_of_each_others_timings(board, engine, onnx) -> None:
    """Engine 1 is built with no cache, although engine 0 left one; so is engine 2. Each loads under its own number."""
    made = [engine]
    for number in ("1", "2"):
        made.append(trt.compile(onnx, engine.parent, {**OPTIONS, "build": number}, lambda: None))
    assert len(set(made)) == 3
    assert len(board.said("build")) == 2
    for number, path in enumerate(made):
        assert json.loads(sidecar(path).read_text())["build"]["timing_cache"] == "new"
        trt.load(path, {**OPTIONS, "build": str(number)}).close()
    assert len(list(engine.parent.glob("timing-*.cache"))) == 3
    with pytest.raises(UserError, match="its options is build 1, here it is build 0"):
        trt.load(made[1], OPTIONS)


def test_a_build_that_fails_leaves_its_log_and_no_engine(board, onnx, tmp_path) -> None:
    onnx.write_text("held=fp16 fail=build")
    with pytest.raises(UserError, match="no implementation for layer3/frob") as caught:
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    (log,) = (tmp_path / "engines").iterdir()
    assert str(log) in caught.value.hint
    assert "[W] [TRT] Skipping tactic 0x1 due to insufficient memory" in log.read_text()


def test_the_log_is_there_while_it_is_built(board, onnx, tmp_path, monkeypatch) -> None:
    """A process that dies in the midst of it, for want of memory, leaves what was said."""
    seen = []

    def build(self, network, config):
        self._logger.log(type("S", (), {"name": "VERBOSE"}), "about to die")
        (log,) = (tmp_path / "engines").iterdir()
        seen.append((log.suffix, log.read_text()))

    monkeypatch.setattr(board.module.Builder, "build_serialized_network", build)
    with pytest.raises(UserError, match="no engine and no reason"):
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert seen == [(".log", "[V] [TRT] about to die\n")]


@pytest.mark.parametrize("fails", [False, True])
def test_the_log_is_closed_when_the_build_is_over(board, onnx, tmp_path, monkeypatch, fails: bool) -> None:
    log = io.StringIO()
    monkeypatch.setattr(trt, "_opened", lambda path: log)
    if fails:
        onnx.write_text("held=fp16 fail=build")
    with pytest.raises(UserError) if fails else contextlib.nullcontext():
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert log.closed


def test_a_log_that_cannot_be_written_to_its_end_stands_in_the_sidecar(board, onnx, tmp_path, monkeypatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trt, "_opened", lambda path: Full())
    path = trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert "No space left" in json.loads(sidecar(path).read_text())["build"]["log_failure"]


def test_a_folder_that_cannot_be_written_is_told_before_the_build(board, onnx, tmp_path) -> None:
    (tmp_path / "engines").touch()
    with pytest.raises(UserError, match="cannot be written"):
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert board.said("build") == []


def test_an_error_of_the_build_is_not_why_the_engine_cannot_be_read_back(board, onnx, tmp_path, monkeypatch) -> None:
    def build(self, network, config):
        self._logger.log(type("S", (), {"name": "ERROR"}), "this kernel cannot do it, another can")
        return ELSEWHERE

    monkeypatch.setattr(board.module.Builder, "build_serialized_network", build)
    with pytest.raises(UserError, match=r"cannot load .*: expecting compute 8\.7"):
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)


def test_an_engine_that_cannot_be_read_back_gets_no_name(board, onnx, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(board.module.Builder, "build_serialized_network", lambda self, network, config: ELSEWHERE)
    with pytest.raises(UserError, match=r"expecting compute 8\.7 got compute 7\.2"):
        trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert [path.suffix for path in (tmp_path / "engines").iterdir()] == [".log"]


def test_little_memory_during_a_build_stands_in_the_sidecar(board, onnx, tmp_path, monkeypatch) -> None:
    whole = board.module.Builder.build_serialized_network

    def build(self, network, config):
        self._logger.log(type("S", (), {"name": "VERBOSE"}), "Skipping tactic 0x3 due to insufficient memory")
        return whole(self, network, config)

    monkeypatch.setattr(board.module.Builder, "build_serialized_network", build)
    path = trt.compile(onnx, tmp_path / "engines", OPTIONS, lambda: None)
    assert [entry["code"] for entry in json.loads(sidecar(path).read_text())["build"]["warnings"]] == ["low-memory"]


# Load ----------------------------------------------------------------------------------------------------------------


def test_a_loaded_engine_answers_and_has_a_receipt(engine) -> None:
    loaded = trt.load(engine, OPTIONS)
    images = np.ones((3, *IMAGE), np.float32)
    np.testing.assert_array_equal(loaded.run(images), np.full((3, 3), 4.0) * [1, 2, 3])
    receipt = loaded.receipt
    assert (receipt["eligible"], receipt["chosen"], receipt["verdict"]) == (2, 1, "yes")
    assert receipt["tactics"] == [{"layer": "conv1", "tactic": "sm80_sparse_conv", "sparse": True, "ms": 7.5}]
    loaded.close()


def test_an_engine_whose_receipt_fails_is_given_back(board, engine, monkeypatch) -> None:
    def broken(self, form):
        raise RuntimeError("no information")

    monkeypatch.setattr(board.module.EngineInspector, "get_engine_information", broken)
    loaded = trt.load(engine, OPTIONS)
    with pytest.raises(RuntimeError, match="no information"):
        _ = loaded.receipt
    loaded.close()
    assert board.contexts == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("library", "version", "8.6.2"), "its version of the library is 8.6.2, here it is 10.3.0"),
        (("library", "name", "tensorrt_rtx"), "its library is tensorrt_rtx, here it is tensorrt"),
        (("machine", "device", "Xavier"), "its device is Xavier, here it is Stand-in"),
        (("machine", "device", None), "its device is not known, here it is Stand-in"),
        (("machine", "compute_capability", "7.2"), "its compute capability is 7.2, here it is 8.7"),
        (("machine", "multiprocessors", 16), "its number of multiprocessors is 16, here it is 8"),
        (("machine", "board", "a robot"), "its board is a robot, here it is"),
        (("options", "batch", 8), "its options is batch 8, here it is batch 2"),
        (("engine", "bytes", 5), "and 5 were written"),
        (("engine", "sha256", "0"), "the SHA-256 of its file is another"),
        (("schema_version", 9), "its schema is 9, here it is 1"),
    ],
)
def test_an_engine_from_elsewhere_is_refused_with_the_reason(engine, change, words: str) -> None:
    changed(engine, *change)
    with pytest.raises(UserError, match="was not made for this") as caught:
        trt.load(engine, OPTIONS)
    assert words in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize("options", [{"batch": "4"}, {**OPTIONS, "sparsity": "0"}, {**OPTIONS, "precision": "fp16"}])
def test_an_engine_with_other_options_is_refused(engine, options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="its options is"):
        trt.load(engine, options)


def test_an_engine_without_a_sidecar_is_refused(engine) -> None:
    sidecar(engine).unlink()
    with pytest.raises(UserError, match="nobody knows on what machine it was made"):
        trt.load(engine, OPTIONS)


def test_a_foreign_sidecar_is_refused(engine) -> None:
    sidecar(engine).write_text('["not ours"]')
    with pytest.raises(UserError, match="does not describe an engine"):
        trt.load(engine, OPTIONS)


def test_an_onnx_file_is_not_an_engine(board, onnx) -> None:
    with pytest.raises(UserError, match="nobody knows"):
        trt.load(onnx, OPTIONS)


def test_an_option_that_nobody_has_is_refused_by_both(engine, onnx) -> None:
    for call in (
        lambda options: trt.compile(onnx, engine.parent, options, lambda: None),
        lambda o: trt.load(engine, o),
    ):
        with pytest.raises(UserError, match="unknown option 'sparsty'"):
            call({**OPTIONS, "sparsty": "0"})
        with pytest.raises(UserError, match="option cuda_graph is '2'"):
            call({**OPTIONS, "cuda_graph": "2"})


def test_what_is_missing_is_one_line(board, compiled, monkeypatch) -> None:
    assert trt.missing() is None
    compiled.set(devices=0)
    assert "no GPU that CUDA can use: cudaGetDeviceCount: no device" in trt.missing()
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "TensorRT is not installed" in trt.missing()
    assert "\n" not in trt.missing()


def test_the_version_is_the_library_s(board) -> None:
    assert trt.version() == "10.3.0"
