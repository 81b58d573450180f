"""Small programs with something of everything, and the two files of a program changed in one place."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from program_reference import program_of

from export.program.format import Operation, Program, Shape, from_json, to_arrays, to_json
from export.program.weights import to_sparse

RELU = {"kind": "clip", "low": 0.0, "high": None}
NO_PADDING = [0, 0, 0, 0]


@dataclass
class Made:
    """Operations as they are added, each with the tensor that it writes."""

    shapes: list[Shape]
    operations: list[Operation] = field(default_factory=list)
    random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(6))

    def add(self, op: str, inputs: list[int], shape: Shape, arrays: dict[str, Any] | None = None, **held: Any) -> int:
        """One more operation; its output."""
        self.shapes.append(shape)
        one = Operation(op, f"/{op}_{len(self.operations)}", tuple(inputs), len(self.shapes) - 1, held, arrays or {})
        self.operations.append(one)
        return one.output

    def floats(self, *shape: int) -> np.ndarray:
        """Numbers around 0."""
        return self.random.standard_normal(shape).astype(np.float32)

    def weights(self, rows: int, columns: int, sparsity: float | None) -> dict[str, Any]:
        """The arrays of a layer, in the dense form where `sparsity` is None."""
        weight, bias = self.floats(rows, columns), self.floats(rows)
        if sparsity is None:
            return {"weight": weight, "bias": bias}
        return {**to_sparse(np.where(self.random.random(weight.shape) < sparsity, 0, weight)), "bias": bias}

    def conv(self, at: int, shape: Shape, sparsity: float | None, **held: Any) -> int:
        """A convolution; what is not said is the plainest."""
        kernel, groups = held.setdefault("kernel", [1, 1]), held.setdefault("groups", 1)
        plain = {"stride": [1, 1], "padding": NO_PADDING, "dilation": [1, 1], "add": None, "activation": None}
        columns = self.shapes[at][0] // groups * kernel[0] * kernel[1]
        return self.add("conv", [at], shape, self.weights(shape[0], columns, sparsity), **{**plain, **held})


def of_everything() -> Program:
    """Every operation, every activation, both forms of weights, an empty row, gaps above 255."""
    made = Made([(3, 8, 8)])
    stem = made.conv(0, (4, 8, 8), None, kernel=[3, 3], padding=[1, 1, 1, 1], activation=RELU)
    down = made.conv(stem, (4, 4, 4), 0.6, kernel=[3, 3], stride=[2, 2], padding=[0, 0, 1, 1], groups=4)
    wide = made.conv(down, (6, 4, 4), 0.5, activation={"kind": "hard_swish"})
    added = made.conv(wide, (6, 4, 4), 0.9, kernel=[3, 1], dilation=[2, 1], padding=[2, 0, 2, 0], add=wide, groups=2)
    window = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1]}
    most = made.add("max_pool", [added], (6, 4, 4), **window)
    mean = made.add("average_pool", [added], (6, 4, 4), **window, count_padding=True)
    one = made.add("global_average", [most], (6, 1, 1))
    gate = made.add("activate", [one], (6, 1, 1), activation={"kind": "hard_sigmoid", "low": 0.2, "high": 0.5})
    scaled = made.add("mul", [mean, gate], (6, 4, 4))
    both = made.add("add", [scaled, most], (6, 4, 4))
    moved = made.add("affine", [both], (6, 4, 4), {"scale": made.floats(6), "shift": made.floats(6)})
    joined = made.add("concat", [moved, both, moved], (18, 4, 4))
    chosen = made.add("select", [joined], (5, 4, 4), {"channels": np.array([17, 0, 0, 3, 9], np.int32)})
    bordered = made.add("pad", [chosen], (5, 5, 6), padding=[1, 2, 0, 0], value=-1.5)
    large = made.add("resize", [bordered], (5, 10, 6), factor=[2, 1])
    flat = made.add("flatten", [large], (300, 1, 1))
    hidden = made.add("linear", [flat], (9, 1, 1), made.weights(9, 300, 0.995), activation={"kind": "silu"})
    clipped = made.add("activate", [hidden], (9, 1, 1), activation={"kind": "clip", "low": None, "high": 6.0})
    ungated = made.add("activate", [clipped], (9, 1, 1), activation={"kind": "sigmoid"})
    logits = made.add("linear", [ungated], (4, 1, 1), made.weights(4, 9, None), activation=None)
    answer = made.add("softmax", [logits], (4, 1, 1))
    return program_of(made.operations, made.shapes, 0, answer)


@dataclass
class Content:
    """The two files before they are written: `change` one of them, then `write`."""

    json: dict[str, Any]
    arrays: dict[str, np.ndarray]
    entries: dict[str, bytes] = field(default_factory=dict)  # instead of, or beside, what the arrays give

    def write(self, path: Path) -> Path:
        """Both files; `path` names the JSON."""
        path.write_text(json.dumps(self.json, indent=1))
        entries = {**{f"{key}.npy": npy(value) for key, value in self.arrays.items()}, **self.entries}
        with zipfile.ZipFile(path.with_suffix(".npz"), "w") as archive:
            for name, data in entries.items():
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return path


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    """An array as numpy saves it."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version, allow_pickle=False)
    return stream.getvalue()


_EVERYTHING = of_everything()


def everything() -> Content:
    """The files of `of_everything`, for changing."""
    return Content(copy.deepcopy(to_json(_EVERYTHING, "0.0.0")), dict(to_arrays(_EVERYTHING.operations)))


def changed(change: Callable[[Content], object], path: Path) -> Path:
    """The files of `of_everything` with one change, written."""
    content = everything()
    change(content)
    return content.write(path)


def as_python_reads(path: Path) -> Program:
    """A program by Python's json and numpy, neither of which checks what it means."""
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
        return from_json(json.loads(path.read_text(encoding="utf-8")), {name: archive[name] for name in archive.files})
