"""Small ONNX graphs from image to answer, run both as a program and by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from program_reference import run_program

from export.program import read_program, to_program
from export.program.format import Program
from runtimes import ort

Array = NDArray[Any]
TOLERANCE = 1e-4
"""Of max|a - b| / max|b|."""


def node(op: str, reads: str, writes: str, **attributes: Any) -> NodeProto:
    """A node that reads and writes the values named, apart by blanks; "-" is one that is left out."""
    names = ["" if name == "-" else name for name in reads.split()]
    return helper.make_node(op, names, writes.split(), name=f"/{op}/{writes.split()[0]}", **attributes)


def model_of(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, Array],
    shape: Sequence[int | str] = ("N", 4, 6, 6),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> ModelProto:
    """A model from "x" to `outputs`."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Noise in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def whole(*numbers: int) -> NDArray[np.int64]:
    """A constant of whole numbers: a shape, axes."""
    return np.array(numbers, np.int64)


def saved(model: ModelProto, folder: Path) -> Path:
    """The model as folder/m.onnx."""
    path = folder / "m.onnx"
    onnx.save(model, path)
    return path


def program_of_file(path: Path) -> Program:
    """The program of an ONNX file, written and read again."""
    return read_program(to_program(path).json)


def compared(path: Path, images: NDArray[np.float32]) -> Program:
    """The program of the file at `path`, which answers `images` as ONNX Runtime does."""
    program = program_of_file(path)
    theirs = np.asarray(ort.load(path, {}).run(images)).reshape(len(images), -1)
    ours = run_program(program, images)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 0
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
    return program


def checked(model: ModelProto, folder: Path, batch: int = 2) -> Program:
    """The program of `model`, compared on noise."""
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    return compared(saved(model, folder), normal(sizes[0] or batch, *sizes[1:], seed=1))


def ops(program: Program) -> list[str]:
    """The operations in order."""
    return [one.op for one in program.operations]
