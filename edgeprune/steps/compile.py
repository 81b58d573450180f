"""4-compile: the bundle, one folder with all that a device needs: networks, test images, runtimes, checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeprune.bench import Bench
from edgeprune.data import Split
from edgeprune.data.records import Images
from edgeprune.progress import Tick
from export.bundle import NetworkFile, write_bundle
from runtimes.files import read_json
from runtimes.records import Workload

_DECODED = 512  # test images that are held in memory at once


def compile(bench: Bench, tick: Tick) -> list[Path]:
    """Write `4-compile/bundle`. ONNX Runtime compiles when it loads, so that nothing else is to be done for it here."""
    exported, folder, settings = bench.run["export"], bench.run["compile"] / "bundle", bench.recipe.measure
    networks = {
        name: NetworkFile(exported / network["file"], network["precision"])
        for name, network in read_json(exported / "manifest.json")["networks"].items()
    }
    workload = Workload().changed(protocol=settings.protocol, batch=settings.batch, threads=settings.threads)
    write_bundle(
        folder,
        name=bench.recipe.name,
        networks=networks,
        images=_told(bench.data.test, tick),
        preprocess=bench.data.preprocess.to_json(),
        runtimes=settings.runtimes,
        workload=workload,
    )
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _told(test: Split, tick: Tick) -> Iterator[Images]:
    """The test images in order, a block at a time; the labels stay here."""
    for start in range(0, len(test), _DECODED):
        stop = min(start + _DECODED, len(test))
        tick(stop, len(test), "test images")
        yield test.images(np.arange(start, stop))
