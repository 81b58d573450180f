"""`edgeprune compare A B --device D`: two networks of any two runs in one bundle, measured in turns on each device.

What it leaves is laid out as a run folder with the networks `a` and `b`, so that it is compared as one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.comparing import named
from edgeprune.data.records import Images
from edgeprune.measuring import Boards, bundled, on_all
from edgeprune.progress import Progress
from edgeprune.rundir import RunDir
from edgeprune.steps.compile import network_file
from edgeprune.steps.programs import SPARSE_CPU
from edgeprune.workbench import Workbench
from export.bundle import NetworkFile, write_bundle
from runtimes.errors import UserError
from runtimes.files import read_json, replacing, write_json
from runtimes.records import Workload
from runtimes.tables import pick

SIDES = ("a", "b")


@dataclass(frozen=True)
class _Side:
    """One network: its file, what the export's manifest tells of it, and the bundle it was to travel in."""

    run: RunDir
    path: Path
    entry: Mapping[str, Any]
    bundle: Path
    manifest: Mapping[str, Any]  # of the bundle

    @property
    def images(self) -> Mapping[str, Any]:
        """What the bundle's test images are: their hashes, and how they are normalised."""
        inputs = self.manifest["inputs"]
        return {**inputs, "files": {name: self.manifest["files"][name] for name in inputs["files"]}}


def measure_together(
    asked: tuple[str, str],
    boards: Boards,
    workload: Mapping[str, Any],
    target: str | None,
    out: Path,
    progress: Progress,
) -> list[Path]:
    """Measure both networks in turns on every device, into the folder `out`, where they are called as in `SIDES`.

    Args:
        asked: each a run folder or `RUN:NETWORK`, without a network the sparse one.
        workload: what departs from the first run's, as `devices.deploy.measure_on` takes it.
        target: whose exported files; None: those of the recipes' own targets.

    Raises:
        UserError: a network that was not exported, two that do not answer the same images, an `out` that is something
            else, or what a device says.
    """
    devices = boards.open()
    a, b = (_side(name, target, progress) for name in asked)
    if a.images != b.images:
        raise UserError(
            f"{asked[0]} and {asked[1]} do not answer the same test images, normalised in the same way",
            "compare networks of one data set; write older bundles again with `edgeprune compile`",
        )
    place = RunDir(out)
    _make_ready(place)
    with place.locked():
        files = _export(place, dict(zip(SIDES, (a, b), strict=True)), asked)
        bundle = place["compile"] / "bundle"
        _write_bundle(bundle, place.path.name, files, a, {**_libraries(b), **_libraries(a)})
        bench = Workbench(a.run.recipe(), place)
        _ = bench.data.test.labels  # read once, before the devices share them
        return on_all(bench, devices, bundle, workload, progress)


def folder_of(asked: tuple[str, str]) -> Path:
    """Where two networks are compared when nobody says: one folder for each pair, whatever their folders are called."""
    sides = [named(side) for side in asked]
    digest = hashlib.sha256("\n".join(f"{run.resolve()}:{network}" for run, network in sides).encode()).hexdigest()[:6]
    return Path("runs") / "-".join(["compare", *(f"{run.resolve().name}.{network}" for run, network in sides), digest])


def _side(asked: str, target: str | None, progress: Progress) -> _Side:
    folder, network = named(asked)
    run, bundle = bundled(folder, target, progress)
    exported = run["export"] if target is None else run["export"] / target
    networks = read_json(exported / "manifest.json")["networks"]
    entry = pick(networks, network, f"network of {exported}")
    return _Side(run, exported / entry["file"], entry, bundle, read_json(bundle / "manifest.json"))


def _make_ready(place: RunDir) -> None:
    """A new folder, or one of an earlier comparison."""
    manifest = place["export"] / "manifest.json"
    ours = manifest.is_file() and "compared" in read_json(manifest)
    if place.path.exists() and any(place.path.iterdir()) and not ours:
        raise UserError(f"{place.path} is there and holds something else", "choose another --out")


def _export(place: RunDir, sides: Mapping[str, _Side], asked: tuple[str, str]) -> dict[str, NetworkFile]:
    """The two files and a manifest that tells of them as an export's does; each network has a role of its own.

    Measurements of another pair go: there `a` and `b` were something else.
    """
    manifest = place["export"] / "manifest.json"
    before = read_json(manifest)["networks"] if manifest.is_file() else {}
    if {name: entry["sha256"] for name, entry in before.items()} != {n: s.entry["sha256"] for n, s in sides.items()}:
        shutil.rmtree(place["measure"], ignore_errors=True)
    shutil.rmtree(place["export"], ignore_errors=True)
    for name, side in sides.items():
        for source in (side.path, *_programs(side)):
            with replacing(place["export"] / _renamed(source, side, name)) as temporary:
                shutil.copyfile(source, temporary)
    networks = {name: _entry(side, name) for name, side in sides.items()}
    write_json(manifest, {"schema_version": 1, "compared": list(asked), "networks": networks})
    return {name: network_file(place["export"], entry) for name, entry in networks.items()}


def _programs(side: _Side) -> list[Path]:
    """The program of sparse_cpu beside the network's file, where it has one."""
    return [side.path.with_name(name) for name in side.entry.get("program", ())]


def _renamed(source: Path, side: _Side, name: str) -> str:
    """`a.program.json` for `model.program.json`: a runtime finds it by the network's own name."""
    return name + source.name.removeprefix(side.path.stem)


def _entry(side: _Side, name: str) -> dict[str, Any]:
    """The entry of the export's manifest under the name that the network has here."""
    programs = [_renamed(source, side, name) for source in _programs(side)]
    entry = {**side.entry, "file": f"{name}.onnx", "network": name}
    return {**entry, "program": programs} if programs else entry


def _libraries(side: _Side) -> dict[str, Path]:
    """The compiled libraries that a bundle lists, by the kind of machine that they are for."""
    listed = (Path(name) for name in side.manifest["files"] if name.startswith("libraries/"))
    return {path.parent.name: side.bundle / path for path in listed}


def _runtimes(like: _Side, files: Mapping[str, NetworkFile]) -> list[str]:
    """Those of one side; sparse_cpu only where both networks have a program for it: one alone compares with nothing."""
    asked: list[str] = like.manifest["runtimes"]
    if all(file.beside for file in files.values()) or asked == [SPARSE_CPU]:
        return asked  # where there is no other, it says itself what it lacks
    return [name for name in asked if name != SPARSE_CPU]


def _write_bundle(
    bundle: Path, name: str, files: Mapping[str, NetworkFile], like: _Side, libraries: Mapping[str, Path]
) -> None:
    """A bundle with both networks, and for the rest like that of one side."""
    bundle.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(
        bundle,
        name=name,
        networks=files,
        images=_images(like),
        preprocess=like.manifest["inputs"]["preprocess"],
        runtimes=_runtimes(like, files),
        workload=Workload.from_json(like.manifest["workload"]),
        libraries=libraries,
    )


def _images(side: _Side) -> Iterator[Images]:
    """The test images as they lie in the bundle, a file at a time."""
    for name in side.manifest["inputs"]["files"]:
        yield np.load(side.bundle / name, mmap_mode="r", allow_pickle=False)
