"""A network in typed fp16: every type stands in the file, none is left to a builder's flag.

TensorRT 11 takes only such files, the older releases take them too. Weights and activations are fp16, the graph's
inputs and outputs stay float32. What sums many terms or spreads over many decades (Softmax, normalizations, means,
powers) stays in float32 between two casts, and so does an operator with a constant that fp16 cannot hold. What only
moves values (Transpose, Reshape) keeps the type they come in.

Own code, because `onnxruntime.transformers.float16` moves a weight beyond 65504 to 65504 without a word, moves one
below 6e-8 up to 6e-8 instead of rounding it, and leaves the nodes in an order that is not the one in which they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export import graph as graphs
from export.shapes import float_values
from runtimes.errors import UserError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = 65504.0
"""The largest finite fp16 number."""

_NORMALIZATIONS = {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN"}
_SUMS = {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceProd", "CumSum"}
_LENGTHS = {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp"}
_STEEP = {"Softmax", "LogSoftmax", "Exp", "Log", "Pow", "Reciprocal", "Sqrt"}
_ONLY_FLOAT = {"Range", "NonMaxSuppression", "RandomNormal", "RandomUniform"}
KEPT = frozenset(_NORMALIZATIONS | _SUMS | _LENGTHS | _STEEP | _ONLY_FLOAT)
"""Operators computed in float32."""
MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Gather", "Identity"})
"""Operators that compute nothing: after one of `KEPT`, a cast would only come earlier."""


def to_fp16(model: ModelProto) -> None:
    """Turn the float32 `model` into typed fp16, in place; names of values, weights and nodes stay.

    A weight below half the smallest fp16 number (3e-8) becomes zero.

    :raises UserError: a weight that fp16 cannot hold, with its layer, or an operator with a graph inside (If, Loop).
    """
    graph = model.graph
    floats = float_values(model)
    kept = _kept(graph, floats)
    casts = _Casts()
    _convert_constants(graph, floats, kept, casts)
    casts.holds.update(((value.name, FLOAT), value.name) for value in graph.input)
    last = graphs.outputs(graph)
    for node in graph.node:
        kind = FLOAT if node.output[0] in kept else HALF
        for position, name in _typed_inputs(node, floats):
            node.input[position] = casts.read(name, kind)
        casts.nodes.append(node)
        for position, name in enumerate(node.output):
            if name in floats:
                node.output[position] = casts.write(name, kind, exact=name in last)
    graphs.replace_nodes(graph, casts.nodes)


def half_values(model: ModelProto) -> list[str]:
    """The values of the float32 `model` that are in fp16 after `to_fp16`, weights left out, in graph order."""
    floats, constants = float_values(model), graphs.initializers(model.graph)
    kept = _kept(model.graph, floats)
    nodes = [node for node in model.graph.node if node.output[0] not in kept]
    names = [name for node in nodes for name in (*(read for _, read in _typed_inputs(node, floats)), *node.output)]
    return [name for name in dict.fromkeys(names) if name in floats and name not in constants]


@dataclass
class _Casts:
    """Under which name each value is to be had in which type, and the nodes so far."""

    holds: dict[tuple[str, int], str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)

    def read(self, name: str, kind: int) -> str:
        """The name of `name` in `kind`; a Cast is added where it is not there yet."""
        if (name, kind) not in self.holds:
            other = self.holds[name, FLOAT if kind == HALF else HALF]
            self._cast(other, f"{name}.{_suffix(kind)}", kind)
            self.holds[name, kind] = f"{name}.{_suffix(kind)}"
        return self.holds[name, kind]

    def write(self, name: str, kind: int, *, exact: bool) -> str:
        """The name under which a node in `kind` writes `name`; `exact`: the graph gives `name` in float32."""
        written = f"{name}.{_suffix(kind)}" if exact and kind == HALF else name
        self.holds[name, kind] = written
        if written != name:
            self._cast(written, name, FLOAT)
            self.holds[name, FLOAT] = name
        return written

    def _cast(self, source: str, target: str, kind: int) -> None:
        self.nodes.append(helper.make_node("Cast", [source], [target], name=f"{target}.cast", to=kind))


def _suffix(kind: int) -> str:
    return "fp16" if kind == HALF else "fp32"


def _typed_inputs(node: NodeProto, floats: set[str]) -> Iterator[tuple[int, str]]:
    """The inputs that have the type the node computes in; Resize has its sizes and factors in float32 always."""
    count = 1 if node.op_type == "Resize" else len(node.input)
    return ((position, name) for position, name in enumerate(node.input[:count]) if name in floats)


def _kept(graph: GraphProto, floats: set[str]) -> set[str]:
    """First outputs of the nodes that compute in float32."""
    constants = graphs.initializers(graph)
    found: set[str] = set()
    exact = {value.name for value in graph.input}  # values that are float32 in the fp16 network
    for node in graph.node:
        moved = node.op_type in MOVES and node.input[0] in exact
        if moved or _stays(node, floats, constants):
            found.add(node.output[0])
            exact.update(node.output)
    return found


def _stays(node: NodeProto, floats: set[str], constants: dict[str, TensorProto]) -> bool:
    """Whether the node computes in float32, wherever it stands."""
    if any(held.HasField("g") or held.graphs for held in node.attribute):
        raise UserError(
            f"'{graphs.label(node)}' ({node.op_type}) holds a graph of its own: edgeprune cannot convert it to fp16",
            "export in fp32, or write the network without branches that depend on the input",
        )
    reads_none = not any(name in floats for name in node.input)
    numbers = [constants[name] for _, name in _typed_inputs(node, floats) if name in constants]
    layer = node.op_type in graphs.KINDS
    return node.op_type in KEPT or reads_none or (not layer and any(_out_of_range(tensor) for tensor in numbers))


def _out_of_range(tensor: TensorProto) -> bool:
    """Whether fp16 turns a number of `tensor` into infinity, or the only one into 0: a mask's -1e9, an epsilon."""
    value = numpy_helper.to_array(tensor)
    half = np.abs(value) <= LARGEST
    return not half.all() or (value.size == 1 and bool(value.astype(np.float16) == 0) and bool(value != 0))


def _convert_constants(graph: GraphProto, floats: set[str], kept: set[str], casts: _Casts) -> None:
    """Store in fp16 each float32 constant that an fp16 node reads; the others stay."""
    read = {name for node in graph.node if node.output[0] not in kept for _, name in _typed_inputs(node, floats)}
    for tensor in graph.initializer:
        if tensor.data_type == FLOAT:
            kind = HALF if tensor.name in read else FLOAT
            casts.holds[tensor.name, kind] = tensor.name
            if kind == HALF:
                tensor.CopyFrom(numpy_helper.from_array(_half(tensor), tensor.name))


def _half(tensor: TensorProto) -> np.ndarray:
    value = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):  # told below
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        largest = float(np.abs(value).max())
        raise UserError(
            f"layer '{graphs.layer_name(tensor.name)}' holds {largest:.3g}, beyond what fp16 can hold ({LARGEST:.0f})",
            "export it in fp32 or int8, or train with a smaller weight scale",
        )
    return half
