"""Shapes that are known before the file runs: inferred, and put in the place of the arithmetic that finds them."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from export import graph as graphs

Shape = tuple[int | None, ...]
"""Sizes by axis; None is a size that only the batch decides."""

LARGE = 1024
"""Initializers of more elements are weights, of which inference needs the shape and not the values."""


def infer_shapes(model: ModelProto, *, batch: int | None = None) -> dict[str, Shape]:
    """Shape of every value whose rank can be inferred, with the first axis of the inputs set to `batch` where free."""
    opened = open_weights(model, batch=batch)
    for value in opened.graph.output:
        value.type.tensor_type.ClearField("shape")  # it may name the batch
    graph = onnx.shape_inference.infer_shapes(opened, data_prop=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")}


def images(graph: GraphProto) -> ValueInfoProto | None:
    """The input that the images come in: the first one of four axes, (N, channels, height, width) or (N, h, w, c)."""
    constants = graphs.initializers(graph)
    values = (value for value in graph.input if value.name not in constants)
    return next((value for value in values if len(value.type.tensor_type.shape.dim) == 4), None)


def fixed_batch(graph: GraphProto) -> int:
    """How many images the graph takes at once where its input says so, else 1."""
    value = images(graph)
    return 1 if value is None else max(value.type.tensor_type.shape.dim[0].dim_value, 1)


def by(sizes: Iterable[object]) -> str:
    """Sizes as a message has them: 3 x 224 x ?."""
    return " x ".join("?" if size is None else str(size) for size in sizes)


def float_values(model: ModelProto) -> set[str]:
    """Names of all values that are float32: inputs, constants, and what is computed from them."""
    inferred = onnx.shape_inference.infer_shapes(open_weights(model, batch=None), data_prop=True).graph
    computed = (*inferred.value_info, *inferred.input, *inferred.output)
    found = {value.name for value in computed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT}


def known_sizes(model: ModelProto) -> bool:
    """Replace Shape and Gather-of-Shape nodes by constants where the sizes they ask for are known; True: some were."""
    graph = model.graph
    shapes, made_by = infer_shapes(model), graphs.producers(graph)
    constants, found = graphs.initializers(graph), []
    for node in graph.node:
        sizes = _sizes(constants, node, shapes, made_by)
        if sizes is not None and node.output[0] not in graphs.outputs(graph):
            graph.initializer.append(numpy_helper.from_array(sizes, node.output[0]))
            found.append(node)
    graphs.remove(graph, found)
    return bool(found)


def free_one_size(model: ModelProto) -> None:
    """Where a Reshape's target is put together from constants and one size of the batch, make that size -1.

    The number of elements decides the one free size, so the chain of nodes that computed it has nothing left to do.
    """
    graph = model.graph
    shapes, made_by, constants = infer_shapes(model), graphs.producers(graph), graphs.initializers(graph)
    for node in graph.node:
        concat = made_by.get(node.input[1]) if node.op_type == "Reshape" else None
        target = _target(constants, concat, shapes) if concat is not None and concat.op_type == "Concat" else None
        if target is not None:
            name = f"{node.output[0]}.shape"
            graph.initializer.append(numpy_helper.from_array(target, name))
            node.input[1] = name


def open_weights(model: ModelProto, *, batch: int | None) -> ModelProto:
    """A copy of `model` in which weights are inputs, and images come `batch` at a time where their number is free.

    Inference copies the model, and weights are large. Constants that have no value in the file, or a long one, become
    inputs of their shape; every other input keeps the sizes that the file gives it.
    """
    graph = GraphProto(name=model.graph.name, node=model.graph.node, output=model.graph.output)
    constants = graphs.initializers(model.graph)
    for value in model.graph.input:
        if value.name not in constants:  # files of before IR version 4 list weights among the inputs
            graph.input.add().CopyFrom(value)
            first = graph.input[-1].type.tensor_type.shape.dim[:1]
            if batch is not None and first and not first[0].HasField("dim_value"):
                first[0].dim_value = batch
    for tensor in constants.values():
        if prod(tensor.dims) > LARGE or not _has_values(tensor):
            graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        else:
            graph.initializer.append(tensor)
    opened = ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, graph=graph)
    opened.functions.extend(model.functions)
    return opened


def _has_values(tensor: TensorProto) -> bool:
    if tensor.data_location == TensorProto.EXTERNAL:
        return False
    held = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    return prod(tensor.dims) == 0 or any(len(getattr(tensor, name)) for name in held)


def _shape(value: ValueInfoProto) -> Shape:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _sizes(
    constants: dict[str, TensorProto], node: NodeProto, shapes: dict[str, Shape], made_by: dict[str, NodeProto]
) -> NDArray[np.int64] | None:
    """What a Shape node, or a Gather from one, gives; None where it is another node or the batch decides."""
    if node.op_type == "Shape" and not node.attribute:
        asked, indices = node, None
    elif node.op_type == "Gather" and node.input[1] in constants:
        maker = made_by.get(node.input[0])
        if maker is None or maker.op_type != "Shape" or maker.attribute:
            return None
        asked, indices = maker, numpy_helper.to_array(constants[node.input[1]])
    else:
        return None
    shape = shapes.get(asked.input[0])
    if not shape:
        return None
    sizes = np.array([-1 if size is None else size for size in shape], dtype=np.int64)
    chosen = np.asarray(sizes if indices is None else sizes[indices])
    return chosen if bool((chosen >= 0).all()) else None


def _target(constants: dict[str, TensorProto], concat: NodeProto, shapes: dict[str, Shape]) -> NDArray[np.int64] | None:
    """A Reshape's target with -1 for its one computed size; None where it has several, or has a -1 or 0 already."""
    parts = [numpy_helper.to_array(constants[name]) if name in constants else None for name in concat.input]
    computed = [name for name, part in zip(concat.input, parts, strict=True) if part is None]
    if len(computed) != 1 or shapes.get(computed[0]) != (1,):
        return None
    if any(part is not None and bool((part <= 0).any()) for part in parts):
        return None
    free = np.array([-1], dtype=np.int64)
    return np.concatenate([free if part is None else part for part in parts]).astype(np.int64)
