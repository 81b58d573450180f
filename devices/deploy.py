"""A bundle goes to a device, is measured there, and the measurements come back."""

import contextlib
import hashlib
import platform
import re
import secrets
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from devices.answers import plain_names, printable, read_answer, read_measurement
from devices.protocol import Device, Finished
from runtimes.errors import UserError

_PROGRESS = re.compile(r"progress ([0-9]{1,9})/([0-9]{1,9}) (.*)")
_FLAGS = {
    "protocol": "--protocol",
    "batch": "--batch",
    "threads": "--threads",
    "rounds": "--rounds",
    "timeout_s": "--timeout",
}
_STRANGE = "the bundle's own code does not write that: see what runs on the device, and measure again"
_ON_THE_WAY = "-results-on-the-way"  # not `results`, which is where a person's own measurements go
_FORGOTTEN_S = 86400  # what another host's call has left is removed a day later: it may be at work now
_REMOVE = f"""
import glob, os, shutil, sys, time
for folder in glob.glob("*{_ON_THE_WAY}"):
    if folder.startswith(sys.argv[1]) or time.time() - os.lstat(folder).st_mtime > {_FORGOTTEN_S}:
        shutil.rmtree(folder, ignore_errors=True)
"""
_UNKNOWN_WORDS = re.compile(r"python3 -m runtimes.*: error: (.*)")  # as argparse has it, after its usage
_NO_ROOM = "no room "  # as `runtimes.files` begins

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
    options: Sequence[str] = (),
    on_progress: OnProgress | None = None,
    on_command: Callable[[str], None] | None = None,
) -> list[Path]:
    """Measure the bundle in the folder `bundle` on `device`; what is not given is as the bundle's manifest has it.

    Args:
        results: folder here for `<runtime>-<network>.json` and `logits-<runtime>-<network>.npy`. Files of the same
            name are replaced, others stay.
        runtimes, networks: names; none: the bundle's runtimes, all networks.
        options: further words for `runtimes measure`, for example `["--cpus", "0-3"]`.
        on_progress: called with what was done last, the number of steps done and the number of steps in all.
        on_command: called with the line that does the same by hand, once the bundle is there.

    Returns:
        The measurements in `results`, with the device's name in them; their logits are not scored yet.

    Raises:
        UserError: with the device's own reason, and the line that reproduces it by hand; or an answer that is not
            that of a measurement, of which nothing is kept.
    """
    workload = {"protocol": protocol, "batch": batch, "threads": threads, "rounds": rounds, "timeout_s": timeout_s}
    words = [part for name, value in workload.items() if value is not None for part in (_FLAGS[name], str(value))]
    words += [part for name in runtimes for part in ("--runtime", name)]
    words += [part for name in networks for part in ("--network", name)]
    place = device.push(bundle)
    command = [device.python, "-m", "runtimes", "measure", ".", *words, *options]
    by_hand = device.by_hand(command, place)
    if on_command is not None:
        on_command(by_hand)
    # Each call has a folder of its own: the coordinator of a call that was killed may still write into that one's.
    origin = _origin(results)
    name = f"{origin}{secrets.token_hex(4)}{_ON_THE_WAY}"
    out = str(PurePosixPath(place) / name)
    try:
        finished = device.run([*command, "--out", out], place, _progress_reader(on_progress))
        if finished.code:
            raise _failed(device, finished, by_hand)
        return _bring_back(device, out, read_answer(device.name, finished), results)
    finally:
        with contextlib.suppress(UserError):  # the connection is gone: nothing else is lost, a later call removes it
            device.run([device.python, "-c", _REMOVE, origin], place)


def _origin(results: Path) -> str:
    """The same for every call of this host into one folder; of these one is at work, and the others were killed."""
    return hashlib.sha256(f"{platform.node()}:{results.resolve()}".encode()).hexdigest()[:8] + "-"


def _progress_reader(on_progress: OnProgress | None) -> Callable[[str], None]:
    def read(line: str) -> None:
        found = _PROGRESS.fullmatch(line)
        if found and on_progress is not None:
            on_progress(printable(found.group(3)), int(found.group(1)), int(found.group(2)))

    return read


def _failed(device: Device, finished: Finished, by_hand: str) -> UserError:
    """The device's two lines where they are the user's; the end of its traceback where it is our bug."""
    lines = [printable(line) for line in finished.stderr.splitlines() if line.strip()]
    said = [line for line in lines if not _PROGRESS.fullmatch(line)]
    if finished.code == 2 and len(said) >= 2:
        message, hint = _in_our_words(said[-2], said[-1])
        return UserError(f"{device.name}: {message}", f"{hint}; by hand: {by_hand}")
    reason = said[-1] if said else "it said nothing"
    return UserError(f"{device.name}: measuring {_how_it_ended(finished.code)}: {reason}", f"by hand: {by_hand}")


def _in_our_words(message: str, hint: str) -> tuple[str, str]:
    """The device's two lines, or others where it cannot know better."""
    unknown = _UNKNOWN_WORDS.fullmatch(hint)
    if unknown:
        older = "another edgeprune wrote it: write it again with `edgeprune compile` or `edgeprune export`"
        return f"the code in this bundle does not take what was asked for: {unknown[1]}", older
    if message.startswith(_NO_ROOM):
        return message, "free some space on the device and measure again"
    return message, hint


def _how_it_ended(code: int) -> str:
    """A signal is told by a negative code, or as shells do: 128 and its number."""
    try:
        name = signal.Signals(-code if code < 0 else code - 128).name
    except ValueError:
        return f"failed with exit code {code}"
    return f"was ended by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"


def _bring_back(device: Device, out: str, answer: Mapping[str, Any], results: Path) -> list[Path]:
    """All is looked at before any of it gets its name; logits first: a measurement that is there has its outputs."""
    measurements, outputs = _names(device, answer, "measurements", ".json"), _names(device, answer, "outputs", ".npy")
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".arriving-", dir=results) as folder:
        arrived = Path(folder)
        device.pull(out, [*outputs, *measurements], arrived)
        for name in measurements:
            replace(read_measurement(arrived / name, device.name, outputs), device=device.name).write(arrived / name)
        for name in [*outputs, *measurements]:
            (arrived / name).replace(results / name)
    return [results / name for name in measurements]


def _names(device: Device, answer: Mapping[str, Any], key: str, ending: str) -> list[str]:
    listed = answer.get(key)
    names = plain_names(device.name, listed if isinstance(listed, list) else [None])
    if not all(name.endswith(ending) for name in names):
        raise UserError(f"{device.name}: its {key} are not all {ending} files", _STRANGE)
    return names
