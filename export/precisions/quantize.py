"""A network in int8: explicit QuantizeLinear and DequantizeLinear pairs, placed where TensorRT fuses them.

What a pair stands before:

- the input of every convolution and linear layer with a stored weight: the first layer and the classifier, too;
- both inputs of a residual addition that a convolution feeds, so that the convolution's epilogue and the shortcut stay
  int8;
- an average pool that a convolution feeds, so that the last convolution's epilogue stays int8.

None stands between a convolution and its activation: that would cost a bit of precision and the fusion. The logits stay
float32, so that close classes do not fall on one step.

Everything is symmetric, the zero point is 0: activations have one scale, weights one for each output channel, and a
weight that is 0 in float is 0 in int8. Biases stay float32: TensorRT refuses int32 ones. How the weights are stored, as
int8 or as float32 that lies on the steps of int8, `weights_stay_float` decides.

Own code, because `onnxruntime.quantization` places pairs for its own kernels: with symmetric activations it quantises a
convolution's output before its ReLU or, told to leave outputs alone, not at all before a pool. It also renames the
weights, and its histograms keep every activation of every calibration image in memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export import graph as graphs
from export.targets import Target

STEPS = 127
"""Steps on either side of zero: -127 to 127. -128 stays unused, so that the steps are symmetric."""

_ACTIVATIONS = {"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh"}
_POOLS = {"GlobalAveragePool", "AveragePool", "ReduceMean"}
_ZERO = "zero_point"
_SMALLEST = np.float32(np.finfo(np.float32).tiny)

Reads = dict[str, list[tuple[str, int]]]
"""For each value, the inputs that are to read it quantised: a node's first output, and the position."""


FIRST_WITH_INT8_CONSTANTS = 10
"""Major release of TensorRT from which on int8 constants are relied on: see `weights_stay_float`."""


def weights_stay_float(target: Target) -> bool:
    """Whether the int8 files for `target` hold float32 weights before a QuantizeLinear, as its oldest TensorRT needs.

    TensorRT 8.4 refuses an int8 constant ("invalid weights type of Int8", NVIDIA/TensorRT#2163), nothing that came with
    8.5 says otherwise, and NVIDIA's own exporters (pytorch-quantization, TensorRT Model Optimizer) write the float
    weight, QuantizeLinear, DequantizeLinear. Xavier never gets a release beyond 8.5. So wherever the oldest release is
    below 10, the file holds scale * step in float32: every rounding finds the same steps again, and what is 0 in int8
    is 0 in the file. Such a file is as large as the fp32 one; only the engine made of it is smaller.
    """
    return target.tensorrt is not None and int(target.tensorrt[0].split(".")[0]) < FIRST_WITH_INT8_CONSTANTS


def quantized_values(model: ModelProto) -> list[str]:
    """The activations of `model`, a float32 network, that `quantize` needs the range of."""
    return list(_reads(model.graph))


def quantize(model: ModelProto, ranges: Mapping[str, float], *, float_weights: bool) -> None:
    """Turn the float32 `model` into int8, in place; names of weights, values and nodes stay.

    :param ranges: for each of `quantized_values`, the largest absolute value that is to be told apart; a value beyond
        it is cut off there. 0 for an activation that is always 0.
    :param float_weights: store the weights as float32 on the steps of int8, before a QuantizeLinear, not as int8.
    """
    graph = model.graph
    reads = _reads(graph)
    weights = {layer.initializer: layer for layer in _quantizable(graph)}
    _add(graph, _ZERO, np.zeros((), np.int8))
    for value in reads:
        scale = np.float32(ranges[value] / STEPS)
        _add(graph, f"{value}.scale", scale if scale >= _SMALLEST else np.float32(1))
    pairs = {value: _pair(value) for value in reads}
    made = graphs.producers(graph)
    nodes = [part for layer in weights.values() for part in _store(graph, layer, float_weights)]
    nodes += [part for value, pair in pairs.items() if value not in made for part in pair]
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in weights or (node.output[0], position) in reads.get(name, ()):
                node.input[position] = f"{name}.dequantized"
        nodes += [node, *(part for value in node.output for part in pairs.get(value, ()))]
    graphs.replace_nodes(graph, nodes)


