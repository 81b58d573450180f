"""From the graph torch traced to the graph a runtime should get: one pass, one function.

Every pass edits the model in place and keeps what it computes. Weights keep their torch names
(`layer1.0.conv1.weight`), and a weight that is zero stays exactly zero: the masks can be counted in the file.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from export import graph as graphs
from export.shapes import free_one_size, known_sizes

_ARITHMETIC = {"Abs", "Add", "Ceil", "Div", "Exp", "Floor", "MatMul", "Max", "Min", "Mul", "Neg", "Pow", "Reciprocal"}
_LOGIC = {"Cast", "Clip", "Equal", "Greater", "Less", "Mod", "Not", "ScatterND", "Sign", "Sqrt", "Sub", "Where"}
_SHAPING = {"Concat", "ConstantOfShape", "Expand", "Flatten", "Gather", "Range", "Reshape", "Shape", "Slice", "Squeeze"}
FOLDED = _ARITHMETIC | _LOGIC | _SHAPING | {"Tile", "Transpose", "Unsqueeze"}
"""Operators computed now when all they read is constant: cheap, without state, without chance."""

_WITH_WEIGHTS = frozenset(graphs.KINDS)


def simplify(model: ModelProto) -> ModelProto:
    """Run all passes on `model`, in place, and return it."""
    constants_to_initializers(model)
    remove_identities(model)
    remove_dropout(model)
    fold_constants(model)
    while known_sizes(model):
        fold_constants(model)
    free_one_size(model)
    fold_batch_norm(model)
    unsign_zeros(model)
    drop_unused(model)
    return model


def constants_to_initializers(model: ModelProto) -> None:
    """Turn each Constant node into an initializer."""
    for node in _of_type(model.graph, "Constant"):
        model.graph.initializer.append(numpy_helper.from_array(_compute(node, {}), node.output[0]))
    graphs.remove(model.graph, _of_type(model.graph, "Constant"))


def remove_identities(model: ModelProto) -> None:
    """Remove Identity nodes; one that repeats an initializer becomes an initializer of its own.

    torch's exporter stores equal weights once and repeats them through Identity: undone here, every layer has its own
    weights under its own name again. A layer that the network itself uses twice is not touched: it reads one name.
    """
    for node in _of_type(model.graph, "Identity"):
        constant = graphs.initializers(model.graph).get(node.input[0])
        if constant is not None:
            copy = model.graph.initializer.add()
            copy.CopyFrom(constant)
            copy.name = node.output[0]
            model.graph.node.remove(node)
        else:
            _bypass(model.graph, node)


def remove_dropout(model: ModelProto) -> None:
    """Remove Dropout nodes that do nothing: those in inference mode whose mask nobody reads."""
    for node in _of_type(model.graph, "Dropout"):
        mask_read = len(node.output) > 1 and node.output[1] in graphs.consumers(model.graph)
        if not mask_read and not _training(model.graph, node):
            _bypass(model.graph, node)


def fold_constants(model: ModelProto) -> None:
    """Compute the nodes that read constants only.

    The result of arithmetic on a weight (a transposition, a mask's multiplication) that serves nothing else keeps the
    weight's name, so that `fc.weight` is still to be found by it.
    """
    constants, used = graphs.initializers(model.graph), graphs.consumers(model.graph)
    folded = []
    for node in model.graph.node:
        if not _computable(node, constants) or node.output[0] in graphs.outputs(model.graph):
            continue
        value = _compute(node, constants)
        name = next((name for name in node.input if _is_weight(name) and len(used[name]) == 1), node.output[0])
        if name not in constants:
            constants[name] = model.graph.initializer.add()
        constants[name].CopyFrom(numpy_helper.from_array(value, name))
        used[name] = used.pop(node.output[0], [])
        rewire(used[name], node.output[0], name)
        folded.append(node)
    graphs.remove(model.graph, folded)


def fold_batch_norm(model: ModelProto) -> None:
    """Fold each BatchNormalization into the convolution or linear layer right before it.

    w'[k] = s[k] w[k] and b'[k] = s[k] (b[k] - mean[k]) + beta[k] with s = gamma / sqrt(var + eps), in float64. Left
    alone: a normalization with no such layer before it (pre-activation), a layer whose output or whose weight something
    else reads too, and one that normalizes with the batch's own statistics.
    """
    for norm in _of_type(model.graph, "BatchNormalization"):
        layer = graphs.producers(model.graph).get(norm.input[0])
        if layer is not None and _foldable(model.graph, layer, norm):
            _fold(model.graph, layer, norm)


def unsign_zeros(model: ModelProto) -> None:
    """Make every -0.0 of the initializers a +0.0: equal weights, equal bytes, and zeros that compress."""
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if np.issubdtype(value.dtype, np.floating) and bool(np.any((value == 0) & np.signbit(value))):
            tensor.CopyFrom(numpy_helper.from_array(value + value.dtype.type(0), tensor.name))


def drop_unused(model: ModelProto) -> None:
    """Drop nodes and initializers that nothing reads, and what torch noted about values in between."""
    used = set(graphs.consumers(model.graph)) | graphs.outputs(model.graph)
    while unread := [node for node in model.graph.node if not used.intersection(node.output)]:
        graphs.remove(model.graph, unread)
        used = set(graphs.consumers(model.graph)) | graphs.outputs(model.graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]


def rewire(nodes: Iterable[NodeProto], old: str, new: str) -> None:
    """Let `nodes` read the value `new` wherever they read `old`."""
    for node in nodes:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new


def mask_operations(model: ModelProto) -> list[str]:
    """Names of the multiplications by which a layer's weight is still masked when the file runs.

    A weight that is computed from constants instead of stored is looked at; one computed from the input (attention)
    is no weight.
    """
    made_by = graphs.producers(model.graph)
    inputs = {value.name for value in model.graph.input} - set(graphs.initializers(model.graph))
    found: dict[str, None] = {}
    for node in model.graph.node:
        sides = node.input[1:2] if node.op_type == "Conv" else node.input[:2]
        for side in sides if node.op_type in _WITH_WEIGHTS else ():
            before = list(graphs.ancestors(side, made_by))
            if not any(name in inputs for ancestor in before for name in ancestor.input):
                found.update((graphs.label(mask), None) for mask in before if mask.op_type in ("Mul", "Where"))
    return list(found)


def _of_type(graph: GraphProto, op_type: str) -> list[NodeProto]:
    return [node for node in graph.node if node.op_type == op_type]


def _bypass(graph: GraphProto, node: NodeProto) -> None:
    """Remove a node that hands its first input on; the graph's own inputs and outputs keep their names."""
    source, target = node.input[0], node.output[0]
    if target not in graphs.outputs(graph):
        graph.node.remove(node)
        rewire(graph.node, target, source)
        return
    maker = graphs.producers(graph).get(source)
    if maker is None or source in graphs.outputs(graph):
        return
    graph.node.remove(node)
    maker.output[list(maker.output).index(source)] = target
    rewire(graph.node, source, target)


def _training(graph: GraphProto, dropout: NodeProto) -> bool:
    if len(dropout.input) < 3 or not dropout.input[2]:
        return False
    mode = graphs.initializers(graph).get(dropout.input[2])
    return mode is None or bool(numpy_helper.to_array(mode))


def _is_weight(name: str) -> bool:
    return name.endswith("weight")


def _computable(node: NodeProto, constants: dict[str, TensorProto]) -> bool:
    known = all(name in constants for name in node.input if name)
    return node.op_type in FOLDED and known and len(node.output) == 1


def _compute(node: NodeProto, constants: dict[str, TensorProto]) -> NDArray[np.generic]:
    feeds = {name: numpy_helper.to_array(constants[name]) for name in node.input if name}
    results = list(ReferenceEvaluator(node).run(None, feeds))
    return np.asarray(results[0], order="C")


def _set_initializer(graph: GraphProto, name: str, value: NDArray[np.generic]) -> None:
    tensor = graphs.initializers(graph).get(name) or graph.initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(value, name))


