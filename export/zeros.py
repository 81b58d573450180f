"""How many weights an ONNX file has, and how many of them are not zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export import graph as graphs


def count_weights(path: Path) -> dict[str, tuple[int, int]]:
    """For each layer of the ONNX file at `path`: (weights, those that are not zero); a shared weight counts once.

    :raises UserError: the file is missing or damaged.
    """
    layers = graphs.layers(graphs.read(path).graph)
    return {layer.initializer: (int(layer.weight.size), int(np.count_nonzero(layer.weight))) for layer in layers}
