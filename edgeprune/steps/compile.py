"""4-compile: the bundle, one folder with all that a device needs: networks, test images, runtimes, checksums."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.data import Split
from edgeprune.data.records import Images
from edgeprune.progress import Tick
from edgeprune.recipe import Measure
from edgeprune.steps.export import COMPARED
from edgeprune.steps.programs import SPARSE_CPU
from edgeprune.workbench import Workbench
from export.bundle import NetworkFile, write_bundle
from export.native import TRIPLES, build_library
from export.targets import TARGETS, Target
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.records import Workload
from runtimes.sparse_cpu import library

_DECODED = 512  # test images that are held in memory at once


def compile(bench: Workbench, tick: Tick) -> list[Path]:
    """Write `4-compile/bundle`. What a runtime compiles, it compiles on the device that runs it."""
    networks = exported_networks(bench.run["export"])
    folder = bench.run["compile"] / "bundle"
    target, runtimes = TARGETS[bench.recipe.export.target], bench.recipe.measure.runtimes
    built = libraries(target, networks, needed=SPARSE_CPU in runtimes)
    _write(bench, folder, networks, runtimes, built, tick)
    return sorted(path for path in folder.rglob("*") if path.is_file())


def compile_for(bench: Workbench, target: Target, tick: Tick) -> Path:
    """Write the bundle for a target that is not the recipe's, `4-compile/<target>/bundle`.

    It holds the pair that is compared, dense and sparse, in each precision that was exported, and is measured on the
    target's runtime; on a CPU on sparse_cpu too, where every network in fp32 has a program for it.
    """
    networks = exported_networks(bench.run["export"] / target.name)
    chosen = {name: file for name, file in networks.items() if name.partition("-")[0] in COMPARED}
    folder = bench.run["compile"] / target.name / "bundle"
    chosen = chosen or networks
    built = libraries(target, chosen, needed=False)
    exact = [file for file in chosen.values() if file.precision == "fp32"]
    ours = [SPARSE_CPU] if target.runtime == "ort" and built and all(file.beside for file in exact) else []
    _write(bench, folder, chosen, (target.runtime, *ours), built, tick)
    return folder


def exported_networks(exported: Path) -> dict[str, NetworkFile]:
    """The files that an export's manifest lists, by the network's name."""
    return {
        name: network_file(exported, network)
        for name, network in read_json(exported / "manifest.json")["networks"].items()
    }


def network_file(exported: Path, entry: Mapping[str, Any]) -> NetworkFile:
    """What an entry of an export's manifest says lies in the folder `exported`."""
    beside = tuple(exported / name for name in entry.get("program", ()))
    return NetworkFile(exported / entry["file"], entry["precision"], beside)


def libraries(target: Target, networks: Mapping[str, NetworkFile], *, needed: bool) -> dict[str, Path]:
    """The library of sparse_cpu for each machine that the target may be, where a network has a program for it.

    This machine has one too: bundles are measured here, whatever their target. Where they cannot be built there are
    none, with a warning; that is a `UserError` only where they are `needed`.
    """
    if not any(network.beside for network in networks.values()):
        return {}
    here = library.triple()
    triples = [
        name
        for name, each in TRIPLES.items()
        if name == here or (name in library.BUNDLED and target.architecture in (each.architecture, "any"))
    ]
    try:
        return {name: build_library(name) for name in triples}
    except UserError as error:
        if needed:
            raise
        print(f"warning: the bundle has no library of sparse_cpu: {error.message}; {error.hint}", file=sys.stderr)
        return {}


def _write(
    bench: Workbench,
    folder: Path,
    networks: Mapping[str, NetworkFile],
    runtimes: Sequence[str],
    built: Mapping[str, Path],
    tick: Tick,
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_bundle(
        folder,
        name=bench.recipe.name,
        networks=networks,
        images=_told(bench.data.test, tick),
        preprocess=bench.data.preprocess.to_json(),
        runtimes=runtimes,
        workload=workload_of(bench.recipe.measure),
        libraries=built,
    )


def workload_of(settings: Measure) -> Workload:
    """How a recipe has its networks measured."""
    return Workload().changed(protocol=settings.protocol, batch=settings.batch, threads=settings.threads)


def _told(test: Split, tick: Tick) -> Iterator[Images]:
    """The test images in order, a block at a time; the labels stay here."""
    for start in range(0, len(test), _DECODED):
        stop = min(start + _DECODED, len(test))
        tick(stop, len(test), "test images")
        yield test.images(np.arange(start, stop))
