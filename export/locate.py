"""Where a file and its torch module part: the first layer, in graph order, whose weights or whose output differs."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, TensorProto, helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from export import graph as graphs
from runtimes import RUNTIMES
from runtimes.tables import pick, resolve

_WEIGHT_TOLERANCE = 1e-5
"""Share of a channel's largest weight; folding in float64 and rounding to float32 moves a weight by 6e-8 of itself."""


def different_weights(layers: Iterable[graphs.Layer], weights: Mapping[str, Tensor]) -> str | None:
    """Name of the first layer whose weights are not torch's times one factor for each output channel.

    The factor is what folding the batch normalization leaves: w_onnx[k] = s[k] w_torch[k]. Layers torch has no weight
    for are passed over.
    """
    for layer in layers:
        if layer.name in weights and not _proportional(layer.weight, weights[layer.name].numpy()):
            return layer.name
    return None


def different_activations(plain: nn.Module, model: ModelProto, image: Tensor, tolerance: float) -> str | None:
    """Name of the first layer whose output differs from torch's, both fed with `image` (1, C, H, W).

    An output is compared with that of the torch module of the same name, and with that of the batch normalization
    right after it, which may be folded in. Layers that are no module of their own in torch are passed over.

    :param tolerance: largest accepted error, as a share of the output's largest absolute value.
    """
    layers = graphs.layers(model.graph)
    references = _references(plain, image, {layer.name for layer in layers})
    for layer in layers:
        expected = references.get(layer.name)
        if expected and not _matches(_activation(model, _result(model.graph, layer), image), expected, tolerance):
            return layer.name
    return None


def _proportional(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    if found.shape != expected.shape:
        return False
    ours = found.reshape(len(found), -1).astype(np.float64)
    torchs = expected.reshape(len(expected), -1).astype(np.float64)
    power = (torchs**2).sum(1)
    factor = np.divide((ours * torchs).sum(1), power, out=np.zeros_like(power), where=power > 0)
    error = np.abs(ours - factor[:, None] * torchs).max(1)
    return bool(np.all(error <= _WEIGHT_TOLERANCE * np.abs(ours).max(1)))


def _references(plain: nn.Module, image: Tensor, names: set[str]) -> dict[str, list[Tensor]]:
    """For each named module: its outputs, and those of a batch normalization that reads one of them."""
    found: dict[str, list[Tensor]] = defaultdict(list)
    made: dict[int, tuple[str, Tensor]] = {}  # holding the tensor keeps its id from being given again

    def note(name: str, module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor):
            return
        if isinstance(module, _BatchNorm) and id(arguments[0]) in made:
            found[made[id(arguments[0])][0]].append(output.clone())
        elif name in names:
            found[name].append(output.clone())
            made[id(output)] = (name, output)

    handles = [
        module.register_forward_hook(lambda *seen, name=name: note(name, *seen))
        for name, module in plain.named_modules()
    ]
    try:
        with torch.no_grad():
            plain(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _result(graph: GraphProto, layer: graphs.Layer) -> str:
    """The value that holds a layer's whole output: after the Add of the bias where ONNX has that apart."""
    value: str = layer.node.output[0]
    readers = graphs.consumers(graph).get(value, [])
    constants = graphs.initializers(graph)
    if layer.node.op_type == "MatMul" and len(readers) == 1 and readers[0].op_type == "Add":
        return str(readers[0].output[0]) if any(name in constants for name in readers[0].input) else value
    return value


def _activation(model: ModelProto, value: str, image: Tensor) -> NDArray[np.float32]:
    """What the runtime computes for `value`: the model is cut there and run."""
    cut = ModelProto()
    cut.CopyFrom(model)
    del cut.graph.output[:]
    cut.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cut.onnx"
        onnx.save_model(cut, path)
        engine = resolve(pick(RUNTIMES, "ort", "runtime")).load(path, {"threads": "1"})
        activation: NDArray[np.float32] = engine.run(np.ascontiguousarray(image.numpy()))
        engine.close()
    return activation


def _matches(found: NDArray[np.float32], references: list[Tensor], tolerance: float) -> bool:
    return any(
        found.shape == expected.shape
        and np.abs(found - expected.numpy()).max() <= tolerance * expected.abs().max().item()
        for expected in references
    )
