"""Multiply-adds of one image, layer by layer, with and without those by zero."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np

from export import graph as graphs
from export.shapes import fixed_batch, infer_shapes
from runtimes.errors import UserError


def count_macs(path: Path) -> dict[str, tuple[int, int]]:
    """For each layer of the ONNX file at `path`: (multiply-adds, those by a non-zero weight), for one image.

    A layer is a convolution or a linear layer with a constant weight; every weight is used once for each output
    position, so a layer costs positions * weights and positions * non-zero weights. Multiplications by the padding
    count, as is usual; biases, activations and products of two activations (attention) do not. A layer used twice
    costs twice. Where the file takes a fixed number of images at once, the numbers are divided by it.

    :raises UserError: the file is missing or damaged, or the size of a layer's output cannot be known.
    """
    model = graphs.read(path)
    shapes, images = infer_shapes(model, batch=1), fixed_batch(model.graph)
    found: dict[str, tuple[int, int]] = {}
    for layer in graphs.layers(model.graph):
        shape = shapes.get(layer.node.output[0])
        if shape is None or None in shape:
            raise UserError(
                f"{path}: the shape of the output of layer '{layer.name}' cannot be inferred",
                "export the model again with edgeprune, which states the input's shape",
            )
        positions = _positions(layer, [size or 0 for size in shape]) // images
        before = found.get(layer.name, (0, 0))
        nonzero = int(np.count_nonzero(layer.weight))
        found[layer.name] = (before[0] + positions * layer.weight.size, before[1] + positions * nonzero)
    return found


def _positions(layer: graphs.Layer, shape: Sequence[int]) -> int:
    """How many times each weight is used: output pixels of a convolution, rows of a linear layer."""
    weight = layer.weight
    each: int = weight.size // weight.shape[0] if layer.node.op_type == "Conv" else weight.shape[-1]  # for one output
    return prod(shape) * each // int(weight.size)
