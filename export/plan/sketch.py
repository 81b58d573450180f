"""The outline of a torch module: traced for one image, in a second or two, whatever its weights weigh."""

from __future__ import annotations

import torch
from onnx import TensorProto
from torch import nn

from export import graph as graphs
from export.plan.outline import Outline, without_values
from export.shapes import infer_shapes
from export.simplify import FOLDED, rewire
from export.targets import Target
from export.to_onnx import plain_copy
from export.trace import traced
from runtimes.errors import UserError


def sketch(module: nn.Module, input_shape: tuple[int, int, int], target: Target) -> Outline:
    """The outline of `module` for an image of `input_shape` (channels, height, width), with torch's names.

    It is traced as `to_onnx` traces it, but that the weights stay in the module: the file has none, and nothing is
    simplified.

    :raises UserError: the module cannot be run or exported.
    """
    plain = plain_copy(module)
    image = torch.zeros(1, *input_shape)
    shapes = {name: tuple(value.shape) for name, value in (*plain.named_parameters(), *plain.named_buffers())}
    try:
        model = traced(plain, image, target.opset, free_batch=False, weights=False)
    except UserError:
        _try(plain, image)
        raise
    outline = without_values(model, shapes)
    _bake(outline, {tensor.name for tensor in outline.graph.initializer if tensor.name in shapes})
    return outline


_BAKED = FOLDED - {"Cast", "Equal", "Gather", "Greater", "Less", "Not", "Range", "Shape", "ScatterND"}
"""Arithmetic on weights that gives weights: floats, of which the shape is all that is looked at."""


def _bake(outline: Outline, weights: set[str]) -> None:
    """Do on shapes what `fold_constants` does on values when the network is exported: arithmetic on `weights`.

    A weight that the module scales each time it runs is stored scaled in the file, under its own name.
    """
    graph, shapes = outline.graph, infer_shapes(outline)
    constants, used = graphs.initializers(graph), graphs.consumers(graph)
    held = {name for name in weights if constants[name].data_type == TensorProto.FLOAT}
    known = set(constants) | {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    baked = []
    for node in graph.node:
        shape, reads = shapes.get(node.output[0], (None,)), [name for name in node.input if name]
        if node.op_type not in _BAKED or held.isdisjoint(reads) or None in shape or not known.issuperset(reads):
            continue
        alone = next((name for name in reads if name.endswith("weight") and len(used[name]) == 1), node.output[0])
        constants[alone] = constants.get(alone) or graph.initializer.add()
        constants[alone].CopyFrom(
            TensorProto(name=alone, data_type=TensorProto.FLOAT, dims=[size or 0 for size in shape])
        )
        held.add(alone)
        known.add(alone)
        used[alone] = used.pop(node.output[0], [])
        rewire(used[alone], node.output[0], alone)
        baked.append(node)
    graphs.remove(graph, baked)


def _try(plain: nn.Module, image: torch.Tensor) -> None:
    """Run the module, to tell an image that it cannot take from an operator that ONNX has not."""
    try:
        with torch.no_grad():
            plain(image)
    except Exception as error:  # it may be the user's own code: whatever it raises is about this image
        raise UserError(
            f"{type(plain).__name__} cannot take an image of {' x '.join(map(str, image.shape[1:]))}: "
            f"{graphs.first_line(error)}",
            "give the image size the network was made for: --image-size",
        ) from error
