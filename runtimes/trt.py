"""TensorRT as a runtime: an ONNX file is compiled once on the device, and the engine answers.

`compile` has run with TensorRT for RTX on a machine without a GPU; `load` has never run on a GPU.
"""

import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from runtimes.cuda import find_gpu, open_cuda
from runtimes.errors import UserError
from runtimes.files import sha256, write_bytes, write_json
from runtimes.trt_adapter import Journal, Library, find_library, one_line
from runtimes.trt_build import Built, build
from runtimes.trt_complaints import warnings
from runtimes.trt_engine import TrtEngine
from runtimes.trt_plan import deserialized
from runtimes.trt_store import (
    available_mb,
    build_log,
    described,
    difference,
    engine_path,
    file_difference,
    log_path,
    read_sidecar,
    sidecar_path,
    this_machine,
    timing_cache_path,
)
from runtimes.trt_wishes import Wishes, read_wishes, wants_graph


def missing() -> Optional[str]:
    """None where TensorRT can be imported and CUDA sees a GPU; else why not, and what to do about it."""
    try:
        find_library()
        open_cuda()
    except UserError as error:
        return one_line("{}: {}".format(error.message, error.hint))
    return None


def version() -> str:
    """The version of TensorRT, "10.3.0", or "1.7.1.116 (TensorRT for RTX)"."""
    library = find_library()
    return library.version if library.name == "tensorrt" else "{} (TensorRT for RTX)".format(library.version)


def compile(path: Path, folder: Path, options: Mapping[str, str], beat: Callable[[], None]) -> Path:
    """The engine of the ONNX file at `path`, a file in `folder`: the one that fits, or a new one.

    Beside the engine stand `<engine>.json`, see `runtimes.trt_store`, and `<engine>.log` with all that TensorRT said.
    Without a GPU, TensorRT for RTX builds for another machine, and `load` refuses that engine here.

    Args:
        options: batch, precision, sparsity ("1", "0"), workspace_mb, build.
        beat: called at most once a second while TensorRT says something.

    Raises:
        UserError: no TensorRT, or it does not take the file.
    """
    library, wishes = find_library(), read_wishes(options)
    if not path.is_file():
        raise UserError("{} is missing".format(path), "export the network again with `edgeprune export`")
    machine = this_machine(find_gpu())
    digest = sha256(path)
    expected = described(library, machine, path, digest, wishes)
    engine = engine_path(folder, path, digest, wishes)
    if _unfit(engine, expected) is not None:
        cache = timing_cache_path(folder, library, machine, wishes.build)
        job = _Job(path, wishes, engine, cache, machine.device is not None, available_mb())
        begin = time.time()
        built, journal = _built(library, job, beat)
        facts = {"started_at": round(begin), "available_mb": job.available_mb, **_how(built, journal)}
        _write(engine, built.plan, {**expected, "build": facts})
        if built.timing_cache:
            write_bytes(cache, built.timing_cache)
    return engine


def load(path: Path, options: Mapping[str, str]) -> TrtEngine:
    """The engine at `path`, which `compile` gave, ready to answer, with its receipt.

    Args:
        options: those that `compile` got, and cuda_graph ("1", "0").

    Raises:
        UserError: it was made elsewhere, by another version, with other options, or is damaged; or there is no GPU.
    """
    sidecar = read_sidecar(path)
    library, cuda = find_library(), open_cuda()
    expected = described(library, this_machine(cuda.gpu()), path, "", read_wishes(options))
    del expected["onnx"]  # only `compile` knows that file
    reason = difference(sidecar, expected) or file_difference(path, sidecar)
    if reason is not None:
        raise UserError(
            "{} was not made for this: {}".format(path.name, reason), "give the ONNX file: it is built here again"
        )
    graph = wants_graph(options)
    return TrtEngine(library, path.read_bytes(), path.name, cuda, Journal(), graph, build_log(sidecar))


class _Job(NamedTuple):
    path: Path  # of the ONNX file
    wishes: Wishes
    target: Path  # the engine
    cache: Path
    with_gpu: bool
    available_mb: Optional[int]


def _unfit(engine: Path, expected: Mapping[str, Any]) -> Optional[str]:
    """Why the engine that is there has to be built again; None where it fits."""
    try:
        sidecar = read_sidecar(engine)
    except UserError as error:
        return error.message
    return difference(sidecar, expected) or file_difference(engine, sidecar)


def _built(library: Library, job: _Job, beat: Callable[[], None]) -> Tuple[Built, Journal]:
    """Build, and read the engine back where there is a GPU.

    The log is written line by line under its own name, so that it is there after a failure and after a crash.
    """
    path = log_path(job.target)
    journal = Journal(_opened(path), beat)
    timings = job.cache.read_bytes() if job.cache.is_file() else b""
    try:
        built = build(library, job.path, job.wishes, journal, timings, not job.with_gpu, job.available_mb)
        if job.with_gpu:
            deserialized(library, built.plan, job.target.name, journal)
    except UserError as error:
        raise UserError(error.message, "{}; all it said is in {}".format(error.hint, path)) from error
    finally:
        journal.end_log()
    return built, journal


def _opened(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(str(path), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        hint = "the engine has to lie there: make the folder writable, or free some space"
        raise UserError("{} cannot be written: {}".format(path, error.strerror), hint) from error


def _how(built: Built, journal: Journal) -> Dict[str, Any]:
    """What the sidecar says of the build: the way taken, its time, and the lines of the log that matter later."""
    doubts = warnings("\n".join(journal.kept))
    return {
        **built.record,
        "seconds": built.seconds,
        "layers": built.layers,
        "log_failure": journal.log_failure,
        "warnings": [{"code": doubt.code, "message": doubt.message} for doubt in doubts],
        "log": journal.kept,
    }


def _write(engine: Path, plan: bytes, sidecar: Dict[str, Any]) -> None:
    """The engine, then what it is: an engine without a sidecar is never used."""
    write_bytes(engine, plan)
    written = {"file": engine.name, "bytes": engine.stat().st_size, "sha256": sha256(engine)}
    if written["bytes"] != len(plan):
        raise RuntimeError("{} has {} bytes on the disk, of {}".format(engine, written["bytes"], len(plan)))
    write_json(sidecar_path(engine), {**sidecar, "engine": written})
