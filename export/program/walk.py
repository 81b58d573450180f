"""From the nodes of an ONNX graph to the operations of a draft, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export import graph as graphs
from export.program.draft import Draft, refused
from export.program.elementwise import ELEMENTWISE
from export.program.format import Array, Shape
from export.program.layers import LAYERS
from export.program.pixels import pad, resize
from export.program.shaping import SHAPING
from export.program.site import Result, Site
from export.program.view import View
from runtimes.errors import UserError

OPERATORS: dict[str, Callable[[Site], Result]] = {**LAYERS, **SHAPING, **ELEMENTWISE, "Pad": pad, "Resize": resize}
"""What is known of ONNX: for each operator, what a draft makes of it."""

_INPUT_HINT = "a classifier with one float32 input (N, channels, height, width) of fixed size is expected"


def images_of(graph: GraphProto) -> tuple[ValueInfoProto, Shape]:
    """The graph's input and the shape of one image.

    :raises UserError: more than one input, or one that is no image or vector of fixed size in float32.
    """
    constants = graphs.initializers(graph)
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        names = ", ".join(value.name for value in inputs) or "none"
        raise UserError(f"the network has these inputs: {names}", _INPUT_HINT)
    kind = inputs[0].type.tensor_type
    sizes = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type != TensorProto.FLOAT or len(sizes) not in (2, 4) or min(sizes[1:]) < 1:
        shown = ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in kind.shape.dim)
        type_name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise UserError(f"the input '{inputs[0].name}' is {type_name} ({shown})", _INPUT_HINT)
    channels, height, width = (*sizes[1:], 1, 1)[:3]
    return inputs[0], (channels, height, width)


def walked(model: ModelProto) -> tuple[Draft, int, int]:
    """The operations of a simplified model, its input tensor and its output tensor.

    :raises UserError: an operator that is not known, or a use of one that no operation computes; with its node.
    """
    graph = model.graph
    entry, shape = images_of(graph)
    draft = Draft()
    first = draft.tensor(shape)
    view = draft.seen(first)
    if len(entry.type.tensor_type.shape.dim) == 2:
        view = View(first, view.channels, view.grid, ())
    values: dict[str, View | Array] = {name: _array(held) for name, held in graphs.initializers(graph).items()}
    values[entry.name] = view
    batch = max(entry.type.tensor_type.shape.dim[0].dim_value, 1)
    for node in graph.node:
        _step(draft, node, values, graphs.opset(model), batch)
    draft.label = f"what gives the answer '{graph.output[0].name}'"
    last = values.get(graph.output[0].name)
    if not isinstance(last, View):
        raise UserError("the network's answer does not depend on the image", _INPUT_HINT)
    return draft, first, _answer(draft, last)


def _answer(draft: Draft, view: View) -> int:
    given = draft.flat(view) if len(view.tail) != 2 else draft.brought(view)
    if not any(one.output == given for one in draft.operations):
        raise UserError("the network computes nothing: its answer is the image", _INPUT_HINT)
    return given


def _step(draft: Draft, node: NodeProto, values: dict[str, View | Array], opset: int, batch: int) -> None:
    draft.name = node.name or node.output[0]
    draft.label = f"{node.domain + '::' if node.domain else ''}{node.op_type} '{graphs.label(node)}'"
    handler = OPERATORS.get(node.op_type) if node.domain in graphs.ONNX else None
    if handler is None:
        raise refused(draft.label, "the operator is not one that it knows")
    outputs = [name for name in node.output if name]
    inputs = [values[name] if name else None for name in node.input]
    site = Site(node.op_type, draft, inputs, _attributes(node), len(outputs), opset, batch)
    try:
        found = handler(site)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:  # attributes that contradict each other
        raise refused(draft.label, f"its attributes or inputs do not fit: {error}") from error
    parts = found if isinstance(found, list) else [found]
    values.update(zip(outputs, [replace(part, name=draft.name) for part in parts], strict=True))


def _attributes(node: NodeProto) -> dict[str, Any]:
    found = {held.name: helper.get_attribute_value(held) for held in node.attribute}
    return {key: numpy_helper.to_array(one) if isinstance(one, TensorProto) else one for key, one in found.items()}


def _array(held: TensorProto) -> Array:
    return np.asarray(numpy_helper.to_array(held))
