"""5-measure: the bundle, run on a device; the logits that come back are scored here, where the labels are."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from devices import open_device
from devices.deploy import measure_on
from devices.protocol import Device
from edgeprune.data.records import Labels
from edgeprune.progress import Tick
from edgeprune.rundir import RunDir
from edgeprune.steps.compile import workload_of
from edgeprune.workbench import Workbench
from runtimes.errors import UserError
from runtimes.files import read_json, sha256
from runtimes.records import Measurement, Workload


def measure(bench: Workbench, tick: Tick) -> list[Path]:
    """Measure on this machine, with the recipe's workload."""
    return measure_with(bench, open_device("local"), bench.run["compile"] / "bundle", {}, tick)


def measure_with(bench: Workbench, device: Device, bundle: Path, asked: Mapping[str, Any], tick: Tick) -> list[Path]:
    """Measure the folder `bundle` on `device`; write and score `5-measure/<device>/<runtime>-<network>.json`.

    Where `asked` departs from the recipe's workload the files' names say so (`ort-sparse-b8-t1-quick.json`): a
    measurement stands beside those under other conditions and replaces one under the same.
    """
    results = bench.run["measure"] / device.name
    arrived = bench.run.path / f".measuring-{device.name}"
    shutil.rmtree(arrived, ignore_errors=True)
    try:
        paths = measure_on(
            device, bundle, arrived, on_progress=lambda what, done, total: tick(done, total, what), **asked
        )
        return [_keep(path, results, bench) for path in paths]
    finally:
        shutil.rmtree(arrived, ignore_errors=True)


def take_over(bench: Workbench, name: str, folder: Path) -> list[Path]:
    """Score and keep what was measured by hand in a copy of a bundle: `folder` is the `results` folder it left there.

    `name` is what the device is called from now on. A folder without measurements, or one with answers to other images,
    is a `UserError`; `folder` itself is not changed.
    """
    arrived = bench.run.path / f".measuring-{name}"
    shutil.rmtree(arrived, ignore_errors=True)
    try:
        paths = [path for path in sorted(folder.glob("*.json")) if not path.name.startswith("trtexec-")]
        measured = [replace(Measurement.read(path), device=name) for path in paths]
        if not measured:
            raise UserError(f"{folder} holds no measurements", "name the `results` folder of a measured bundle")
        arrived.mkdir(parents=True)
        for path, measurement in zip(paths, measured, strict=True):
            measurement.write(arrived / path.name)
            if measurement.outputs is not None:
                _copy_logits(folder, arrived, measurement)
        return [_keep(arrived / path.name, bench.run["measure"] / name, bench) for path in paths]
    finally:
        shutil.rmtree(arrived, ignore_errors=True)


def _copy_logits(folder: Path, arrived: Path, measurement: Measurement) -> None:
    outputs = measurement.outputs or {}
    file = folder / outputs["file"]
    if file.parent != folder or not file.is_file() or sha256(file) != outputs["sha256"]:
        raise UserError(
            f"{file} is missing or not what {measurement.name} answered", "copy the whole folder from the device again"
        )
    shutil.copyfile(file, arrived / outputs["file"])


def _keep(path: Path, results: Path, bench: Workbench) -> Path:
    """Move a measurement and its logits from where they arrived to where they stay, scored."""
    measurement = scored(Measurement.read(path), path.parent, bench.data.test.labels)
    name = path.stem + conditions(
        measurement, workload_of(bench.recipe.measure), _target(bench.run, measurement.bundle)
    )
    results.mkdir(parents=True, exist_ok=True)
    if measurement.outputs is not None:
        file = f"logits-{name}.npy"
        (path.parent / measurement.outputs["file"]).replace(results / file)
        measurement = replace(measurement, outputs={**measurement.outputs, "file": file})
    kept = results / f"{name}.json"
    measurement.write(kept)
    return kept


def conditions(measurement: Measurement, own: Workload, target: str | None) -> str:
    """What a file's name adds where the measurement was not made as the recipe has it: `-b8-t1-quick`, `-15W-locked`.

    Equal for equal conditions only: what has no words of its own adds four digits of its hash.

    Args:
        own: the recipe's workload.
        target: whose files were measured; None: the recipe's.
    """
    told, asked = f"-{target}" if target else "", own.changed(**_common(measurement)).to_json()
    if any(asked[key] != own.to_json()[key] for key in ("batch", "threads", "protocol")):
        told += f"-b{measurement.batch}-t{measurement.threads}-{measurement.protocol}"
    workload = {**asked, **measurement.workload}
    told += f"-cpus{'_'.join(map(str, workload['cpus']))}" if workload["cpus"] else ""
    settings = measurement.settings or {}
    mode = str((settings.get("power_mode") or {}).get("asked") or "")
    plain = re.sub("[^A-Za-z0-9._]", "_", mode)
    told += (f"-{plain}" if mode else "") + ("-locked" if settings.get("clocks") else "")
    rest = {key: value for key, value in workload.items() if key != "cpus" and value != asked.get(key)}
    rest |= {"mode": mode} if plain != mode else {}
    return told + (f"-{_digits(rest)}" if rest else "")


def _common(measurement: Measurement) -> dict[str, Any]:
    return {"protocol": measurement.protocol, "batch": measurement.batch, "threads": measurement.threads}


def _digits(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:4]


def _target(run: RunDir, bundle: str) -> str | None:
    """The target of the bundle of that id; None for the recipe's, and for one that is not there any more."""
    for path in run["compile"].glob("*/bundle/manifest.json"):
        if read_json(path).get("id") == bundle:
            return path.parent.parent.name
    return None


def scored(measurement: Measurement, folder: Path, labels: Labels) -> Measurement:
    """The measurement with `top1` (percent) and `images` from its logits in `folder`; no answers, no score."""
    if measurement.outputs is None:
        return measurement
    logits = _logits(folder / measurement.outputs["file"])
    if len(logits) != len(labels):
        raise UserError(
            f"{measurement.runtime} answered {len(logits)} images of {len(labels)} with {measurement.name}",
            "measure again",
        )
    top1 = 100.0 * float((logits.argmax(axis=1) == labels).mean())
    reasons = {what: why for what, why in measurement.reasons.items() if what != "top1"}
    return replace(measurement, top1=top1, images=len(labels), reasons=reasons)


def _logits(path: Path) -> NDArray[np.float32]:
    """The answers in a file that somebody brought: an array of images x classes and nothing else."""
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{path.name} is no array of answers: {error}", "measure again") from error
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype != np.float32:
        raise UserError(f"{path.name} is no array of float32 answers, images x classes", "measure again")
    return found
