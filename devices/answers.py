"""What comes from a device is somebody else's text: it is read with limits, and never obeyed."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from devices.protocol import Finished
from runtimes.arrival import clean
from runtimes.errors import UserError
from runtimes.files import sha256
from runtimes.printable import printable as as_printable
from runtimes.records import Measurement, Workload

LARGEST_ANSWER = 1 << 20  # bytes of the last line of a command's output
LARGEST_JSON = 256 << 20  # bytes of a measurement: a million latencies have about 10 MiB
_LONGEST_LINE = 1000
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")
_NEED = {"what": str, "found": str, "fine": bool, "needed": bool}


def printable(text: str) -> str:
    """A line without what a terminal would obey, and not endless."""
    return as_printable(text, _LONGEST_LINE)


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
        found = clean(json.loads(line)) if len(line) <= LARGEST_ANSWER else None
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
    needs = found.get("needs")
    shaped = isinstance(needs, list) and all(map(_is_need, needs))
    if not (shaped and isinstance(found.get("facts"), dict) and isinstance(found.get("runtimes"), dict)):
        raise UserError(f"{device} answered what is no probe", "see what its interpreter is: --python PATH")
    return found


def _is_need(need: object) -> bool:
    return isinstance(need, dict) and all(isinstance(need.get(key), kind) for key, kind in _NEED.items())


def read_measurement(path: Path, device: str, outputs: Sequence[str]) -> Measurement:
    """A measurement that came from `device` together with the files `outputs`; a `UserError` where it is none.

    What names files later on is what a measurement of ours says: its own name, a protocol, a workload, its own logits.
    """
    where = f"{device}: {path.name}"
    if path.stat().st_size > LARGEST_JSON:
        raise UserError(f"{where} has more than {LARGEST_JSON >> 20} MiB", "measure again")
    try:
        content = json.loads(path.read_bytes())
        measurement = Measurement.from_json(content, where)
        workload = Workload.from_json(measurement.workload)
    except (ValueError, RecursionError) as error:  # JSON of another kind, or nested without end
        raise UserError(f"{where} did not arrive as a measurement: {printable(str(error))}", "measure again") from None
    except UserError as error:
        prefix = "" if error.message.startswith(where) else f"{where}: "
        raise UserError(f"{prefix}{printable(error.message)}", "measure again") from None
    told = (measurement.runtime, measurement.name, measurement.protocol)
    if path.name != f"{told[0]}-{told[1]}.json" or told[2] != workload.protocol:
        raise UserError(f"{where} is a measurement of something else", "measure again")
    if measurement.outputs is not None:
        _check_logits(device, path, measurement.outputs, outputs)
    return measurement


def _check_logits(device: str, path: Path, told: Mapping[str, Any], outputs: Sequence[str]) -> None:
    """They came along, are what was computed, and are a plain array: nothing is unpickled, here or later."""
    file = told["file"]
    if file not in outputs:
        raise UserError(f"{device}: {path.name} names logits that did not come with it", "measure again")
    if sha256(path.with_name(file)) != told["sha256"]:
        raise UserError(f"{device}: {file} is not what was computed: its SHA-256 differs", "measure again")
    try:
        logits = np.lib.format.open_memmap(path.with_name(file), mode="r")
        found = f"{logits.dtype} {logits.shape}"
    except Exception as error:  # its header is read as literals of Python, which can go wrong in many ways
        found = printable(str(error))
    wanted = f"float32 {(told['n'], told['classes'])}"
    if found != wanted:
        raise UserError(f"{device}: {file} holds no logits: {found}, and not {wanted}", "measure again")
