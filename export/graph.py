"""Reading an ONNX graph: who makes a value, who uses it, and which nodes are layers with weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from runtimes.errors import UserError

KINDS = {"Conv": "conv", "Gemm": "linear", "MatMul": "linear"}
"""Operators whose second input is a layer's weight."""


@dataclass(frozen=True)
class Layer:
    """One node that multiplies by a constant weight."""

    name: str
    """The torch module's name, `layer1.0.conv1`: the initializer's name without its `.weight`."""
    node: NodeProto
    weight: NDArray[np.float32]
    """In torch's layout whatever the file's: (out, in / groups, *kernel) or (out, in)."""


def read(path: Path) -> ModelProto:
    """Load and check the single-file ONNX model at `path`; missing, damaged or split files are `UserError`s."""
    hint = "export the model again"
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        onnx.checker.check_model(model)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", hint) from None
    except Exception as error:  # protobuf's and the checker's own classes, by no common name
        raise UserError(f"{path} is not a whole ONNX model in one file: {first_line(error)}", hint) from error
    return model


def first_line(error: BaseException) -> str:
    """The first line of an error's text that says something, or the error's type."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)


def layer_name(initializer: str) -> str:
    """`layer1.0.conv1` for the initializer or parameter `layer1.0.conv1.weight`; other names are kept."""
    return initializer.removesuffix(".weight")


def label(node: NodeProto) -> str:
    """How a message calls a node: its name, or its first output where it has none."""
    return node.name or f"{node.op_type} -> {node.output[0]}"


def initializers(graph: GraphProto) -> dict[str, TensorProto]:
    """The graph's constants by name."""
    return {tensor.name: tensor for tensor in graph.initializer}


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """For each computed value, the node that computes it."""
    return {name: node for node in graph.node for name in node.output if name}


def consumers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """For each value, the nodes that read it, once for each time they do, subgraphs included."""
    found: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in _reads(node):
            found[name].append(node)
    return found


def outputs(graph: GraphProto) -> set[str]:
    """Names of the graph's outputs."""
    return {value.name for value in graph.output}


def remove(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Take `nodes` out of the graph; nodes held from before are stale afterwards."""
    gone = {node.output[0] for node in nodes}
    kept = [node for node in graph.node if node.output[0] not in gone]
    del graph.node[:]
    graph.node.extend(kept)


def attribute(node: NodeProto, name: str, default: float) -> float:
    """The number a node holds as attribute `name`, or `default`."""
    return next((float(helper.get_attribute_value(held)) for held in node.attribute if held.name == name), default)


def ancestors(name: str, made_by: dict[str, NodeProto]) -> Iterator[NodeProto]:
    """Every node that `name` depends on, each once."""
    seen: set[int] = set()
    waiting = [name]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            waiting.extend(_reads(node))
            yield node


def layers(graph: GraphProto) -> list[Layer]:
    """The convolutions and linear layers with a constant weight, in graph order, one for each use."""
    constants = initializers(graph)
    return [
        Layer(layer_name(node.input[1]), node, _in_torch_layout(node, numpy_helper.to_array(constants[node.input[1]])))
        for node in graph.node
        if node.op_type in KINDS and node.input[1] in constants
    ]


def _in_torch_layout(node: NodeProto, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    stored_in_by_out = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attribute(node, "transB", 0))
    return np.swapaxes(weight, -1, -2) if stored_in_by_out and weight.ndim >= 2 else weight


def _reads(node: NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for held in node.attribute:
        graphs = [held.g] if held.type == AttributeProto.GRAPH else list(held.graphs)
        for graph in graphs:
            for inner in graph.node:
                yield from _reads(inner)
            yield from (value.name for value in graph.output)
