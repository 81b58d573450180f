"""5-measure: the bundle, run on a device; the logits that come back are scored here, where the labels are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from devices import open_device
from devices.deploy import measure_on
from edgeprune.bench import Bench
from edgeprune.data.records import Labels
from edgeprune.progress import Tick
from runtimes.errors import UserError
from runtimes.records import Measurement


def measure(bench: Bench, tick: Tick) -> list[Path]:
    """Measure on this machine, with the recipe's workload."""
    return measure_with(bench, "local", {}, tick)


def measure_with(bench: Bench, name: str, overrides: Mapping[str, Any], tick: Tick) -> list[Path]:
    """Measure on the device `name`, write and score `5-measure/<device>/<runtime>-<network>.json`."""
    device = open_device(name)
    results = bench.run["measure"] / name
    paths = measure_on(
        device,
        bench.run["compile"] / "bundle",
        results,
        on_progress=lambda what, done, total: tick(done, total, what),
        **overrides,
    )
    for path in paths:
        score(path, bench.data.test.labels)
    return paths


def score(path: Path, labels: Labels) -> None:
    """Fill `top1` (percent) and `images` of the measurement at `path` from its logits; no answers, no score."""
    measurement = Measurement.read(path)
    if measurement.outputs is None:
        return
    logits = np.load(path.parent / measurement.outputs["file"], allow_pickle=False)
    if len(logits) != len(labels):
        raise UserError(f"{path} answers {len(logits)} images of {len(labels)}", "measure again")
    top1 = 100.0 * float((logits.argmax(axis=1) == labels).mean())
    reasons = {what: why for what, why in measurement.reasons.items() if what != "top1"}
    dataclasses.replace(measurement, top1=top1, images=len(labels), reasons=reasons).write(path)
