"""The input of an ONNX file, read with the standard library: boards have no `onnx` package, and trtexec wants the name.

The file is a protocol buffer: fields, each a key (number * 8 + kind) and a value. Only the way to the graph's inputs is
followed; weights are skipped, not read. Field numbers: onnx/onnx.proto3 (ModelProto.graph 7, GraphProto.initializer 5
and input 11, ValueInfoProto.name 1 and type 2, TypeProto.tensor_type 1, Tensor.shape 2, TensorShapeProto.dim 1,
Dimension.dim_value 1).
"""

import mmap
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

from runtimes.errors import UserError

_GRAPH, _INITIALIZER, _INPUT = 7, 5, 11
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
_MOST_BITS = 70  # of a varint: ten bytes


class OnnxInput(NamedTuple):
    """The one input that is not a weight; a dimension is None where it is free."""

    name: str
    shape: List[Optional[int]]


def onnx_input(path: Path) -> OnnxInput:
    """The image input of the network at `path`.

    Raises:
        UserError: the file is damaged, or has not exactly one input.
    """
    try:
        with open(str(path), "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            inputs = _inputs(data)
    except (OSError, ValueError, IndexError) as error:  # an empty file cannot be mapped
        raise UserError(
            "{} is not a whole ONNX file: {}".format(path.name, error), "export the network again, and copy it again"
        ) from error
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "none"
        raise UserError(
            "{} has these inputs: {}".format(path.name, names), "a classifier with one image input is expected"
        )
    return inputs[0]


def _inputs(data: Any) -> List[OnnxInput]:
    weights, inputs = set(), []
    for graph in _messages(data, (0, len(data)), _GRAPH):
        for number, span in _fields(data, graph):
            if number == _INITIALIZER:  # files of IR version 3 list weights among the inputs
                weights.add(_name(data, span, 8))
            elif number == _INPUT:
                inputs.append(OnnxInput(_name(data, span, 1), _shape(data, span)))
    return [entry for entry in inputs if entry.name not in weights]


def _shape(data: Any, value_info: Tuple[int, int]) -> List[Optional[int]]:
    spans = [value_info]
    for number in (2, 1, 2, 1):  # type, tensor_type, shape, dim
        spans = [inner for span in spans for inner in _messages(data, span, number)]
    return [next((value[0] for number, value in _fields(data, dim) if number == 1), None) for dim in spans]


def _name(data: Any, span: Tuple[int, int], field: int) -> str:
    return next((data[start:end].decode("utf-8") for start, end in _messages(data, span, field)), "")


def _messages(data: Any, span: Tuple[int, int], wanted: int) -> Iterator[Tuple[int, int]]:
    return (inner for number, inner in _fields(data, span) if number == wanted)


def _fields(data: Any, span: Tuple[int, int]) -> Iterator[Tuple[int, Tuple[int, int]]]:
    """(field number, (start, end)) of each field; of a whole number, (field number, (value, value))."""
    at, end = span
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, (value, value)
            continue
        length = {_EIGHT: 8, _FOUR: 4}.get(kind)
        if kind == _LENGTH:
            length, at = _varint(data, at)
        if length is None or at + length > end:
            raise ValueError("it breaks off at byte {}".format(at))
        yield number, (at, at + length)
        at += length


def _varint(data: Any, at: int) -> Tuple[int, int]:
    value = 0
    for shift in range(0, _MOST_BITS, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("no number ends at byte {}".format(at))
