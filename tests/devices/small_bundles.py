"""Bundles that are measured in little time: of a small convolutional network for ONNX Runtime, or of nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from export.bundle import NetworkFile, write_bundle
from runtimes.records import Workload

IMAGES, CLASSES = 48, 10
PREPROCESS = {"scale": 1 / 255, "mean": [0.5], "std": [0.25]}
QUICK = Workload(warmup_s=0.02, passes=1, rounds=2, round_s=0.05, min_samples=4, accuracy_batch=16, idle_s=0.1)


def onnx_bundle(folder: Path, workload: Workload = QUICK, *, megabytes: float = 0.0, runtime: str = "ort") -> Path:
    """A bundle in `folder`/bundle: two networks of convolution, ReLU and a linear layer, and 48 images of 12 x 12.

    Args:
        runtime: what measures it by default.
        megabytes: of further images, for transfers that take a while. They are random: nothing makes them smaller.
    """
    draw = np.random.default_rng(11)
    folder.mkdir(parents=True, exist_ok=True)
    networks = {}
    for name, path in (("dense", folder / "dense.onnx"), ("sparse", folder / "model.onnx")):
        _write_network(path, draw)
        networks[name] = NetworkFile(path)
    further = int(megabytes * 1e6 / 144)
    write_bundle(
        folder / "bundle",
        name="small",
        networks=networks,
        images=[draw.integers(0, 256, size=(IMAGES + further, 12, 12, 1), dtype=np.uint8)],
        preprocess=PREPROCESS,
        runtimes=[runtime],
        workload=workload,
    )
    return folder / "bundle"


def _write_network(path: Path, draw: np.random.Generator) -> None:
    weights = {
        "kernel": draw.normal(size=(8, 1, 3, 3)),
        "weight": draw.normal(size=(8 * 5 * 5, CLASSES)) / 14,
        "bias": draw.normal(size=CLASSES),
    }
    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["wide"], strides=[2, 2]),
        helper.make_node("Relu", ["wide"], ["positive"]),
        helper.make_node("Flatten", ["positive"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 12, 12])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])]
    arrays = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, arrays)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
