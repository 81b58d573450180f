"""Reading an ONNX graph: who makes a value, who uses it, and which nodes are layers with weights."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from runtimes.errors import UserError

Array = NDArray[Any]

KINDS = {"Conv": "conv", "Gemm": "linear", "MatMul": "linear"}
"""Operators whose second input is a layer's weight."""


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

    @property
    def reduced_axis(self) -> int:
        """The axis of `weight` that is summed over: the input channels of a convolution, the inputs of a product."""
        return 1 if self.node.op_type == "Conv" else self.weight.ndim - 1


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

    A weight is constant too where a Transpose, a Cast, an Identity, a QuantizeLinear or a DequantizeLinear stands
    between it and the layer: `weight` is what arrives there.
    """
    constants, made_by = initializers(graph), producers(graph)
    found = []
    for node in graph.node:
        if node.op_type in KINDS and (stored := _stored_as(node.input[1], constants, made_by)) is not None:
            weight = np.asarray(_arriving(node.input[1], constants, made_by), dtype=np.float32)
            found.append(Layer(layer_name(stored), node, _in_torch_layout(node, weight), stored))
    return found


def _stored_as(name: str, constants: dict[str, TensorProto], made_by: dict[str, NodeProto]) -> str | None:
    """The initializer that `name` is but another form of; None where it is computed in any other way."""
    while name not in constants:
        node = made_by.get(name)
        if (
            node is None
            or node.op_type not in _FORMS
            or any(other and other not in constants for other in node.input[1:])
        ):
            return None
        name = node.input[0]
    return name


def _arriving(name: str, constants: dict[str, TensorProto], made_by: dict[str, NodeProto]) -> Array:
    """The value of `name`, which `_stored_as` knows."""
    if name in constants:
        return numpy_helper.to_array(constants[name])
    node = made_by[name]
    before = _arriving(node.input[0], constants, made_by)
    return _FORMS[node.op_type](
        node, before, [numpy_helper.to_array(constants[other]) for other in node.input[1:] if other]
    )


def _transposed(node: NodeProto, value: Array, _: list[Array]) -> Array:
    order = next((list(held.ints) for held in node.attribute if held.name == "perm"), None)
    return np.transpose(value, order)


def _cast(node: NodeProto, value: Array, _: list[Array]) -> Array:
    cast: Array = value.astype(helper.tensor_dtype_to_np_dtype(int(attribute(node, "to", TensorProto.FLOAT))))
    return cast


def _quantized(node: NodeProto, value: Array, steps: list[Array]) -> Array:
    """round(value / scale) + zero point, cut off at the ends of the zero point's type."""
    scale, zero = _along(node, value, steps)
    kind = np.iinfo(steps[1].dtype if len(steps) > 1 else np.uint8)
    rounded: Array = np.rint(value.astype(np.float32) / scale) + zero
    return np.clip(rounded, kind.min, kind.max)


def _dequantized(node: NodeProto, value: Array, steps: list[Array]) -> Array:
    """(value - zero point) scale: exactly zero where the stored value is the zero point."""
    scale, zero = _along(node, value, steps)
    return (value.astype(np.float32) - zero) * scale


def _along(node: NodeProto, value: Array, steps: list[Array]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Scale and zero point, one for the tensor or one for each index of the node's axis, ready to be broadcast."""
    shape = [1] * value.ndim
    if steps[0].size > 1:
        shape[int(attribute(node, "axis", 1))] = -1
    zero = steps[1] if len(steps) > 1 else np.zeros_like(steps[0])
    return steps[0].astype(np.float32).reshape(shape), zero.astype(np.float32).reshape(shape)


_FORMS: dict[str, Callable[[NodeProto, Array, list[Array]], Array]] = {
    "Identity": lambda node, value, steps: value,
    "Transpose": _transposed,
    "Cast": _cast,
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _dequantized,
}
"""Operators that hand a weight on in another form; what else they read is constant."""


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
