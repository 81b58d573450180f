"""What `edgeprune measure` does: one bundle on several devices at once, or what was measured by hand taken over."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devices import open_device
from devices.protocol import Device
from edgeprune.pipeline import run, workbench
from edgeprune.progress import Progress
from edgeprune.rundir import RunDir
from edgeprune.verbs import opened, renew_bundle
from edgeprune.workbench import Workbench
from export.bundle import brings_our_code
from runtimes.errors import UserError

LOCAL = "local"  # this machine, and nothing else


@dataclass(frozen=True)
class Boards:
    """The devices that were named, and how they are reached."""

    names: tuple[str, ...] = (LOCAL,)  # `local`, names of devices.toml, or ssh:// addresses
    ssh_config: Path | None = None
    python: str | None = None  # the interpreter there; None: the device's own entry says

    def open(self) -> list[Device]:
        """All of them, none connected yet; an unknown one, or the same one twice, is a `UserError`."""
        devices = [open_device(name, ssh_config=self.ssh_config, python=self.python) for name in self.names]
        names = [device.name for device in devices]
        if any(device.name == LOCAL != asked for device, asked in zip(devices, self.names, strict=True)):
            raise UserError("a board cannot be called local", "give it a name of its own in devices.toml")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UserError(f"device {twice} is named twice", "name each device once: they are measured at once")
        return devices


def measure_run(
    folder: Path,
    boards: Boards,
    asked: Mapping[str, Any],
    target: str | None,
    progress: Progress,
    tell: Callable[[str], None],
) -> list[Path]:
    """Measure a run on every device, all at once; return the measurements' files; older ones stay beside them.

    Args:
        asked: what departs from the recipe's workload, as `devices.deploy.measure_on` takes it.
        target: whose bundle to measure; None: the recipe's.
        tell: gets, for each device, the line that measures the same there by hand.

    Raises:
        UserError: of each device that failed; what the others measured is kept.
    """
    devices = boards.open()
    rundir, bundle = bundled(folder, target, progress)
    recipe = rundir.recipe()
    with rundir.locked():
        measured, bench = rundir.done("measure"), workbench(recipe, rundir)
        _ = bench.data.test.labels  # read once, before the devices share them
        by_hand: list[str] = []
        try:
            written = on_all(bench, devices, bundle, {**asked, "on_command": by_hand.append}, progress)
        finally:
            if measured:
                rundir.accept("measure")  # or the next run would measure again, over what was asked for here
            rundir.outdate("report")
    for line in by_hand:
        tell(f"by hand: {line}")
    return written


def bundled(folder: Path, target: str | None, progress: Progress) -> tuple[RunDir, Path]:
    """A run that is done up to its bundle, and the bundle for `target`; another edgeprune's is written again."""
    renew_bundle(opened(folder))
    rundir = run(opened(folder).recipe(), folder, progress, until="compile")
    return rundir, bundle_for(rundir, target)


def bundle_for(rundir: RunDir, target: str | None) -> Path:
    """The bundle of the recipe's target, or of another one that was exported; one that was not is a `UserError`."""
    place = rundir["compile"] if target is None else rundir["compile"] / target
    if not (place / "bundle" / "manifest.json").is_file():
        there = sorted(path.parent.parent.name for path in rundir["compile"].glob("*/bundle/manifest.json"))
        others = f"; there are bundles for {', '.join(there)}" if there else ""
        raise UserError(
            f"{rundir.path} has no bundle for {target}{others}",
            f"run `edgeprune export {rundir.path} --target {target}` first",
        )
    if not brings_our_code(place / "bundle"):  # of another target: the recipe's own was renewed
        raise UserError(
            f"{place / 'bundle'} was written by another edgeprune, and measures as that one did",
            f"write it again: edgeprune export {rundir.path} --target {target}",
        )
    return place / "bundle"


def on_all(
    bench: Workbench, devices: Sequence[Device], bundle: Path, asked: Mapping[str, Any], progress: Progress
) -> list[Path]:
    """Each device in a thread of its own. Where this is interrupted, the devices' connections end, and so do they."""
    from edgeprune.steps.measure import measure_with

    def measured(number: int, device: Device) -> list[Path]:
        with progress.step(f"measure on {device.name}", number, len(devices)) as shown:
            return measure_with(bench, device, bundle, asked, shown.tick)

    with ThreadPoolExecutor(len(devices)) as pool:
        at_work = [pool.submit(measured, number, device) for number, device in enumerate(devices, start=1)]
        try:
            wait(at_work)
        finally:
            with contextlib.ExitStack() as ends:  # all of them, also when closing one fails
                for device in devices:
                    ends.callback(device.close)
    return gathered(devices, at_work)


def gathered(devices: Sequence[Device], ended: Sequence[Future[list[Path]]]) -> list[Path]:
    """What was measured. Where devices failed: a bug of ours first, else all of the user's errors as one."""
    errors = [error for error in (future.exception() for future in ended) if error is not None]
    failures = [error for error in errors if isinstance(error, UserError)]
    for error in errors:
        if not isinstance(error, UserError):
            for failure in failures:
                error.add_note(f"beside it: {failure.message}; {failure.hint}")
            raise error
    if not failures:
        return [path for future in ended for path in future.result()]
    fine = len(devices) - len(failures)
    kept = f" ({fine} of {len(devices)} devices were measured, and kept)" if fine else ""
    raise UserError("; ".join(error.message for error in failures) + kept, "; ".join(error.hint for error in failures))


def take_over_results(folder: Path, results: Path, names: Sequence[str], asked: Mapping[str, Any]) -> list[Path]:
    """Keep and score what was measured by hand on one device; return the measurements' files."""
    if asked or len(names) != 1 or names[0] == LOCAL or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", names[0]):
        raise UserError(
            "results are taken over as they were measured, under one name for the device they were measured on",
            "for example: edgeprune measure RUN --results FOLDER --device orin-nano",
        )
    rundir = opened(folder)
    from edgeprune.steps.measure import take_over

    with rundir.locked():
        written = take_over(workbench(rundir.recipe(), rundir), names[0], results)
        rundir.outdate("report")
    return written