def weight_scale(weight: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """One scale for each index of `axis`, the output channels: the largest absolute weight over 127, or 1 for zeros."""
    others = tuple(other for other in range(weight.ndim) if other != axis)
    scale = (np.abs(weight).max(axis=others) / np.float32(STEPS)).astype(np.float32)
    return np.where(scale >= _SMALLEST, scale, np.float32(1)).astype(np.float32)


def _quantizable(graph: GraphProto) -> list[graphs.Layer]:
    """The layers whose weight is stored as float32, a matrix or a convolution's, and read by such layers only."""
    constants, used = graphs.initializers(graph), graphs.consumers(graph)
    found = [layer for layer in graphs.layers(graph) if layer.node.input[1] == layer.initializer]
    nodes = {layer.node.output[0] for layer in found}
    return [
        layer
        for layer in found
        if constants[layer.initializer].data_type == TensorProto.FLOAT
        and (layer.node.op_type == "Conv" or layer.weight.ndim == 2)
        and all(user.output[0] in nodes for user in used[layer.initializer])
        and len({_out_axis(user) for user in used[layer.initializer]}) == 1
    ]


def _out_axis(node: NodeProto) -> int:
    """The axis of the stored weight along which the node's outputs lie."""
    return 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and graphs.attribute(node, "transB", 0)) else 1


def _reads(graph: GraphProto) -> Reads:
    where = _Graph(graph)
    found: Reads = defaultdict(list)
    pools = []
    for node in graph.node:
        if node.output[0] in where.layers:
            found[node.input[0]].append((node.output[0], 0))
        elif where.residual(node):
            for position, name in enumerate(node.input):
                found[name].append((node.output[0], position))
        elif node.op_type in _POOLS and where.ends_layer(node.input[0]):
            pools.append(node)
    used = graphs.consumers(graph)
    for node in pools:
        if len(used[node.input[0]]) == len(found.get(node.input[0], ())) + 1:  # nobody else reads it as it is
            found[node.input[0]].append((node.output[0], 0))
    return found


class _Graph:
    """What `_reads` asks about a graph again and again."""

    def __init__(self, graph: GraphProto) -> None:
        self.made_by = graphs.producers(graph)
        self.layers = {layer.node.output[0] for layer in _quantizable(graph)}

    def residual(self, node: NodeProto) -> bool:
        """Whether `node` adds two activations, one of them from a convolution."""
        computed = all(name in self.made_by for name in node.input)
        return node.op_type == "Add" and computed and any(self._from_convolution(name) for name in node.input)

    def ends_layer(self, name: str) -> bool:
        """Whether `name` comes from a convolution or a residual addition, at most through an activation."""
        maker = self._before_activations(name)
        return self._from_convolution(name) or (maker is not None and self.residual(maker))

    def _from_convolution(self, name: str) -> bool:
        maker = self._before_activations(name)
        return maker is not None and maker.op_type == "Conv" and maker.output[0] in self.layers

    def _before_activations(self, name: str) -> NodeProto | None:
        maker = self.made_by.get(name)
        while maker is not None and maker.op_type in _ACTIVATIONS:
            maker = self.made_by.get(maker.input[0])
        return maker


def _pair(value: str) -> list[NodeProto]:
    steps = [f"{value}.scale", _ZERO]
    return [_to_steps(value, steps), _from_steps(f"{value}.quantized", value, steps)]


def _to_steps(value: str, steps: list[str], axis: int | None = None) -> NodeProto:
    reads, name = [value, *steps], f"{value}.quantize"
    return helper.make_node("QuantizeLinear", reads, [f"{value}.quantized"], name=name, axis=axis)


def _from_steps(stored: str, value: str, steps: list[str], axis: int | None = None) -> NodeProto:
    reads, name = [stored, *steps], f"{value}.dequantize"
    return helper.make_node("DequantizeLinear", reads, [f"{value}.dequantized"], name=name, axis=axis)


def _store(graph: GraphProto, layer: graphs.Layer, as_float: bool) -> list[NodeProto]:
    """Store the layer's weight under its name, in int8 or on int8's steps; the nodes between it and the layer."""
    name, axis = layer.initializer, _out_axis(layer.node)
    tensor = graphs.initializers(graph)[name]
    weight = numpy_helper.to_array(tensor)
    scale = weight_scale(weight, axis)
    along = scale.reshape([-1 if other == axis else 1 for other in range(weight.ndim)])
    steps = np.clip(np.rint(weight / along), -STEPS, STEPS).astype(np.int8)
    tensor.CopyFrom(numpy_helper.from_array(steps * along if as_float else steps, name))
    _add(graph, f"{name}.scale", scale)
    _add(graph, f"{name}.{_ZERO}", np.zeros(scale.shape, np.int8))
    reads = [f"{name}.scale", f"{name}.{_ZERO}"]
    if not as_float:
        return [_from_steps(name, name, reads, axis=axis)]
    return [_to_steps(name, reads, axis=axis), _from_steps(f"{name}.quantized", name, reads, axis=axis)]


def _add(graph: GraphProto, name: str, value: NDArray[np.generic] | np.generic) -> None:
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