def _foldable(graph: GraphProto, layer: NodeProto, norm: NodeProto) -> bool:
    constants, used = graphs.initializers(graph), graphs.consumers(graph)
    return (
        layer.op_type in ("Conv", "Gemm")
        and all(graphs.attribute(layer, name, 1.0) == 1.0 for name in ("alpha", "beta"))
        and not graphs.attribute(norm, "training_mode", 0)
        and all(name in constants for name in [*layer.input[1:], *norm.input[1:]])
        and len(used[layer.output[0]]) == 1
        and layer.output[0] not in graphs.outputs(graph)
        and len(used[layer.input[1]]) == 1
    )


def _fold(graph: GraphProto, layer: NodeProto, norm: NodeProto) -> None:
    constants = graphs.initializers(graph)
    weight = numpy_helper.to_array(constants[layer.input[1]])
    gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]).astype(np.float64) for name in norm.input[1:])
    scale = gamma / np.sqrt(variance + graphs.attribute(norm, "epsilon", 1e-5))
    out_axis = 1 if layer.op_type == "Gemm" and not graphs.attribute(layer, "transB", 0) else 0
    along = [-1 if axis == out_axis else 1 for axis in range(weight.ndim)]
    folded = np.where(weight == 0, 0.0, weight.astype(np.float64) * scale.reshape(along))
    bias = numpy_helper.to_array(constants[layer.input[2]]).astype(np.float64) if len(layer.input) > 2 else 0.0
    shifted = np.broadcast_to((bias - mean) * scale + beta, scale.shape)
    name = _bias_name(graph, layer)
    _set_initializer(graph, layer.input[1], folded.astype(weight.dtype))
    _set_initializer(graph, name, shifted.astype(weight.dtype))
    del layer.input[2:]
    layer.input.append(name)
    layer.output[0] = norm.output[0]
    graph.node.remove(norm)


def _bias_name(graph: GraphProto, layer: NodeProto) -> str:
    """`conv1.bias` for `conv1.weight`, unless something else has that name."""
    weight = layer.input[1]
    name = weight.removesuffix("weight") + "bias" if _is_weight(weight) else weight + ".bias"
    free = name not in graphs.consumers(graph) and name not in graphs.producers(graph)
    own = len(layer.input) > 2 and layer.input[2] == name and len(graphs.consumers(graph)[name]) == 1
    return name if free or own else f"{layer.output[0]}.bias"
