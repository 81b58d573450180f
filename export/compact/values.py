"""What is known of a graph before channels are removed: which values have channels, and which constants are weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from export import graph as graphs
from export.shapes import Shape, images, infer_shapes

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Numbers = NDArray[np.float64]

_BATCH = 13
"""Stands for a free batch while shapes are inferred: a size that no other axis of a network has by chance."""


@dataclass(frozen=True)
class Constants:
    """Which channels of a value are one number at every position of every image, and that number."""

    known: Mask
    """(channels,)"""
    numbers: Numbers
    """(channels,), as the runtime computes them; 0 where not known."""


@dataclass
class Network:
    """A graph that is being made smaller, its weights by name, and the shapes of its values as they are now."""

    model: ModelProto
    weights: dict[str, NDArray[Any]]
    """Constants that no input of the graph overrides."""
    shapes: dict[str, Shape]
    batch: int
    number: type[np.floating[Any]]
    """What it computes in."""
    changed: set[str] = field(default_factory=set)
    """Weights that are not what the file holds any more."""

    @property
    def graph(self) -> GraphProto:
        """The graph."""
        return self.model.graph

    def channels(self, name: str) -> int | None:
        """How many channels the value `name` has: the size of axis 1 of (batch, channels, ...); None where it has none.

        Constants have none: they are parameters of the node that reads them.
        """
        shape = self.shapes.get(name, ())
        sized = len(shape) >= 2 and shape[0] == self.batch and bool(shape[1])
        return shape[1] if sized and name not in self.weights else None

    def weight(self, node: NodeProto, position: int) -> NDArray[Any] | None:
        """The constant that `node` reads at `position`, in the number that the network computes in."""
        name = node.input[position] if len(node.input) > position else ""
        found = self.weights.get(name)
        return found if found is not None and found.dtype == self.number else None

    def integers(self, node: NodeProto, position: int, attribute: str) -> tuple[int, ...] | None:
        """Whole numbers that a node holds as an attribute or, in newer opsets, as a constant input."""
        held = attributes(node).get(attribute)
        name = node.input[position] if held is None and len(node.input) > position else ""
        found = self.weights.get(name) if held is None else np.asarray(held)
        return None if found is None else tuple(int(one) for one in np.atleast_1d(found))

    def give(self, node: NodeProto, position: int, value: NDArray[Any], name: str) -> None:
        """Let `node` read `value` at `position`: under the name it reads there, unless something else reads that too.

        :param name: what to call it where a name is needed.
        """
        held = node.input[position] if len(node.input) > position else ""
        shared = sum(other == held for each in graphs.all_nodes(self.graph) for other in each.input) > 1
        if not held or shared:
            held = self.free(name)
        while len(node.input) <= position:
            node.input.append("")
        node.input[position] = held
        self.weights[held] = value
        self.changed.add(held)

    def free(self, name: str) -> str:
        """`name`, or the first of `name.1`, `name.2`, ... that the graph does not use yet."""
        used = {*self.weights, *graphs.initializers(self.graph), *graphs.consumers(self.graph)}
        used |= {value.name for value in (*self.graph.input, *self.graph.output)} | set(graphs.producers(self.graph))
        tries = (f"{name}.{count}" if count else name for count in range(len(used) + 1))
        return next(one for one in tries if one not in used)

    def compute(self, node: NodeProto, feeds: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """The first output of `node` on these inputs, by ONNX's own reference at the model's opset."""
        kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in feeds.items()}
        reads = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds.items()]
        gives = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
        alone = helper.make_graph([node], "one", reads, [gives])
        model = helper.make_model(alone, opset_imports=self.model.opset_import)
        with np.errstate(all="ignore"):  # what is not finite is left alone by the caller
            (found,) = ReferenceEvaluator(model).run(None, feeds)
        return np.asarray(found)

    def store(self) -> None:
        """Write the changed weights into the graph, where they stand or at the end."""
        held = graphs.initializers(self.graph)
        for name in sorted(self.changed):
            value = np.ascontiguousarray(self.weights[name])
            (held.get(name) or self.graph.initializer.add()).CopyFrom(numpy_helper.from_array(value, name))
        self.changed.clear()


def network_of(model: ModelProto) -> Network | None:
    """What is known of `model`; None where it has no images in float32 or float64 whose shape can be followed."""
    given = {value.name for value in model.graph.input}
    source = images(model.graph) or next((value for value in model.graph.input if value.name), None)
    number = None if source is None else _number(source.type.tensor_type.elem_type)
    if source is None or number is None:
        return None
    tensors = [tensor for tensor in model.graph.initializer if tensor.name not in given]
    whole = [tensor for tensor in tensors if tensor.data_location != TensorProto.EXTERNAL]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in whole}
    shapes = _shapes(model)
    first = shapes.get(source.name, ())
    return Network(model, weights, shapes, first[0] or _BATCH if first else _BATCH, number)


def _number(kind: int) -> type[np.floating[Any]] | None:
    if kind == TensorProto.FLOAT:
        return np.float32
    return np.float64 if kind == TensorProto.DOUBLE else None


def _shapes(model: ModelProto) -> dict[str, Shape]:
    try:
        return infer_shapes(model, batch=_BATCH)
    except onnx.shape_inference.InferenceError:
        return {}  # of an operator that ONNX does not know: no value is known to have channels


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    return {held.name: helper.get_attribute_value(held) for held in node.attribute}


def reads(node: NodeProto) -> list[str]:
    """The names of a node's own inputs, without those it leaves out."""
    return [name for name in node.input if name]
