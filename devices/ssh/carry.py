"""Files on their way to a device and back: as a tar file in pieces, of which no end holds more than one in memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from devices.answers import LARGEST_JSON, printable
from devices.ssh.call import Call
from devices.ssh.complaints import megabytes
from devices.ssh.far_files import stays
from devices.ssh.wire import BLOCK, TarSink, TarSource
from runtimes.errors import UserError
from runtimes.files import replacing, sha256

LARGEST_FILE = 1 << 30
_BAD_TAR = (tarfile.TarError, ValueError, OverflowError, RecursionError)  # what its reader raises for odd headers
_HEADERS = 1 << 20  # bytes between two files of a tar file; ours have 512
_LONGEST_PLACE = 4096
_LONGEST_NAME = 100  # of a folder, to which an id of 64 characters is added
_LEFT_OUT = "__pycache__"

Listed = dict[str, list[int | str]]  # path -> [bytes, sha256]


def travelling(folder: Path) -> dict[str, Path]:
    """Path in `folder` -> file, for all that travels: what a measurement left there stays."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", "give the bundle that `edgeprune compile` wrote")
    return _files(folder, lambda path: not stays(path.parts[0]))


def package_files(package: Path) -> dict[str, Path]:
    """The files of a package, in a folder of its name."""
    return {f"{package.name}/{path}": file for path, file in _files(package, lambda path: path.suffix == ".py").items()}


def _files(folder: Path, travels: Callable[[PurePosixPath], bool]) -> dict[str, Path]:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    chosen = {name: PurePosixPath(name) for name in found}
    return {name: found[name] for name, path in chosen.items() if _LEFT_OUT not in path.parts and travels(path)}


def listed(files: Mapping[str, Path]) -> Listed:
    """Size and hash of each file."""
    return {name: [path.stat().st_size, sha256(path)] for name, path in files.items()}


def place_name(folder: Path, wanted: Listed) -> str:
    """What the folder is called there: its name, and the bundle's id or else one made of its content.

    The id of a bundle is that of its content too; a damaged copy of it has the same place, and is put right there.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", folder.resolve().name).lstrip(".")[:_LONGEST_NAME] or "folder"
    return f"{name}-{_bundle_id(folder) or hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:12]}"


def _bundle_id(folder: Path) -> str | None:
    try:
        found = json.loads((folder / "manifest.json").read_bytes())["id"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if isinstance(found, str) and re.fullmatch(r"[0-9a-f]{6,64}", found) else None


def send_files(call: Call, files: Mapping[str, Path], wanted: Listed) -> str:
    """Send what the far side says it lacks; where the files lie there then."""
    answer = call.answer()
    place, missing = answer.get("place"), answer.get("missing")
    if not (isinstance(place, str) and place.startswith("/") and place.isprintable() and len(place) < _LONGEST_PLACE):
        raise call.nonsense("a place that is none")
    if not isinstance(missing, list) or not all(isinstance(name, str) and name in files for name in missing):
        raise call.nonsense("it wants a file that was not offered")
    with contextlib.suppress(BrokenPipeError):  # it said why before it left, or it was cut off: `finish` tells
        if missing:
            _send(call, {name: files[name] for name in missing}, wanted)
    call.finish()
    return place


def _send(call: Call, files: Mapping[str, Path], wanted: Listed) -> None:
    sink: Any = TarSink(call.wire)
    with tarfile.open(mode="w|", fileobj=sink, bufsize=BLOCK) as tar:
        for name, path in files.items():
            member = tarfile.TarInfo(name)
            member.size = int(wanted[name][0])
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != member.size:
                    raise UserError(f"{path} changes while it is sent", "wait until what writes to it has ended")
                tar.addfile(member, file)


class _Allowance:
    """A tar file of somebody else's: it may only be as large as what was asked for."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._source = TarSource(call.receive)
        self.left = _HEADERS

    def read(self, size: int) -> bytes:
        found = self._source.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise self._call.nonsense("a tar file that is longer than its files")
        return found


def receive_files(call: Call, left: list[str], folder: Path) -> None:
    """Write the files `left` into `folder`, and take each from the list when it is whole."""
    allowance = _Allowance(call)
    source: Any = allowance
    try:
        with tarfile.open(mode="r|", fileobj=source, bufsize=tarfile.RECORDSIZE) as tar:
            while left:
                _receive(call, tar, allowance, left[0], folder)
                left.pop(0)
    except _BAD_TAR as error:
        raise call.nonsense(f"no tar file: {error}") from error
    call.finish()


def _receive(call: Call, tar: tarfile.TarFile, allowance: _Allowance, name: str, folder: Path) -> None:
    allowance.left = _HEADERS
    member = tar.next()
    if member is None or member.name != name or member.type not in tarfile.REGULAR_TYPES or member.issparse():
        raise call.nonsense(f"instead of the file {name}, {_described(member)}")
    limit = LARGEST_JSON if name.endswith(".json") else LARGEST_FILE
    if not 0 <= member.size <= limit:
        raise call.too_much(name, limit)
    content = tar.extractfile(member)
    allowance.left += member.size
    with replacing(folder / name) as temporary, temporary.open("wb") as file:
        while content is not None and (block := content.read(BLOCK)):
            file.write(block)


def what_is_held(call: Call) -> dict[str, Any]:
    """How much room bundles take there, as a line of `needs` in a probe."""
    answer = call.answer()
    call.finish()
    place, folders = printable(str(answer.get("place"))), answer.get("folders")
    if not isinstance(folders, int):
        raise call.nonsense("no number of folders")
    held, free = (megabytes(answer.get(key)) for key in ("bytes", "free"))
    found = f"{folders} in {place}: {held}, {free} free on the disk; remove any while nothing is being measured"
    return {"what": "bundles there", "fine": True, "found": found, "needed": False, "fix": None}


def _described(member: tarfile.TarInfo | None) -> str:
    if member is None:
        return "nothing"
    return f"{member.name!r}" if member.isreg() else f"{member.name!r}, which is no regular file"
