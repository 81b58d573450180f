"""The runtimes of other people, where somebody has them: named by their interpreters in the environment.

EDGEPRUNE_PEERS="openvino=ov/bin/python deepsparse=ds/bin/python" pytest tests/runtimes/test_peers.py
"""

import os

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from tiny_networks import PREPROCESS, QUICK

from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError

PEERS = dict(word.split("=", 1) for word in os.environ.get("EDGEPRUNE_PEERS", "").split())


@pytest.fixture(params=["openvino", "deepsparse"])
def peer(request) -> str:
    if request.param not in PEERS:
        pytest.skip(f"EDGEPRUNE_PEERS names no interpreter for {request.param}")
    return request.param


@pytest.fixture
def job(tmp_path):
    """A 3 x 3 convolution, ReLU, and the mean of each of its four channels; opset 13, five images."""
    weight = np.random.default_rng(0).normal(size=(4, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["logits"]),
    ]
    ends = [("input", ["n", 1, 8, 8]), ("logits", ["n", 4])]
    inputs, outputs = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in ends)
    graph = helper.make_graph(nodes, "peer", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7), tmp_path / "model.onnx")
    images = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    return {
        "file": str(tmp_path / "model.onnx"),
        "precision": "fp32",
        "engines": str(tmp_path),
        "build": 0,
        "images": [str(tmp_path / "images.npy")],
        "preprocess": PREPROCESS,
        "workload": QUICK.to_json(),
    }


def answers(runtime, job, path, python=None):
    with EngineProcess("model", runtime, {**job, "runtime": runtime}, python=python) as process:
        process.answer("start")
        assert process.ask("load")["classes"] == 4
        assert process.ask("round")["latency_ns"]
        process.ask("answer", path=str(path), n=5, classes=4)
    return np.load(path)


def test_it_answers_what_onnx_runtime_does(peer, job, tmp_path):
    expected = answers("ort", job, tmp_path / "ort.npy")
    np.testing.assert_allclose(answers(peer, job, tmp_path / "peer.npy", PEERS[peer]), expected, rtol=1e-4, atol=1e-5)


def test_it_refuses_a_damaged_file(peer, job, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a network")
    with EngineProcess("model", peer, {**job, "runtime": peer}, python=PEERS[peer]) as process:
        process.answer("start")
        with pytest.raises(UserError, match=r"cannot load model\.onnx"):
            process.ask("load")


@pytest.mark.parametrize("name", ["openvino", "deepsparse"])
def test_without_its_library_it_says_what_to_install(name, job):
    """Here, in our own environment, where it usually is not."""
    from runtimes import RUNTIMES
    from runtimes.tables import resolve

    lacks = resolve(RUNTIMES[name]).missing()
    if lacks is None:
        pytest.skip("it is installed here")
    assert "install" in lacks
    with EngineProcess("model", name, {**job, "runtime": name}) as process, pytest.raises(UserError) as told:
        process.answer("start")
    assert "cannot run here" in told.value.message
    assert "install" in told.value.hint
