"""The ONNX file of an export to a program on disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper

from export import graph as graphs
from export.program.flow import Flow, renumbered
from export.program.format import JSON_SUFFIX, Operation, Program, Tensor
from export.program.fuse import fuse
from export.program.walk import images_of, walked
from export.program.weights import stored
from export.program.write import Written, write_program
from export.simplify import simplify
from runtimes import files
from runtimes.errors import UserError

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")
_HALVES = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16", TensorProto.DOUBLE: "float64"}
_FLOATS_ONLY = "sparse_cpu takes the fp32 file: export with precision fp32, or give this file to another runtime"


def to_program(source: Path, folder: Path | None = None) -> Written:
    """Write the program of the ONNX file `source` as <stem>.program.json and <stem>.program.npz.

    The file takes (N, channels, height, width) in float32, N free or any number. Normalization is folded into the
    layers, activations, sums and borders are fused, tensors share memory where their lives do not overlap.

    :param folder: where the two files go; None: beside `source`.
    :raises UserError: the file is missing or damaged, is fp16 or int8, has a free image size, or an operator that
        sparse_cpu does not run: the message names the operator and the node.
    """
    model = graphs.read(source)
    refuse_other_precisions(model, source)
    program = of_model(model, source.stem, files.sha256(source))
    written = write_program(program, (folder or source.parent) / (source.stem + JSON_SUFFIX))
    return replace(written, doubts=_doubts(model))


def of_model(model: ModelProto, name: str, source_sha256: str) -> Program:
    """The program of a float32 model, which is changed; its tensors have no buffers yet.

    :raises UserError: as `to_program`.
    """
    entry, _ = images_of(model.graph)
    batch = entry.type.tensor_type.shape.dim[0]
    batch.dim_value = max(batch.dim_value, 1)  # a free batch is one image: so every shape folds to a constant
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    draft, first, last = walked(_simplified(model))
    flow = Flow(draft.operations, draft.tensors, first, last)
    flow.drop_unread()
    fuse(flow)
    flow = renumbered(flow)
    tensors = tuple(Tensor(shape) for shape in flow.tensors)
    operations = tuple(_finished(one) for one in flow.operations)
    return Program(name, source_sha256, flow.input, flow.output, tensors, operations)


def _simplified(model: ModelProto) -> ModelProto:
    try:
        return simplify(model)
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:  # of the reference evaluator
        raise UserError(
            f"the constants of the network do not fit together: {graphs.first_line(error)}", "export the network again"
        ) from error


def refuse_other_precisions(model: ModelProto, source: Path) -> None:
    """Refuse a file that does not compute in float32 from beginning to end.

    :raises UserError: naming what is not float32.
    """
    for node in graphs.all_nodes(model.graph):
        if node.op_type in _QUANTIZED or node.op_type.startswith("QLinear"):
            raise UserError(f"{source} is an int8 file: it has {node.op_type} '{graphs.label(node)}'", _FLOATS_ONLY)
        target = next((helper.get_attribute_value(one) for one in node.attribute if one.name == "to"), None)
        if node.op_type == "Cast" and target in _HALVES:
            raise UserError(f"{source} is {_HALVES[target]}: it has the Cast '{graphs.label(node)}'", _FLOATS_ONLY)
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    held |= {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    for name, kind in held.items():
        if kind in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            raise UserError(f"{source} is {_HALVES[kind]}: '{name}' is", _FLOATS_ONLY)


def _finished(one: Operation) -> Operation:
    """Arrays in float32, and the weights in the form that is smaller."""
    arrays = {
        key: held if held.dtype.kind == "i" else held.astype(np.float32, copy=False) for key, held in one.arrays.items()
    }
    if "weight" not in arrays:
        return replace(one, arrays=arrays)
    weights = stored(arrays.pop("weight"))
    return replace(one, arrays={**weights, **arrays})


def _doubts(model: ModelProto) -> list[str]:
    names = [value.name for value in model.graph.output]
    unread = ", ".join(names[1:])
    return [f"only the first output, '{names[0]}', is answered; not {unread}"] if unread else []
