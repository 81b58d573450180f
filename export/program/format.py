"""The flat program that `runtimes/sparse_cpu` runs: tensors, operations in the order they run in, and their arrays.

Everything is for one image: a shape is (channels, height, width), a vector is (n, 1, 1). On disk a program is
NAME.program.json and NAME.program.npz side by side; an array lies in the .npz under "<index of the operation>.<key>".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import UserError

Array = NDArray[Any]
Shape = tuple[int, int, int]

SCHEMA_VERSION = 1
JSON_SUFFIX, NPZ_SUFFIX = ".program.json", ".program.npz"

UNPLACED = -1
"""The buffer of a tensor that has none yet: `write_program` gives it one."""

ARRAYS: dict[str, np.dtype[Any]] = {
    "weight": np.dtype("<f4"),
    "values": np.dtype("<f4"),
    "gaps": np.dtype("u1"),
    "counts": np.dtype("<u4"),
    "bias": np.dtype("<f4"),
    "scale": np.dtype("<f4"),
    "shift": np.dtype("<f4"),
    "channels": np.dtype("<i4"),
}
"""What an array in the file may be called, and its type there."""

OPERATIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "conv": (("kernel", "stride", "padding", "dilation", "groups", "add", "activation"), ("bias",)),
    "linear": (("activation",), ("bias",)),
    "max_pool": (("kernel", "stride", "padding", "dilation"), ()),
    "average_pool": (("kernel", "stride", "padding", "dilation", "count_padding"), ()),
    "global_average": ((), ()),
    "activate": (("activation",), ()),
    "add": ((), ()),
    "mul": ((), ()),
    "affine": ((), ("scale", "shift")),
    "concat": ((), ()),
    "select": ((), ("channels",)),
    "pad": (("padding", "value"), ()),
    "resize": (("factor",), ()),
    "flatten": ((), ()),
    "softmax": ((), ()),
}
"""For each operation its attributes and its arrays; conv and linear have their weights beside these, in one form of
`weights.py`."""


@dataclass(frozen=True)
class Tensor:
    """What one operation writes, or the input."""

    shape: Shape
    buffer: int = UNPLACED


@dataclass(frozen=True)
class Operation:
    """One operation; `attributes` are those of `OPERATIONS`, as JSON has them."""

    op: str
    name: str  # of the ONNX node that it comes from
    inputs: tuple[int, ...]
    output: int
    attributes: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[int, ...]:
        """The tensors that it reads, what a convolution adds among them."""
        added = self.attributes.get("add")
        return self.inputs if added is None else (*self.inputs, int(added))


@dataclass(frozen=True)
class Program:
    """A network for one image: `operations` run in order, each tensor is written once."""

    name: str
    source_sha256: str
    input: int
    output: int
    tensors: tuple[Tensor, ...]
    operations: tuple[Operation, ...]

    @property
    def buffers(self) -> int:
        """How many buffers the tensors share."""
        return 1 + max(tensor.buffer for tensor in self.tensors)

    @property
    def peak_floats(self) -> int:
        """Floats of all buffers together, each as large as the largest tensor in it."""
        largest: dict[int, int] = {}
        for tensor in self.tensors:
            largest[tensor.buffer] = max(largest.get(tensor.buffer, 0), floats(tensor.shape))
        return sum(largest.values())


def floats(shape: Shape) -> int:
    """Numbers in a tensor of `shape`."""
    return shape[0] * shape[1] * shape[2]


def npz_path(json_path: Path) -> Path:
    """Where the arrays of the program at `json_path` lie; the name must end in `.program.json`."""
    if not json_path.name.endswith(JSON_SUFFIX):
        raise UserError(f"'{json_path.name}' does not end in {JSON_SUFFIX}", "programs are named like the ONNX file")
    return json_path.with_name(json_path.name.removesuffix(JSON_SUFFIX) + NPZ_SUFFIX)


def to_json(program: Program, version: str) -> dict[str, Any]:
    """The JSON file's content; `version`: of edgeprune."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": program.name,
        "source_sha256": program.source_sha256,
        "edgeprune": version,
        "input": program.input,
        "output": program.output,
        "buffers": program.buffers,
        "peak_floats": program.peak_floats,
        "tensors": [{"shape": list(tensor.shape), "buffer": tensor.buffer} for tensor in program.tensors],
        "operations": [
            {"op": one.op, "name": one.name, "inputs": list(one.inputs), "output": one.output, **one.attributes}
            for one in program.operations
        ],
    }


def to_arrays(operations: Sequence[Operation]) -> dict[str, Array]:
    """The .npz file's content, each array of the type that `ARRAYS` says, in C order."""
    return {
        f"{index}.{key}": np.ascontiguousarray(value, dtype=ARRAYS[key])
        for index, one in enumerate(operations)
        for key, value in one.arrays.items()
    }


def from_json(content: Mapping[str, Any], arrays: Mapping[str, Array]) -> Program:
    """The program that `to_json` and `to_arrays` wrote.

    Raises KeyError, TypeError or ValueError where the content is not that of a program; it is not checked any further.
    """
    if content["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {content['schema_version']}, not {SCHEMA_VERSION}")
    held: dict[int, dict[str, Array]] = {}
    for name, value in arrays.items():
        index, _, key = name.partition(".")
        held.setdefault(int(index), {})[key] = value
    plain = ("op", "name", "inputs", "output")
    return Program(
        name=content["name"],
        source_sha256=content["source_sha256"],
        input=int(content["input"]),
        output=int(content["output"]),
        tensors=tuple(Tensor(_shape(one["shape"]), int(one["buffer"])) for one in content["tensors"]),
        operations=tuple(
            Operation(
                op=one["op"],
                name=one["name"],
                inputs=tuple(int(at) for at in one["inputs"]),
                output=int(one["output"]),
                attributes={key: value for key, value in one.items() if key not in plain},
                arrays=held.get(index, {}),
            )
            for index, one in enumerate(content["operations"])
        ),
    )


def _shape(sizes: Sequence[int]) -> Shape:
    channels, height, width = (int(size) for size in sizes)
    return channels, height, width
