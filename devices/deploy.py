"""A bundle goes to a device, is measured there, and the measurements come back."""

import json
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from devices.protocol import Device, Finished
from runtimes.errors import UserError
from runtimes.records import Measurement

_PROGRESS = re.compile(r"progress (\d+)/(\d+) (.*)")
_FLAGS = {
    "protocol": "--protocol",
    "batch": "--batch",
    "threads": "--threads",
    "rounds": "--rounds",
    "timeout_s": "--timeout",
}
_ON_THE_WAY = "-results-on-the-way"  # not `results`, which is where a person's own measurements go
_REMOVE = "import glob, shutil, sys\nfor folder in glob.glob(sys.argv[1]): shutil.rmtree(folder, ignore_errors=True)"

OnProgress = Callable[[str, int, int], None]


def measure_on(
    device: Device,
    bundle: Path,
    results: Path,
    *,
    runtimes: Sequence[str] = (),
    networks: Sequence[str] = (),
    protocol: str | None = None,
    batch: int | None = None,
    threads: int | None = None,
    rounds: int | None = None,
    timeout_s: float | None = None,
    on_progress: OnProgress | None = None,
) -> list[Path]:
    """Measure the bundle in the folder `bundle` on `device`; what is not given is as the bundle's manifest has it.

    Args:
        results: folder here for `<runtime>-<network>.json` and `logits-<runtime>-<network>.npy`. Files of the same
            name are replaced, others stay.
        runtimes, networks: names; none: the bundle's runtimes, all networks.
        on_progress: called with what was done last, the number of steps done and the number of steps in all.

    Returns:
        The measurements in `results`, with the device's name in them; their logits are not scored yet.

    Raises:
        UserError: with the device's own reason, and the line that reproduces it by hand.
    """
    workload = {"protocol": protocol, "batch": batch, "threads": threads, "rounds": rounds, "timeout_s": timeout_s}
    options = [part for name, value in workload.items() if value is not None for part in (_FLAGS[name], str(value))]
    options += [part for name in runtimes for part in ("--runtime", name)]
    options += [part for name in networks for part in ("--network", name)]
    place = device.push(bundle)
    command = [device.python, "-m", "runtimes", "measure", ".", *options]
    # Each call has a folder of its own: the coordinator of a call that was killed may still write into that one's.
    name = secrets.token_hex(4) + _ON_THE_WAY
    out = str(PurePosixPath(place) / name)
    _remove(device, "*" + _ON_THE_WAY, place)  # of calls that were killed
    try:
        finished = device.run([*command, "--out", out], place, _progress_reader(on_progress))
        if finished.code:
            raise _failed(device, finished, device.by_hand(command, place))
        return _bring_back(device, out, _answer(finished), results)
    finally:
        _remove(device, name, place)


def _remove(device: Device, pattern: str, place: str) -> None:
    """Remove the folders in `place` there whose names fit `pattern`."""
    device.run([device.python, "-c", _REMOVE, pattern], place)


def _progress_reader(on_progress: OnProgress | None) -> Callable[[str], None]:
    def read(line: str) -> None:
        found = _PROGRESS.fullmatch(line)
        if found and on_progress is not None:
            on_progress(found.group(3), int(found.group(1)), int(found.group(2)))

    return read


def _answer(finished: Finished) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return answer


def _failed(device: Device, finished: Finished, by_hand: str) -> UserError:
    """The device's two lines where they are the user's; the end of its traceback where it is our bug."""
    said = [line for line in finished.stderr.splitlines() if line.strip() and not _PROGRESS.fullmatch(line)]
    if finished.code == 2 and len(said) >= 2:
        return UserError(f"{device.name}: {said[-2]}", f"{said[-1]}; by hand: {by_hand}")
    reason = said[-1] if said else "it said nothing"
    return UserError(f"{device.name}: measuring failed with exit code {finished.code}: {reason}", f"by hand: {by_hand}")


def _bring_back(device: Device, out: str, answer: dict[str, Any], results: Path) -> list[Path]:
    """Logits first: a measurement that is there has its outputs beside it."""
    device.pull(out, answer["outputs"], results)
    device.pull(out, answer["measurements"], results)
    paths = [results / name for name in answer["measurements"]]
    for path in paths:
        replace(Measurement.read(path), device=device.name).write(path)
    return paths
