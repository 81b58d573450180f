"""sparse_cpu as a runtime: options, answers, what it says of its layers, and what it refuses."""

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from program_reference import run_program
from tiny_programs import CLASSES, SHAPE, network

from export import native
from export.program import write_program
from runtimes import sparse_cpu
from runtimes.bundle import Network
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.files import sha256
from runtimes.jobs import takes
from runtimes.records import Workload
from runtimes.sparse_cpu import library
from runtimes.sparse_cpu.receipt import SKIPPING, receipt

pytestmark = pytest.mark.skipif(native.lacks_compiler() is not None, reason=str(native.lacks_compiler()))
DENSE = {"conv_dense", "conv_depthwise", "linear_dense"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """The programs on disk, dense and with 95 % of zeros; the library is built."""
    native.build_library(library.triple())
    folder = tmp_path_factory.mktemp("programs")
    for name, zeros in (("dense", 0.0), ("sparse", 0.95)):
        write_program(network(zeros), folder / f"{name}.program.json")
    return folder


def images(n):
    return np.random.default_rng(n).normal(size=(n, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize("name", ["dense", "sparse"])
def test_it_answers_as_the_reference_at_any_batch_and_number_of_threads(paths, name):
    zeros = {"dense": 0.0, "sparse": 0.95}[name]
    expected = run_program(network(zeros), images(5)).reshape(5, CLASSES)
    single = sparse_cpu.load(paths / f"{name}.program.json", {"threads": "1"})
    answers = single.run(images(5))
    np.testing.assert_allclose(answers, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([single.run(image[None]) for image in images(5)]), answers)
    threaded = sparse_cpu.load(paths / f"{name}.program.json", {"threads": "3"})
    np.testing.assert_array_equal(threaded.run(images(5)), answers)
    assert single.run(images(5)[:0]).shape == (0, CLASSES)
    for engine in (single, threaded):
        engine.close()


def test_an_array_that_is_not_contiguous_or_of_another_kind_is_answered_the_same(paths):
    engine = sparse_cpu.load(paths / "dense.program.json", {})
    batch = images(4)
    np.testing.assert_array_equal(engine.run(np.asfortranarray(batch)), engine.run(batch))
    np.testing.assert_array_equal(engine.run(batch.astype(np.float64)), engine.run(batch))
    engine.close()


def test_the_receipt_says_which_layers_skip_their_zeros(paths):
    sparse, dense = (sparse_cpu.load(paths / f"{name}.program.json", {}) for name in ("sparse", "dense"))
    told = sparse.receipt
    assert told["verdict"] == "yes"
    assert told["chosen_layers"] == ["layer/Conv"]
    assert told["kernels"] == os.environ.get(sparse_cpu.KERNELS_VARIABLE, sparse_cpu.kernels()[0])
    assert told["kernels"] in told["reason"]
    assert {layer["layer"]: layer["sparse"] for layer in told["tactics"]} == {"layer/Conv": True, "classifier": False}
    assert all(layer["ms"] > 0 for layer in told["tactics"])
    assert told["tactics"][0]["nonzero_macs"] == np.count_nonzero(network(0.95).operations[0].arrays["weight"]) * 63
    assert dense.receipt["verdict"] == "no"
    assert sparse.engine_bytes < dense.engine_bytes
    assert sparse.context_bytes > 0
    for engine in (sparse, dense):
        engine.close()


def test_a_sparse_kernel_without_a_zero_to_skip_is_no_evidence():
    step = {"name": "a", "kernel": "conv_sparse", "weights": 9, "nonzeros": 9, "macs": 9, "nonzero_macs": 9}
    described = {"kernels": "scalar", "lanes": 1, "steps": [step]}
    assert receipt(described)["verdict"] == "no"
    assert receipt({**described, "steps": [{**step, "nonzeros": 8}]}, [5])["verdict"] == "yes"
    assert receipt({**described, "steps": [{**step, "nonzeros": 8, "kernel": "conv_dense"}]})["chosen"] == 0


def test_every_kernel_that_multiplies_is_known_to_skip_zeros_or_not():
    named = re.findall(r'"((?:conv|linear)_\w+)"', (library.NATIVE / "describe.c").read_text())
    assert set(named) - {"conv_pair"} == {*SKIPPING, *DENSE}, "a pair is described as the two steps that it is"


def test_every_set_of_kernels_can_be_forced_by_option_and_environment(paths, monkeypatch):
    for name in sparse_cpu.kernels():
        engine = sparse_cpu.load(paths / "sparse.program.json", {"kernels": name})
        assert engine.described["kernels"] == name
        engine.close()
        monkeypatch.setenv(sparse_cpu.KERNELS_VARIABLE, name)
        engine = sparse_cpu.load(paths / "sparse.program.json", {})
        assert engine.described["kernels"] == name
        engine.close()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kernels": "mmx"}, "the kernels 'mmx' do not run here"),
        ({"threads": "0"}, "threads is '0'"),
        ({"threads": "two"}, "threads is 'two'"),
        ({"threads": "65"}, "threads is '65'"),
        ({"threads": "4294967297"}, "threads is"),  # 1 in 32 bits
    ],
)
def test_options_that_cannot_be_are_the_users_errors(paths, options, told):
    with pytest.raises(UserError, match=told):
        sparse_cpu.load(paths / "sparse.program.json", options)


def test_a_network_without_a_program_and_images_of_another_shape_are_the_users_errors(paths, tmp_path):
    with pytest.raises(UserError, match=r"model\.onnx has no program model\.program\.json"):
        sparse_cpu.load(tmp_path / "model.onnx", {})
    with pytest.raises(UserError, match=r"gone\.program\.json"):
        sparse_cpu.load(tmp_path / "gone.program.json", {})
    (tmp_path / "bad.program.json").write_text("{")
    with pytest.raises(UserError, match=r"cannot load bad\.program\.json"):
        sparse_cpu.load(tmp_path / "bad.program.json", {})
    engine = sparse_cpu.load(paths / "dense.program.json", {})
    with pytest.raises(UserError, match=r"images of shape \(3, 7, 9\)"):
        engine.run(np.zeros((1, 3, 7, 9), np.float32))
    engine.close()


def test_a_closed_engine_is_closed_once_and_runs_no_more(paths):
    engine = sparse_cpu.load(paths / "dense.program.json", {})
    engine.close()
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.run(images(1))


def test_files_in_lower_precisions_are_for_other_runtimes():
    assert takes("sparse_cpu", Network("sparse", "model.onnx", "fp32", ""))
    assert not takes("sparse_cpu", Network("sparse-int8", "model.int8.onnx", "int8", ""))
    assert takes("ort", Network("sparse-int8", "model.int8.onnx", "int8", ""))


def test_an_onnx_file_stands_for_the_program_beside_it(paths):
    engine = sparse_cpu.load(paths / "dense.onnx", {})
    assert engine.shape == SHAPE
    assert engine.classes == CLASSES
    engine.close()


def test_a_program_of_another_onnx_file_is_not_taken_for_the_one_beside_it(tmp_path):
    source = tmp_path / "net.onnx"
    source.write_bytes(b"a network")
    write_program(replace(network(0.0), source_sha256=sha256(source)), tmp_path / "net.program.json")
    sparse_cpu.load(source, {}).close()
    source.write_bytes(b"its next version")
    for look in (sparse_cpu.load, sparse_cpu.prepare):
        with pytest.raises(UserError, match=r"net\.program\.json was not made from the net\.onnx beside it") as told:
            look(source, {})
        assert "edgeprune export RUN" in told.value.hint


def test_a_worker_takes_the_library_that_an_option_names_and_tells_its_version(paths, tmp_path, monkeypatch):
    named = tmp_path / "named.so"
    shutil.copyfile(native.build_library(library.triple()), named)
    with named.open("ab") as file:
        file.write(b"another build")  # behind the end: it loads as before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv(library.PATH_VARIABLE, raising=False)
    np.save(tmp_path / "images.npy", np.zeros((2, *SHAPE[1:], SHAPE[0]), np.uint8))
    asked = {
        "runtime": "sparse_cpu",
        "file": str(paths / "dense.program.json"),
        "precision": "fp32",
        "engines": str(tmp_path),
        "build": 0,
        "images": [str(tmp_path / "images.npy")],
        "preprocess": {"scale": 1.0, "mean": [0.0] * 3, "std": [1.0] * 3},
        "workload": Workload(warmup_s=0.0, options={"library": str(named)}).to_json(),
    }
    with EngineProcess("dense", "sparse_cpu", asked) as process:
        assert process.answer("start")["runtime_version"] == f"build {sha256(named)[:12]}"
        assert process.ask("load")["classes"] == CLASSES
    unnamed = {**asked, "workload": Workload().to_json()}
    with EngineProcess("dense", "sparse_cpu", unnamed) as process, pytest.raises(UserError, match="there is no"):
        process.answer("start")


def test_kernels_that_the_environment_forces_are_an_option_of_the_workload(monkeypatch):
    monkeypatch.setenv(sparse_cpu.KERNELS_VARIABLE, "scalar")
    assert sparse_cpu.stated({"busy_us": "1"}) == {"kernels": "scalar", "busy_us": "1"}
    assert sparse_cpu.stated({"kernels": "avx2"}) == {"kernels": "avx2"}
    monkeypatch.delenv(sparse_cpu.KERNELS_VARIABLE)
    assert sparse_cpu.stated({}) == {}
