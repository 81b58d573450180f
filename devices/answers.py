"""What comes from a device is somebody else's text: it is read with limits, and never obeyed."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devices.protocol import Finished
from runtimes.errors import UserError
from runtimes.records import Measurement

LARGEST_ANSWER = 1 << 20  # bytes of the last line of a command's output
LARGEST_JSON = 256 << 20  # bytes of a measurement: a million latencies have about 10 MiB
_NOT_PRINTABLE = re.compile(r"[^\t\x20-\x7e\u00a0-\u2027\u202f-\u2065\u2070-\ud7ff\uf900-\ufefe\uff00-\uffef]")
_LONGEST_LINE = 1000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")


def printable(text: str) -> str:
    """A line without what a terminal would obey, and not endless."""
    return _NOT_PRINTABLE.sub("?", text)[:_LONGEST_LINE]


def plain_names(device: str, names: Sequence[object]) -> list[str]:
    """The names, each of a file in one folder; a `UserError` for one that could lead elsewhere, or is there twice."""
    found = [name for name in names if isinstance(name, str) and _PLAIN_NAME.fullmatch(name)]
    if len(found) != len(names) or len(set(found)) != len(found):
        odd = next((name for name in names if name not in found), "a name that is there twice")
        raise UserError(
            f"{device}: not the plain name of a file: {printable(str(odd))[:80]!r}",
            "the bundle's own code writes no such name: see what runs on the device",
        )
    return found


def read_answer(device: str, finished: Finished) -> dict[str, Any]:
    """The JSON object on the last line of standard output; a `UserError` where there is none."""
    line = finished.stdout.rstrip().rpartition("\n")[2]
    try:
        found = json.loads(line) if len(line) <= LARGEST_ANSWER else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(
            f"{device}: the last line of its answer is no JSON object of at most {LARGEST_ANSWER >> 20} MiB",
            "something else than the bundle's code wrote it: see what the interpreter there prints when it starts",
        )
    return found


def read_probe(device: str, finished: Finished) -> dict[str, Any]:
    """What `runtimes probe` answered; a `UserError` where it failed, or is no such answer."""
    if finished.code:
        said = [printable(line) for line in finished.stderr.splitlines() if line.strip()]
        raise UserError(f"{device} cannot be probed", said[-1] if said else "it gave no reason")
    found = read_answer(device, finished)
    if not isinstance(found.get("facts"), dict) or not isinstance(found.get("runtimes"), dict):
        raise UserError(f"{device} answered what is no probe", "see what its interpreter is: --python PATH")
    return found


def read_measurement(path: Path, device: str) -> Measurement:
    """A measurement that came from `device`; a `UserError` where it is none."""
    if path.stat().st_size > LARGEST_JSON:
        raise UserError(f"{device}: {path.name} has more than {LARGEST_JSON >> 20} MiB", "measure again")
    try:
        return Measurement.read(path)
    except RecursionError:
        raise UserError(f"{device}: {path.name} is no measurement: it is nested without end", "measure again") from None
