"""A program's two files, written whole, and read again."""

from __future__ import annotations

import importlib.metadata
import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from export.program.buffers import place
from export.program.format import UNPLACED, Array, Program, from_json, npz_path, to_arrays, to_json
from runtimes import files
from runtimes.errors import UserError

_SAMPLE, _WORTH_IT = 16384, 0.9
"""So many numbers are tried, and must shrink to this share."""

_AGAIN = "write the program again from its ONNX file"


@dataclass(frozen=True)
class Written:
    """A program on disk; `doubts`: what it computes otherwise than the ONNX file may mean, one line each."""

    json: Path
    npz: Path
    program: Program
    doubts: list[str] = field(default_factory=list)


def write_program(program: Program, json_path: Path) -> Written:
    """Write NAME.program.json at `json_path` and NAME.program.npz beside it; equal programs give equal bytes.

    Tensors get their buffers here where one of them has none. Both files are written in full before either takes its
    place: a full disk leaves what stood there before.

    :raises UserError: the name does not end in `.program.json`, or the files cannot be written.
    """
    npz = npz_path(json_path)
    if any(tensor.buffer == UNPLACED for tensor in program.tensors):
        program = place(program)
    content = to_json(program, importlib.metadata.version("edgeprune"))
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    with files.replacing(json_path) as json_file, files.replacing(npz) as npz_file:
        json_file.write_text(text, encoding="utf-8")
        _write_arrays(npz_file, to_arrays(program.operations))
    return Written(json_path, npz, program)


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """As np.savez_compressed writes them, but dense weights as they are where deflate gains next to nothing.

    Those take most of the time, at writing and at loading, and give back a few percent.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name, held in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, held, allow_pickle=False)
            plain = name.endswith(".weight") and not _shrinks(held)
            method = zipfile.ZIP_STORED if plain else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getbuffer(), compress_type=method)


def _shrinks(held: Array) -> bool:
    sample = held.ravel()[:_SAMPLE].tobytes()
    return len(zlib.compress(sample)) < _WORTH_IT * len(sample)


def read_program(json_path: Path) -> Program:
    """The program at `json_path`, as it is written there; the rules of a program are the loader's to check.

    :raises UserError: a file is missing or damaged.
    """
    content, npz = files.read_json(json_path), npz_path(json_path)
    try:
        with np.load(npz, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return from_json(content, arrays)
    except FileNotFoundError:
        raise UserError(f"{npz} is missing", _AGAIN) from None
    except (OSError, EOFError, zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{json_path} is not a whole program: {type(error).__name__}: {error}", _AGAIN) from error
