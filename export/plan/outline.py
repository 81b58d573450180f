"""A network's outline: its graph without its weights' values. Shapes are all that a plan looks at.

So a file of hundreds of megabytes is read in a second, weights that lie beside it need not be there, and a network that
is too large for one ONNX file has an outline all the same.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, inliner

from export import graph as graphs
from export.shapes import Shape, infer_shapes, known_sizes
from export.simplify import constants_to_initializers, fold_constants
from runtimes.errors import UserError

Outline = ModelProto
"""A model whose long initializers may have no values: enough for a plan, nothing that a runtime could load."""

_VALUES = 1024
"""Initializers of up to so many elements keep their values: sizes and axes are among them."""

_FOLDS_FROM = 13
"""The opset from which on axes are inputs of Squeeze and the like, as the arithmetic here expects."""

_HINT = "give a whole ONNX file; the weights of a large one may lie beside it or not"


def read_outline(path: Path, *, image_size: int | None = None) -> Outline:
    """The outline of the ONNX file at `path`, with free heights and widths of its images set to `image_size` pixels.

    :raises UserError: the file is missing, truncated, or no ONNX.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            if prod(tensor.dims) > _VALUES:
                _forget_values(tensor)
        opened = open_weights(model, batch=None)
        for value in opened.graph.output:
            value.type.tensor_type.shape.SetInParent()  # the checker wants one, runtimes do not
        onnx.checker.check_model(opened)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", _HINT) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", _HINT) from error
    except Exception as error:  # protobuf's and the checker's own classes, by no common name
        raise UserError(f"{path} is not a whole ONNX model: {graphs.first_line(error)}", _HINT) from error
    if image_size is not None:
        for value in _images(model.graph):
            _fix_sides(value, image_size)
    return model


def open_weights(model: ModelProto, *, batch: int | None) -> ModelProto:
    """A copy of `model` in which weights are inputs, and images come `batch` at a time.

    What is copied is the graph; constants that have no value in the file, or a long one, become inputs of their shape.
    """
    graph = GraphProto(name=model.graph.name, node=model.graph.node)
    constants = graphs.initializers(model.graph)
    graph.output.extend(model.graph.output)
    for value in model.graph.input:
        if value.name not in constants:  # files of before IR version 4 list weights among the inputs
            graph.input.add().CopyFrom(value)
            if batch is not None and value.type.tensor_type.shape.dim:
                graph.input[-1].type.tensor_type.shape.dim[0].dim_value = batch
    for tensor in constants.values():
        if prod(tensor.dims) > _VALUES or not _has_values(tensor):
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    opened = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    opened.functions.extend(model.functions)
    return opened


def settled(model: ModelProto) -> tuple[list[NodeProto], dict[str, Shape]]:
    """The nodes of `model` for one image, and the shape of every value that can be known, weights included.

    Where inference stops at arithmetic with sizes (a Reshape to computed sizes), that arithmetic is done.

    :raises UserError: that arithmetic fails.
    """
    opened = open_weights(model, batch=1)
    for value in opened.graph.output:
        value.type.tensor_type.ClearField("shape")  # it may name the batch
    if opened.functions:
        opened = inliner.inline_local_functions(opened)
    shapes = infer_shapes(opened)
    if not _all_known(opened.graph, shapes) and _opset(opened) >= _FOLDS_FROM:
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


def _has_values(tensor: TensorProto) -> bool:
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    held = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return prod(tensor.dims) == 0 or any(len(getattr(tensor, name)) for name in held)


def _images(graph: GraphProto) -> list[ValueInfoProto]:
    constants = graphs.initializers(graph)
    return [
        value
        for value in graph.input
        if value.name not in constants and len(value.type.tensor_type.shape.dim) == 4  # (N, channels, height, width)
    ]


def _fix_sides(value: ValueInfoProto, size: int) -> None:
    """Give the free axes of images a size: height and width, whether the channels come before or after them."""
    free = [dim for dim in value.type.tensor_type.shape.dim[1:] if not dim.dim_value]
    for dim in free[-2:]:
        dim.dim_value = size


def _all_known(graph: GraphProto, shapes: dict[str, Shape]) -> bool:
    return all(
        None not in (shapes.get(node.output[0]) or (None,)) for node in graph.node if node.op_type in graphs.KINDS
    )


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
