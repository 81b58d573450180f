"""Reading an ONNX graph: who makes a value, who uses it, and which nodes are layers with weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from export.forms import FORMS, Array, reformed
from runtimes.errors import UserError

KINDS = {"Conv": "conv", "Gemm": "linear", "MatMul": "linear"}
"""Operators that multiply by a layer's weight: the second input, or whichever input of a product is constant."""

ONNX = ("", "ai.onnx")
"""The names of ONNX's own domain."""


_AGAIN = "export the model again"


@dataclass(frozen=True)
class Layer:
    """One node that multiplies by a constant weight."""

    name: str
    """The torch module's name, `layer1.0.conv1`: the initializer's name without its `.weight`."""
    node: NodeProto
    weight: NDArray[np.float32]
    """What the node multiplies by, in torch's layout whatever the file's: (out, in / groups, *kernel) or (out, in)."""
    initializer: str
    """The constant that the weight is stored as; in every precision it has the torch parameter's name."""
    position: int = 1
    """Which input of the node it is: 0 for a constant on the left of a product."""

    @property
    def reduced_axis(self) -> int:
        """The axis of `weight` that is summed over: the input channels of a convolution, the inputs of a product."""
        return 1 if self.node.op_type == "Conv" else self.weight.ndim - 1


def read(path: Path) -> ModelProto:
    """Load and check the ONNX model at `path`, weights included; what is missing or damaged is a `UserError`."""
    model = parse(path, _AGAIN)
    beside = next((tensor for tensor in model.graph.initializer if tensor.data_location == TensorProto.EXTERNAL), None)
    if beside is not None:
        raise UserError(f"{path} is not a whole ONNX model in one file: '{beside.name}' lies beside it", _AGAIN)
    check(model, path, _AGAIN)
    return model


def parse(path: Path, hint: str) -> ModelProto:
    """The ONNX model at `path` as it is written there, not checked; a file that is none is a `UserError` with `hint`.

    Weights that lie beside the file are not looked for.
    """
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing", hint) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", hint) from error
    except Exception as error:  # protobuf's own classes, by no common name
        raise UserError(f"{path} is not a whole ONNX model: {first_line(error)}", hint) from error


def check(model: ModelProto, path: Path, hint: str) -> None:
    """Hold `model` against the rules of ONNX; shapes of inputs and outputs may be left open, as runtimes allow.

    :param path: where it comes from.
    :raises UserError: it breaks a rule, or uses an operator that its opset does not have.
    """
    ends = (value.type.tensor_type for value in (*model.graph.input, *model.graph.output))
    bare = [kind for kind in ends if kind.elem_type and not kind.HasField("shape")]
    for kind in bare:
        kind.shape.SetInParent()  # the checker wants one
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # the checker's own classes, by no common name
        told = first_line(error)
        if "No Op registered" in told:
            unknown = "export it at an opset that has the operator; a custom one belongs to a domain of its own"
            raise UserError(f"{path} has an operator that ONNX does not: {told}", unknown) from error
        raise UserError(f"{path} is not a whole ONNX model: {told}", hint) from error
    finally:
        for kind in bare:
            kind.ClearField("shape")


def opset(model: ModelProto) -> int:
    """The version of ONNX's own operators that `model` is written in; 0 where it states none."""
    return max((entry.version for entry in model.opset_import if entry.domain in ONNX), default=0)


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


def all_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """The nodes of the graph and, after each, those of the graphs that it holds (branches, loops)."""
    for node in graph.node:
        yield node
        for inner in _held_graphs(node):
            yield from all_nodes(inner)


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


def replace_nodes(graph: GraphProto, nodes: Iterable[NodeProto]) -> None:
    """Give the graph these nodes, its own among them, in this order; what was noted about values is dropped."""
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]  # its own die with the old list
    del graph.node[:]
    graph.node.extend(copies)
    del graph.value_info[:]


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
    """The convolutions and linear layers with a constant weight, in graph order, one for each use.

    A weight is constant too where a Transpose, a Reshape, a Cast, an Identity, a QuantizeLinear or a DequantizeLinear
    stands between it and the layer: `weight` is what arrives there. In a product the constant may be either side.
    """
    constants, made_by = initializers(graph), producers(graph)
    found = []
    for node in graph.node:
        position = weight_position(node, constants, made_by)
        arrived = None if position is None else _arriving(node.input[position], constants, made_by)
        if position is not None and arrived is not None:
            weight = np.asarray(arrived, dtype=np.float32)
            if turned(node, position) and weight.ndim >= 2:
                weight = np.swapaxes(weight, -1, -2)
            stored = stored_as(node.input[position], constants, made_by) or ""
            found.append(Layer(layer_name(stored), node, weight, stored, position))
    return found


def weight_position(node: NodeProto, constants: Collection[str], made_by: Mapping[str, NodeProto]) -> int | None:
    """Which input of a convolution or product is its stored weight: the second, else the first one of a product."""
    if node.op_type not in KINDS or node.domain not in ONNX:
        return None
    positions = (1,) if node.op_type == "Conv" else (1, 0)
    return next((at for at in positions if stored_as(node.input[at], constants, made_by) is not None), None)


def turned(node: NodeProto, position: int) -> bool:
    """Whether a product stores its weight the other way round than torch, which has (out, in)."""
    if node.op_type == "MatMul":
        return position == 1
    if node.op_type != "Gemm":
        return False
    return not attribute(node, "transB", 0) if position == 1 else bool(attribute(node, "transA", 0))


def stored_as(name: str, constants: Collection[str], made_by: Mapping[str, NodeProto]) -> str | None:
    """The constant that `name` is but another form of; None where it is computed in any other way."""
    while name not in constants:
        node = made_by.get(name)
        if node is None or node.op_type not in FORMS or any(other not in constants for other in _others(node)):
            return None
        name = node.input[0]
    return name


def _others(node: NodeProto) -> list[str]:
    return [other for other in node.input[1:] if other]


def _arriving(name: str, constants: Mapping[str, TensorProto], made_by: Mapping[str, NodeProto]) -> Array | None:
    """The value of `name`, which `stored_as` knows; None where it cannot be read."""
    if name in constants:
        return numpy_helper.to_array(constants[name])
    node = made_by[name]
    before = _arriving(node.input[0], constants, made_by)
    if before is None:
        return None
    others = [numpy_helper.to_array(constants[other]) for other in _others(node)]
    held = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    return reformed(node.op_type, held, before, others)


def _reads(node: NodeProto) -> Iterator[str]:
    yield from (name for name in node.input if name)
    for graph in _held_graphs(node):
        for inner in graph.node:
            yield from _reads(inner)
        yield from (value.name for value in graph.output)


def _held_graphs(node: NodeProto) -> Iterator[GraphProto]:
    for held in node.attribute:
        yield from [held.g] if held.type == AttributeProto.GRAPH else held.graphs
