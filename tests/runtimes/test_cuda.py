"""`runtimes.cuda` over the real libcudart, as far as a machine without a GPU goes, and over a stand-in that counts."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import numpy as np
import pytest
from standin_cuda import KINDS, StandIn

from runtimes import cuda, cuda_places
from runtimes.errors import UserError


@pytest.fixture(scope="module")
def real() -> str:
    found = [path for path in cuda.libraries() if "/" in path]
    if not found:
        pytest.skip("no libcudart on this machine")
    return found[-1]


def test_every_function_is_in_the_real_library(real: str) -> None:
    library = ctypes.CDLL(real)
    for name in (*cuda.FUNCTIONS, "cudaGetErrorName", "cudaGetErrorString"):
        assert getattr(library, name), name
    assert any(hasattr(library, name) for name in cuda.PROPERTIES)


def test_the_numbers_of_attributes_are_those_of_cuda_s_header() -> None:
    header = next((folder / "driver_types.h" for folder in _header_folders()), None)
    if header is None:
        pytest.skip("no driver_types.h on this machine")
    text = header.read_text(errors="replace")
    for name, value in (
        ("cudaDevAttrComputeCapabilityMajor", cuda._MAJOR),
        ("cudaDevAttrComputeCapabilityMinor", cuda._MINOR),
        ("cudaDevAttrMultiProcessorCount", cuda._PROCESSORS),
        ("cudaMemcpyHostToDevice", cuda._TO_DEVICE),
        ("cudaMemcpyDeviceToHost", cuda._TO_HOST),
        ("cudaStreamCaptureModeThreadLocal", cuda._THREAD_LOCAL),
        ("cudaErrorMemoryAllocation", cuda._OUT_OF_MEMORY),
    ):
        line = next(line for line in text.splitlines() if line.split("=")[0].strip() == name)
        assert int(line.split("=")[1].split(",")[0].split("/")[0]) == value, line
    declared = {
        int(line.split("=")[1].split(",")[0]): line.split("=")[0].strip()
        for line in text.splitlines()
        if line.strip().startswith("cudaError") and "=" in line
    }
    assert not (cuda._NO_DEVICE | cuda._NO_DEVICE_AT_FIRST) - declared.keys()
    assert re.search(rf"#define cudaDeviceScheduleSpin\s+0x0?{cuda._SPIN}\b", text)
    assert [declared[code] for code in sorted(cuda._NOT_YOURS)] == [
        "cudaErrorOperatingSystem",
        "cudaErrorNotPermitted",
        "cudaErrorNotSupported",
    ]
    assert declared[35] == "cudaErrorInsufficientDriver"
    assert declared[100] == "cudaErrorNoDevice"


def _header_folders():
    for path in cuda.libraries():
        folder = Path(path).parent.parent / "include"
        if (folder / "driver_types.h").is_file():
            yield folder


def test_without_a_gpu_the_real_library_gets_two_lines(real: str) -> None:
    if cuda.find_gpu() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(UserError, match="no GPU that CUDA can use: cudaGetDeviceCount: ") as caught:
        cuda.Cuda(real).gpu()
    assert "\n" not in caught.value.message + caught.value.hint
    assert "libcudart" in caught.value.hint


def test_each_library_is_tried_once() -> None:
    found = list(cuda.libraries())
    assert len(found) == len(set(found))


def test_what_cannot_be_loaded_is_passed_over_and_told(tmp_path, monkeypatch) -> None:
    odd = tmp_path / "libcudart.so.9"
    odd.write_bytes(b"no library")
    monkeypatch.setattr(cuda, "libraries", lambda: [str(odd)])
    with pytest.raises(UserError, match="no GPU that CUDA can use"):
        cuda.open_cuda()
    monkeypatch.setattr(cuda, "libraries", list)
    with pytest.raises(UserError, match="libcudart"):
        cuda.open_cuda()


def test_the_first_library_that_sees_a_gpu_is_taken(tmp_path, monkeypatch, standin: StandIn) -> None:
    odd = tmp_path / "libcudart.so.99"
    odd.write_bytes(b"newer than the driver")
    monkeypatch.setattr(cuda, "libraries", lambda: [str(odd), str(standin.path)])
    assert cuda.find_gpu() == ("Stand-in", "8.7", 8, "12.6", "12.2")
    standin.set(devices=0)
    assert cuda.find_gpu() is None


def test_a_folder_is_read_newest_first(tmp_path) -> None:
    for name in ("libcudart.so.12", "libcudart.so.13", "libcublas.so.13"):
        (tmp_path / name).touch()
    assert [path[-2:] for path in cuda_places._in(str(tmp_path))] == ["13", "12"]


def test_what_goes_to_the_device_comes_back(standin: StandIn) -> None:
    ours = standin.cuda
    stream, device = ours.stream(), ours.malloc(400)
    there, back = ours.host_alloc(400), ours.host_alloc(400)
    sent = np.frombuffer((ctypes.c_float * 100).from_address(there), dtype=np.float32)
    got = np.frombuffer((ctypes.c_float * 100).from_address(back), dtype=np.float32)
    sent[:] = np.arange(100)
    ours.to_device(device, there, 400, stream)
    ours.to_host(back, device, 200, stream)
    ours.synchronize(stream)
    np.testing.assert_array_equal(got[:50], np.arange(50))
    assert not np.isin(got[50:], np.arange(100)).any()
    assert [standin.held(kind) for kind in KINDS] == [1, 2, 1, 0, 0, 0]
    with pytest.raises(RuntimeError, match="cudaMemcpyAsync"):
        ours.to_device(device, there, 404, stream)
    for give_back, what in ((ours.free, device), (ours.host_free, there), (ours.host_free, back)):
        give_back(what)
    ours.stream_destroy(stream)


def test_events_measure_what_lies_between_them(standin: StandIn) -> None:
    ours = standin.cuda
    stream, begin, end = ours.stream(), ours.event(), ours.event()
    ours.record(begin, stream)
    for _ in range(3):
        assert standin.enqueue(stream, lambda: None)
    ours.record(end, stream)
    with pytest.raises(RuntimeError, match="cudaEventElapsedTime"):
        ours.elapsed_ns(begin, end)
    ours.synchronize(stream)
    assert ours.elapsed_ns(begin, end) == 750_000
    ours.event_destroy(begin)
    ours.event_destroy(end)
    ours.stream_destroy(stream)


def test_a_captured_graph_runs_only_when_it_is_launched(standin: StandIn) -> None:
    ours, done = standin.cuda, []
    stream = ours.stream()
    ours.begin_capture(stream)
    assert standin.enqueue(stream, lambda: done.append(1))
    graph = ours.end_capture(stream)
    assert done == []
    ours.launch(graph, stream)
    ours.launch(graph, stream)
    ours.synchronize(stream)
    assert done == [1, 1]
    assert standin.held("graph") == 0
    ours.graph_destroy(graph)
    ours.stream_destroy(stream)


def test_a_capture_that_fails_leaves_nothing(standin: StandIn) -> None:
    ours = standin.cuda
    stream = ours.stream()
    standin.set(refuse_capture=True)
    ours.begin_capture(stream)
    assert not standin.enqueue(stream, lambda: None)
    ours.abandon_capture(stream)
    ours.synchronize(stream)
    ours.stream_destroy(stream)


def test_full_memory_is_the_user_s_to_mend_and_a_wrong_call_is_ours(standin: StandIn) -> None:
    standin.set(room=100)
    with pytest.raises(UserError, match="no memory left: cudaMalloc: out of memory"):
        standin.cuda.malloc(101)
    with pytest.raises(RuntimeError, match="cudaFree: something else"):
        standin.cuda.free(0x10)
    standin.set(devices=0)
    with pytest.raises(UserError, match=r"no device \(cudaErrorNoDevice 100\)"):
        standin.cuda.malloc(4)


@pytest.mark.parametrize("code", [101, 304, 800, 801])
def test_a_gpu_that_is_not_open_to_this_user_is_no_gpu(standin: StandIn, code: int) -> None:
    standin.set(count_code=code)
    with pytest.raises(UserError, match=f"no GPU that CUDA can use: cudaGetDeviceCount: .* {code}") as caught:
        standin.cuda.gpu()
    advice = "`sudo usermod -aG video,render $USER`, then log in again"
    assert caught.value.hint.endswith(advice) == (code != 101)
    assert "\n" not in caught.value.message + caught.value.hint


def test_whatever_one_library_says_the_next_is_asked(tmp_path, monkeypatch, standin: StandIn) -> None:
    (tmp_path / "odd").mkdir()
    odd = StandIn(tmp_path / "odd")
    monkeypatch.setattr(cuda, "libraries", lambda: [str(odd.path), str(standin.path)])
    for code in (801, 777):
        odd.set(count_code=code)
        assert cuda.open_cuda()._path == str(standin.path)
    monkeypatch.setattr(cuda, "libraries", lambda: [str(odd.path)])
    with pytest.raises(UserError, match=r"no GPU that CUDA can use: .* 777"):
        cuda.open_cuda()


def test_only_the_first_call_s_refusals_say_that_there_is_no_gpu(standin: StandIn) -> None:
    with pytest.raises(RuntimeError, match="801"):
        standin.cuda._check("cudaStreamEndCapture", 801)


def test_the_host_spins_where_that_is_set_in_time(standin: StandIn) -> None:
    assert standin.cuda.spin() == "spin"
    assert standin.flags == 1
    stream = standin.cuda.stream()
    assert standin.cuda.spin().startswith("CUDA's default: cudaSetDeviceFlags: ")
    standin.cuda.stream_destroy(stream)
