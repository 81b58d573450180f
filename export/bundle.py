"""The folder that travels to a device: networks, images and the code that runs them, each file with its hash.

bundle/  manifest.json  dense.onnx dense.program.json dense.program.npz ...  inputs/0000.npy ...  runtimes/
         libraries/aarch64-linux-gnu/libedgeprune_sparse.so ...
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

import runtimes as runtimes_package
from runtimes import RUNTIMES
from runtimes.bundle import SCHEMA_VERSION, read_bundle
from runtimes.errors import UserError
from runtimes.files import replacing, sha256, write_json
from runtimes.records import Workload
from runtimes.tables import pick

_CHUNK_BYTES = 32 << 20
_HEADER_BYTES = 4096  # more than a .npy file's
_LEFT_OUT = {"__pycache__"}


class NetworkLike(Protocol):
    """Anything with these three: an export's record, or `NetworkFile`."""

    @property
    def path(self) -> Path:
        """The file; its name is its name in the bundle."""

    @property
    def precision(self) -> str:
        """For example fp32."""

    @property
    def beside(self) -> tuple[Path, ...]:
        """What lies beside the file for one runtime or another: the program of sparse_cpu."""


class NetworkFile(NamedTuple):
    """The file of one network, the precision it computes in, and what a runtime reads in place of the file."""

    path: Path
    precision: str = "fp32"
    beside: tuple[Path, ...] = ()


def write_bundle(
    folder: Path,
    *,
    name: str,
    networks: Mapping[str, NetworkLike],
    images: Iterable[np.ndarray],
    preprocess: Mapping[str, Any],
    runtimes: Sequence[str],
    workload: Workload,
    libraries: Mapping[str, Path] | None = None,
) -> str:
    """Write the bundle to `folder`, all or nothing; what stood there before is replaced.

    Equal content gives an equal bundle and id, however the images are split over the arrays.

    Args:
        name: of the recipe.
        networks: network name -> its file, in the order in which they are measured and reported.
        images: arrays of uint8 (N, H, W, C) of one image shape; in the bundle no file is larger than 32 MiB.
        preprocess: `scale`, and `mean` and `std` of each channel.
        runtimes: names to measure on when the device is not told otherwise.
        workload: how to measure, likewise.
        libraries: triple (aarch64-linux-gnu) -> a compiled library for machines of that kind.

    Returns:
        The id: the first six hexadecimal digits of the hash over the files' names and hashes.

    Raises:
        UserError: no network or no image, images of another kind, an unknown runtime, two networks with one file
            name, or no room.
    """
    _check(networks, preprocess, runtimes)
    building = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(building, ignore_errors=True)  # of a run that was killed
    try:
        (building / "inputs").mkdir(parents=True)
        for network in networks.values():
            for path in (network.path, *network.beside):
                _copy(path, building / path.name)
        for triple, path in (libraries or {}).items():
            _copy(path, building / "libraries" / triple / path.name)
        _copy_runtimes(building / "runtimes")
        inputs = {**_write_images(building, images, len(preprocess["mean"])), "preprocess": dict(preprocess)}
        files = {path: sha256(building / path) for path in _listing(building)}
        bundle_id = _identity(files)
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "id": bundle_id,
            "name": name,
            "networks": {key: _entry(network, files) for key, network in networks.items()},
            "inputs": inputs,
            "runtimes": list(runtimes),
            "workload": workload.to_json(),
            "files": files,
        }
        write_json(building / "manifest.json", manifest)
        _put_in_place(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return bundle_id


def brings_our_code(bundle: Path) -> bool:
    """Whether the `runtimes` in the bundle are this edgeprune's; a damaged manifest is a `UserError`."""
    listed = read_bundle(bundle).files
    theirs = {name: digest for name, digest in listed.items() if name.startswith("runtimes/")}
    return theirs == {f"runtimes/{name}": sha256(path) for name, path in _own_code()}


def _check(networks: Mapping[str, NetworkLike], preprocess: Mapping[str, Any], runtimes: Sequence[str]) -> None:
    if not networks:
        raise UserError("a bundle without networks", "export at least one network first")
    for runtime in runtimes:
        pick(RUNTIMES, runtime, "runtime")
    missing = [key for key in ("scale", "mean", "std") if key not in preprocess]
    if missing:
        raise UserError(f"the preprocessing has no {missing[0]}", "give scale, and mean and std of each channel")
    paths = [path for network in networks.values() for path in (network.path, *network.beside)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing", "the step that writes it has not been run")
    if len({path.name for path in paths}) < len(paths):
        raise UserError("two networks of a bundle have the same file name", "give each its own: dense.onnx, model.onnx")


def _copy(source: Path, target: Path) -> None:
    """A copy, not a link: what travels must not change with the run folder, nor the other way round."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)


def _copy_runtimes(target: Path) -> None:
    for name, path in _own_code():
        _copy(path, target / name)


def _own_code() -> Iterator[tuple[str, Path]]:
    """The files of the package that travels: name within it, and where it lies."""
    source = Path(next(iter(runtimes_package.__path__)))
    for path in sorted(source.rglob("*")):
        if path.is_file() and not _LEFT_OUT & set(path.parts):
            yield path.relative_to(source).as_posix(), path


def _write_images(building: Path, images: Iterable[np.ndarray], channels: int) -> dict[str, Any]:
    names, n = [], 0
    for number, chunk in enumerate(_chunks(images, channels)):
        names.append(f"inputs/{number:04d}.npy")
        with replacing(building / names[-1]) as temporary, temporary.open("wb") as file:
            np.save(file, chunk, allow_pickle=False)
        n += len(chunk)
    if not n:
        raise UserError("a bundle without images", "the test split is empty: check the data set")
    return {"files": names, "n": n}


def _chunks(images: Iterable[np.ndarray], channels: int) -> Iterator[np.ndarray]:
    """The same images as arrays of as many rows as fit in a file; the last one has what is left."""
    held: list[np.ndarray] = []
    shape: tuple[int, ...] | None = None
    for array in images:
        shape = shape or array.shape[1:]
        _check_images(array, shape, channels)
        rows = max(1, (_CHUNK_BYTES - _HEADER_BYTES) // int(np.prod(shape)))
        held.append(array)
        while sum(map(len, held)) >= rows:
            joined = np.concatenate(held)
            yield joined[:rows]
            held = [joined[rows:]]
    if sum(map(len, held)):
        yield np.concatenate(held)


def _check_images(array: np.ndarray, shape: tuple[int, ...], channels: int) -> None:
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[3] != channels or 0 in array.shape[1:]:
        raise UserError(
            f"images of {array.dtype} and shape {array.shape} cannot go into a bundle",
            f"they are stored as uint8 (N, H, W, {channels}), one channel for each mean",
        )
    if array.shape[1:] != shape:
        raise UserError(f"images of shape {array.shape[1:]} follow images of {shape}", "resize them to one shape first")


def _listing(building: Path) -> list[str]:
    return sorted(path.relative_to(building).as_posix() for path in building.rglob("*") if path.is_file())


def _identity(files: Mapping[str, str]) -> str:
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:6]


def _entry(network: NetworkLike, files: Mapping[str, str]) -> dict[str, str]:
    file = network.path.name
    return {"file": file, "precision": network.precision, "sha256": files[file]}


def _put_in_place(building: Path, folder: Path) -> None:
    """Two renames: a bundle stands at `folder` but for the moment between them."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    building.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
