"""edgeprune's own runtime for CPUs: it multiplies by the weights that pruning has left, and skips the others.

The network is a program, two files that `export.program` writes beside the ONNX file; the work is done by a library in
C, see native/edgeprune_sparse.h. This is its door for Python.
"""

import ctypes
import functools
import json
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from runtimes.errors import UserError
from runtimes.files import read_json, sha256
from runtimes.sparse_cpu import library as libraries
from runtimes.sparse_cpu.receipt import receipt

PRECISIONS = ("fp32",)
"""Of the files that there are programs for."""
KERNELS_VARIABLE = "EDGEPRUNE_SPARSE_CPU_KERNELS"
_ERROR_BYTES = 1024
_PROFILED = 5  # runs of each step, of which the least counts
_SUFFIX = ".program.json"


class SparseEngine:
    """One loaded network; used from one thread at a time."""

    gpu_ns: Optional[List[int]] = None

    def __init__(self, library: ctypes.CDLL, network: int) -> None:
        shape = (ctypes.c_int32 * 3)()
        self._library, self._network = library, network
        library.es_input_floats(network, ctypes.byref(shape))
        self.shape = tuple(shape)
        self.classes = int(library.es_output_floats(network))
        self.described: Mapping[str, Any] = json.loads(library.es_describe(network).decode("utf-8", "replace"))
        self.engine_bytes: Optional[int] = int(self.described["weight_bytes"])
        self.context_bytes: Optional[int] = int(self.described["activation_bytes"])

    @property
    def receipt(self) -> Optional[Mapping[str, Any]]:
        """Which layers skip their zeros and how long each takes, timed when it is asked for."""
        return receipt(self.described, self.profile(_PROFILED))

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W); another shape is a `UserError`."""
        images = np.ascontiguousarray(batch, dtype=np.float32)
        if images.shape[1:] != self.shape:
            raise UserError(
                "sparse_cpu: images of shape {} for a network of {}".format(images.shape[1:], self.shape),
                "give float32 (N, {}, {}, {})".format(*self.shape),
            )
        logits = np.empty((len(images), self.classes), dtype=np.float32)
        if self._library.es_run(self._held(), len(images), images.ctypes.data, logits.ctypes.data):
            raise RuntimeError("es_run refused {} images".format(len(images)))
        return logits

    def profile(self, rounds: int) -> List[int]:
        """Nanoseconds of each step in the order of `described["steps"]`: the least of `rounds` runs of one image."""
        ns = np.zeros(len(self.described["steps"]), dtype=np.int64)
        if self._library.es_profile(self._held(), rounds, ns.ctypes.data, len(ns)) != len(ns):
            raise UserError(
                "sparse_cpu: {} rounds cannot be profiled".format(rounds),
                "ask for 1 or more",
            )
        return [int(each) for each in ns]

    def close(self) -> None:
        """Give back the network's memory and threads; twice does no harm."""
        if self._network:
            self._library.es_free(self._network)
            self._network = 0

    def _held(self) -> int:
        if not self._network:
            raise RuntimeError("the engine was closed")
        return self._network


def load(path: Path, options: Mapping[str, str]) -> SparseEngine:
    """An engine for the program at `path`, or for the one beside the ONNX file at `path`.

    Options: `threads`; `kernels`, the name of the kernels to use instead of this CPU's fastest (environment:
    EDGEPRUNE_SPARSE_CPU_KERNELS); `library`, the file of the library (environment: EDGEPRUNE_SPARSE_CPU_LIBRARY).

    Raises:
        UserError: no program, one that is damaged or made from another ONNX file than the one at `path`, no library
            for this machine, or kernels that it cannot run.
    """
    program = _program(path)
    library = libraries.open_library(libraries.find(options, program))
    kernels = stated(options).get("kernels", "")
    known = _kernels(library)
    if kernels and kernels not in known:
        raise UserError(
            "sparse_cpu: the kernels '{}' do not run here".format(kernels),
            "this CPU and its system run: {}".format(", ".join(known)),
        )
    chosen = libraries.Options(_threads(options.get("threads", "1")), kernels.encode())
    error = ctypes.create_string_buffer(_ERROR_BYTES)
    network = library.es_load(os.fsencode(str(program)), ctypes.byref(chosen), error, _ERROR_BYTES)
    if not network:
        raise UserError(
            "sparse_cpu cannot load {}: {}".format(program.name, error.value.decode("utf-8", "replace")),
            "export the network again, or choose other options",
        )
    return SparseEngine(library, network)


def missing() -> Optional[str]:
    """None where the library for this machine is there and can be loaded; else why not, and what to do.

    An option or the bundle of a network may bring one all the same: `prepare` says.
    """
    try:
        libraries.open_library(libraries.find({}))
    except UserError as error:
        return "{}: {}".format(error.message, error.hint)
    return None


def version() -> str:
    """The library has no releases of its own: the first digits of its file's hash say which build ran."""
    return _version(libraries.find({}))


def prepare(path: Path, options: Mapping[str, str]) -> str:
    """The version of the library that `load` takes for the network at `path`; `UserError` as there."""
    found = libraries.find(options, _program(path))
    libraries.open_library(found)
    return _version(found)


def stated(options: Mapping[str, str]) -> Dict[str, str]:
    """The options, with the kernels that the environment forces where they name none."""
    forced = os.environ.get(KERNELS_VARIABLE)
    return {**({"kernels": forced} if forced else {}), **options}


def kernels() -> List[str]:
    """Names of the kernels that this CPU and its system run, the fastest first; no library is a `UserError`."""
    return _kernels(libraries.open_library(libraries.find({})))


def _version(library: Path) -> str:
    return "build {}".format(sha256(library)[:12])


def _threads(given: str) -> int:
    if not given.isdigit() or not 1 <= int(given) <= libraries.MAX_THREADS:
        raise UserError(
            "sparse_cpu: threads is '{}'".format(given), "give a whole number, 1 to {}".format(libraries.MAX_THREADS)
        )
    return int(given)


def _kernels(library: ctypes.CDLL) -> List[str]:
    names: str = library.es_kernels().decode()
    return names.split()


def _program(path: Path) -> Path:
    """The program's JSON file, for which an ONNX file beside it may stand."""
    if path.name.endswith(_SUFFIX):
        program, hint = path, "export the network again"
    else:
        program = path.with_name(path.stem + _SUFFIX)
        hint = "`edgeprune export RUN` writes it for a CPU, in fp32; where it wrote none, its manifest says why"
    if not program.is_file():
        raise UserError("sparse_cpu: {} has no program {} beside it".format(path.name, program.name), hint)
    if program != path and path.is_file() and not _made_from(program, path, (_stamp(program), _stamp(path))):
        raise UserError(
            "sparse_cpu: the program {} was not made from the {} beside it".format(program.name, path.name),
            "`edgeprune export RUN` writes both again",
        )
    return program


@functools.lru_cache(maxsize=16)
def _made_from(program: Path, source: Path, _stamps: Tuple[Tuple[int, int], ...]) -> bool:
    """Whether the program says so. Found out once for files as they are: what `prepare` hashes, no timed load does."""
    told = read_json(program)
    return isinstance(told, dict) and told.get("source_sha256") == sha256(source)


def _stamp(path: Path) -> Tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def describe(path: Path, options: Mapping[str, str]) -> Dict[str, Any]:
    """What the library says of a program once it is loaded: kernels, bytes, and each step; as `load` for errors."""
    engine = load(path, options)
    try:
        return dict(engine.described)
    finally:
        engine.close()
