"""Where engines lie, and what is written beside each: from what, by what and on what machine it was made.

An engine is a program for one TensorRT on one GPU. One from elsewhere loads badly, or loads and runs something else, so
the sidecar `<engine>.json` is held against the machine first and the reason for a refusal is told.
"""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

from runtimes import sampler
from runtimes.board.power_modes import noted_mode
from runtimes.cuda import Gpu
from runtimes.errors import UserError
from runtimes.files import read_json, sha256
from runtimes.readings import ROOT, read
from runtimes.trt_adapter import Library
from runtimes.trt_wishes import Wishes

SCHEMA_VERSION = 1
KIND = "edgeprune.engine"
_COMPARED = (  # where it stands in the sidecar, and what to call it
    (("library", "name"), "library"),
    (("library", "version"), "version of the library"),
    (("machine", "device"), "device"),
    (("machine", "compute_capability"), "compute capability"),
    (("machine", "multiprocessors"), "number of multiprocessors"),
    (("machine", "board"), "board"),
    (("options",), "options"),
)


class Machine(NamedTuple):
    """What an engine is made on; the fields of the GPU are None where there is none."""

    device: Optional[str]
    compute_capability: Optional[str]
    multiprocessors: Optional[int]
    board: str  # "aarch64, NVIDIA Jetson Orin Nano Developer Kit", or just the architecture
    driver: Optional[str]
    runtime: Optional[str]
    power_mode: Optional[str]

    def to_json(self) -> Dict[str, Any]:
        """All fields."""
        return dict(self._asdict())


def this_machine(gpu: Optional[Gpu], root: Path = ROOT) -> Machine:
    """The machine whose files start at `root`, with `gpu`."""
    model = read("proc/device-tree/model", root=root).value
    board = ", ".join(filter(None, (platform.machine(), model.strip() if model else None)))
    return Machine(
        device=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        multiprocessors=gpu.multiprocessors if gpu else None,
        board=board,
        driver=gpu.driver if gpu else None,
        runtime=gpu.runtime if gpu else None,
        power_mode=power_mode(root),
    )


def power_mode(root: Path = ROOT) -> Optional[str]:
    """The mode of a Jetson: "25W (1)", or "mode 1" where the name is not known; None elsewhere."""
    mode = noted_mode(root)
    if mode is None:
        return None
    return "{} ({})".format(mode.name, mode.id) if mode.name else "mode {}".format(mode.id)


def engine_path(folder: Path, onnx: Path, onnx_sha256: str, wishes: Wishes) -> Path:
    """The engine of this file with these wishes: a dense twin, or another batch, gets a file of its own."""
    return folder / "{}-{}.engine".format(onnx.stem, _digest([onnx_sha256, wishes.to_json()]))


def timing_cache_path(folder: Path, library: Library, machine: Machine, build: int = 0) -> Path:
    """Timings hold for one TensorRT on one device in one power mode: each has a cache of its own.

    So has each numbered build: engines that took their kernels from one another's timings would be one engine.
    """
    key = [library.name, library.version, machine.device, machine.multiprocessors, machine.board, machine.power_mode]
    key += [build] if build else []
    return folder / "timing-{}.cache".format(_digest(key))


def sidecar_path(engine: Path) -> Path:
    """What the engine is."""
    return engine.with_name(engine.name + ".json")


def log_path(engine: Path) -> Path:
    """All that TensorRT said while it built the engine."""
    return engine.with_name(engine.name + ".log")


def described(library: Library, machine: Machine, onnx: Path, onnx_sha256: str, wishes: Wishes) -> Dict[str, Any]:
    """The part of the sidecar that is known before the engine is built."""
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "library": {"name": library.name, "version": library.version},
        "machine": machine.to_json(),
        "onnx": {"file": onnx.name, "sha256": onnx_sha256},
        "options": wishes.to_json(),
    }


def difference(sidecar: Mapping[str, Any], expected: Mapping[str, Any]) -> Optional[str]:
    """The first thing in which an engine is not the one that is wanted, in words; None where there is none.

    A power mode or a driver that changed does not make an engine wrong. A part that `expected` leaves out is not
    compared.
    """
    for place, name in ((("schema_version",), "schema"), *_COMPARED, (("onnx", "sha256"), "ONNX file (SHA-256)")):
        if place[0] not in expected:
            continue
        there, here = _at(sidecar, place), _at(expected, place)
        if there != here:
            there, here = _where_they_differ(there, here)
            return "its {} is {}, here it is {}".format(name, _shown(there), _shown(here))
    return None


def read_sidecar(engine: Path) -> Dict[str, Any]:
    """The sidecar of `engine`; a missing or foreign one is a `UserError`."""
    path = sidecar_path(engine)
    if not path.is_file():
        raise UserError(
            "{} has no {} beside it: nobody knows on what machine it was made".format(engine.name, path.name),
            "give the ONNX file: the engine is built from it here",
        )
    content = read_json(path)
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise UserError("{} does not describe an engine".format(path), "delete it and the engine, and build it again")
    return content


def build_log(sidecar: Mapping[str, Any]) -> List[str]:
    """The lines of the build's log that the sidecar keeps."""
    lines = _at(sidecar, ("build", "log"))
    return [str(line) for line in lines] if isinstance(lines, list) else []


def file_difference(engine: Path, sidecar: Mapping[str, Any]) -> Optional[str]:
    """How the engine's file is not the one that was written; None where it is."""
    if not engine.is_file():
        return "its file is missing"
    size, wanted = engine.stat().st_size, _at(sidecar, ("engine", "bytes"))
    if size != wanted:
        return "its file has {} bytes, and {} were written".format(size, wanted)
    if sha256(engine) != _at(sidecar, ("engine", "sha256")):
        return "the SHA-256 of its file is another than that of what was written"
    return None


def available_mb(root: Path = ROOT) -> Optional[int]:
    """MiB of memory that programs can still have: with little, TensorRT leaves kernels out without a word."""
    available = sampler.memory(root).get("MemAvailable")
    return None if available is None else available >> 20


def _at(content: Any, place: Any) -> Any:
    for key in place:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def _where_they_differ(one: Any, other: Any) -> Tuple[Any, Any]:
    """Of two tables, the entries that are not the same in both."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return one, other
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    return {key: one.get(key) for key in keys}, {key: other.get(key) for key in keys}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join("{} {}".format(key, entry) for key, entry in value.items())
    return "not known" if value is None else str(value)


def _digest(content: List[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("utf-8")).hexdigest()[:12]
