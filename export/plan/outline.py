"""A network's outline: its graph without its weights' values. Shapes are all that a plan looks at.

So a file of hundreds of megabytes is read in a second, weights that lie beside it need not be there, and a network that
is too large for one ONNX file has an outline all the same.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, inliner

from export import graph as graphs
from export.shapes import LARGE, Shape, by, images, infer_shapes, known_sizes, open_weights
from export.simplify import constants_to_initializers, fold_constants
from runtimes.errors import UserError

Outline = ModelProto
"""A model whose long initializers may have no values: enough for a plan, nothing that a runtime could load."""

_FOLDS_FROM = 13
"""The opset from which on axes are inputs of Squeeze and the like, as the arithmetic here expects."""

_HINT = "give a whole ONNX file; the weights of a large one may lie beside it or not"


def read_outline(path: Path, *, image_size: int | None = None) -> Outline:
    """The outline of the ONNX file at `path`, with free heights and widths of its images set to `image_size` pixels.

    :raises UserError: the file is missing, truncated, or no ONNX; or it leaves no size of its images open.
    """
    model = graphs.parse(path, _HINT)
    for tensor in model.graph.initializer:
        if prod(tensor.dims) > LARGE:
            _forget_values(tensor)
    graphs.check(open_weights(model, batch=None), path, _HINT)
    if image_size is not None and not _fix_sides(model.graph, image_size):
        raise UserError(f"{path} leaves no size of its images open: {_sizes(model.graph)}", "leave --image-size out")
    return model


def settled(model: ModelProto) -> tuple[list[NodeProto], dict[str, Shape]]:
    """The nodes of `model` for one image, and the shape of every value that can be known, weights included.

    Where inference stops at arithmetic with sizes (a Reshape to computed sizes), that arithmetic is done.

    :raises UserError: that arithmetic fails.
    """
    opened = open_weights(model, batch=1)
    if opened.functions:
        opened = inliner.inline_local_functions(opened)
    shapes = infer_shapes(opened)
    if not _all_known(opened.graph, shapes) and graphs.opset(opened) >= _FOLDS_FROM:
        _do_arithmetic(opened)
        shapes = infer_shapes(opened)
    small = {tensor.name: tuple(tensor.dims) for tensor in opened.graph.initializer}
    return list(opened.graph.node), {**small, **shapes}


def _do_arithmetic(opened: ModelProto) -> None:
    try:
        constants_to_initializers(opened)
        fold_constants(opened)
        while known_sizes(opened):
            fold_constants(opened)
    except Exception as error:  # whatever an operator raises at constants that it cannot take
        told = f"the sizes that the file computes are not possible: {graphs.first_line(error)}"
        raise UserError(told, "export the model again, with fixed sizes but for the batch") from error


def without_values(model: ModelProto, weights: dict[str, tuple[int, ...]]) -> Outline:
    """`model` with the inputs that `weights` names turned into initializers of these shapes, which have no values."""
    kept = [value for value in model.graph.input if value.name not in weights]
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for name, shape in weights.items():
        if name in types:
            model.graph.initializer.append(TensorProto(name=name, data_type=types[name], dims=shape))
    return model


def _forget_values(tensor: TensorProto) -> None:
    kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    tensor.CopyFrom(kept)


def _fix_sides(graph: GraphProto, size: int) -> bool:
    """Give the free axes of images a size: height and width, whether the channels come before or after them."""
    constants = graphs.initializers(graph)
    values = [value for value in graph.input if value.name not in constants]
    axes = [value.type.tensor_type.shape.dim for value in values if len(value.type.tensor_type.shape.dim) == 4]
    free = [dim for dims in axes for dim in [dim for dim in dims[1:] if not dim.dim_value][-2:]]
    for dim in free:
        dim.dim_value = size
    return bool(free)


def _sizes(graph: GraphProto) -> str:
    value = images(graph)
    if value is None:
        return "no input is of images, (N, channels, height, width)"
    return f"'{value.name}' is {by(dim.dim_value or dim.dim_param or '?' for dim in value.type.tensor_type.shape.dim)}"


def _all_known(graph: GraphProto, shapes: dict[str, Shape]) -> bool:
    return all(
        None not in (shapes.get(node.output[0]) or (None,)) for node in graph.node if node.op_type in graphs.KINDS
    )
