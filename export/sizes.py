"""How large a network is: three honest numbers instead of one flattering one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from onnx import numpy_helper

from export import graph as graphs


def size_bytes(path: Path) -> dict[str, int]:
    """Sizes of the ONNX file at `path`, in bytes.

    - `onnx`: the file as it is. Zeros take as much room as other weights.
    - `nonzero`: the non-zero values of all floating-point and int8 initializers (weights, biases, scales, what is left
      of batch normalization), at the width they are stored with: 4 bytes each in float32, 1 in int8. An int8 file for
      an older TensorRT holds its weights in float32, 4 bytes each (`export.precisions.quantize`): it is no smaller than
      the fp32 one. Where the values stand is not counted: a sparse format adds its index, and the graph, on top. A
      lower bound, not a file one can have.
    - `compressed`: the file after gzip at level 9.

    :raises UserError: the file is missing or damaged.
    """
    model = graphs.read(path)
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    values = [array for array in arrays if np.issubdtype(array.dtype, np.floating) or array.dtype == np.int8]
    content = path.read_bytes()
    return {
        "onnx": len(content),
        "nonzero": sum(int(np.count_nonzero(array)) * array.itemsize for array in values),
        "compressed": len(gzip.compress(content, compresslevel=9, mtime=0)),
    }
