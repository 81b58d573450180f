"""The tiny networks as ONNX files, and bundles that hold them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from standin_cuda import StandIn
from tiny_networks import PREPROCESS, QUICK, WEIGHTS

from export import native
from export.bundle import NetworkFile, write_bundle
from export.program import to_program
from runtimes import watch_files
from runtimes.readings import Reading
from runtimes.sparse_cpu import library


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """50 images, uint8 (50, 8, 8, 1): no multiple of the batches they are run in."""
    return np.random.default_rng(7).integers(0, 17, size=(50, 8, 8, 1), dtype=np.uint8)


@pytest.fixture(scope="session")
def tiny_onnx(tmp_path_factory) -> dict[str, Path]:
    """logits = flatten(input) @ W, opset 17, IR 8: the networks "dense" and "sparse", each with a program beside it."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = {"dense": folder / "dense.onnx", "sparse": folder / "model.onnx"}
    for name, path in paths.items():
        nodes = [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ]
        inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 8, 8])]
        outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 10])]
        graph = helper.make_graph(nodes, "tiny", inputs, outputs, [numpy_helper.from_array(WEIGHTS[name], "weight")])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        to_program(path)
    return paths


@pytest.fixture(scope="session")
def sparse_cpu_built() -> None:
    """The library of sparse_cpu in the cache, where there is a compiler; else the runtime says what is missing."""
    if native.lacks_compiler() is None and library.triple() in native.TRIPLES:
        native.build_library(library.triple())


@pytest.fixture(scope="session")
def pristine_bundle(tmp_path_factory, tiny_onnx, images) -> Path:
    """A bundle that no test may change."""
    folder = tmp_path_factory.mktemp("pristine") / "bundle"
    networks = {name: NetworkFile(path) for name, path in tiny_onnx.items()}
    write_bundle(
        folder,
        name="tiny",
        networks=networks,
        images=[images],
        preprocess=PREPROCESS,
        runtimes=["ort"],
        workload=QUICK,
    )
    return folder


@pytest.fixture
def bundle(tmp_path, pristine_bundle) -> Path:
    """A bundle of the test's own."""
    shutil.copytree(pristine_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> StandIn:
    """The stand-in for libcudart, compiled once."""
    return StandIn(tmp_path_factory.mktemp("standin"))


@pytest.fixture
def standin(compiled):
    """The stand-in as new; a test may leave nothing allocated in it."""
    compiled.set()
    yield compiled
    assert compiled.held() == 0


@pytest.fixture
def nothing_on_the_path(monkeypatch, tmp_path):
    """A folder on PATH without tegrastats, unless the test puts one there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


@pytest.fixture
def powered(monkeypatch):
    """Makes a source of power the one that is found."""

    def by(source):
        monkeypatch.setattr(watch_files, "power_source", lambda root: Reading(source))
        return source

    return by
