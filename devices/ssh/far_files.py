"""Files that arrive at the far side, and files that leave it. The text of this file is sent there, see `far_side`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from devices.ssh.wire import BLOCK, TarSink, TarSource, Wire

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MARGIN = 1 << 20  # bytes for folders and the like


class RefusedError(Exception):
    """What the host is told as the last word: its `error`, and what belongs to it."""

    def __init__(self, error: str, **details: object) -> None:
        super().__init__(error)
        self.answer: dict[str, Any] = {"error": error, **details}


def stays(name: str) -> bool:
    """Whether this entry of a pushed folder belongs to the machine it lies on: it is not carried and not removed.

    Engines are compiled for one machine, and take it minutes.
    """
    return name == "engines" or name.startswith("results") or name.endswith("-results-on-the-way")


def take(wire: Wire, folder: str, name: str, files: Mapping[str, Sequence[object]]) -> None:
    """Make `folder`/`name` hold exactly `files`, of which the host sends what is missing.

    A file that is here already, or in the folder of another bundle, does not travel.

    Args:
        files: path -> [bytes, sha256].
    """
    place = _folder(folder) / name
    if place.is_symlink():
        place.unlink()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone_in(place):
        for path in files:
            _make_way(place, path)
        missing = [path for path in files if not _is_there(place, path, files[path])]
        if missing:
            _check_room(place, missing, files)
        wire.send_json(b"j", {"place": str(place), "missing": missing})
        try:
            if missing:
                _unpack(wire, place, {path: files[path] for path in missing})
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            left = [path for path in missing if not _is(place / path, files[path])]
            raise _no_room(place, left, files, os.strerror(error.errno)) from error
        _remove_others(place, {place / path for path in files})


def _folder(folder: str) -> Path:
    """Where bundles lie; `~` is a user's home."""
    try:
        return Path(folder).expanduser().resolve()
    except RuntimeError:
        raise RefusedError("system", path=folder, why="nobody there has that name") from None


@contextlib.contextmanager
def _alone_in(place: Path) -> Iterator[None]:
    """Wait until no other host fills the folder, nor a call whose connection was lost before it knew.

    Without that they would remove each other's unfinished files. A file system without locks does without.
    """
    handle = os.open(str(place), os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_room(place: Path, missing: Iterable[str], files: Mapping[str, Sequence[object]]) -> None:
    refusal = _no_room(place, missing, files)
    if refusal.answer["needed"] > refusal.answer["free"]:
        raise refusal


def _no_room(place: Path, missing: Iterable[str], files: Mapping[str, Sequence[object]], why: str = "") -> RefusedError:
    """With the bytes that are needed, those that an ordinary user can still write, and what the system said."""
    found = os.statvfs(place)
    needed = _MARGIN + sum(int(str(files[path][0])) for path in missing)
    return RefusedError("room", path=str(place), needed=needed, free=found.f_bavail * found.f_frsize, why=why)


def _make_way(place: Path, path: str) -> None:
    """Make folders for the file, and remove what stands in its way or would lead it out of `place`."""
    parts = path.split("/")
    if not all(parts) or not {".", ".."}.isdisjoint(parts):
        raise RefusedError("name", path=path)
    way = place
    for part in parts[:-1]:
        way = way / part
        if way.is_symlink() or way.is_file():
            way.unlink()
        way.mkdir(exist_ok=True)
    last = way / parts[-1]
    if last.is_dir() and not last.is_symlink():
        shutil.rmtree(str(last))


def _is_there(place: Path, path: str, wanted: Sequence[object]) -> bool:
    """Whether the file is there, or can be had from a neighbour: the folder of another bundle."""
    own = place / path
    if _is(own, wanted):
        return True
    for neighbour in sorted(place.parent.iterdir()):
        if neighbour != place and _is(neighbour / path, wanted):
            _copy(neighbour / path, own)
            return _is(own, wanted)  # it may have been changed in between
    return False


def _is(path: Path, wanted: Sequence[object]) -> bool:
    """Whether a regular file of that size and hash lies there; one that cannot be read is sent again."""
    try:
        found = path.lstat()
        return stat.S_ISREG(found.st_mode) and [found.st_size, _sha256(path)] == list(wanted)
    except OSError:
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _copy(there: Path, own: Path) -> None:
    temporary = _beside(own)
    try:
        try:
            os.link(there, temporary)
        except OSError:  # a file system without links
            shutil.copyfile(str(there), str(temporary))
        temporary.replace(own)
    finally:
        _forget(temporary)


def _beside(path: Path) -> Path:
    return path.with_name(f".arriving.{os.getpid()}.{path.name}")


def _forget(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):  # it has its name already
        path.unlink()


def _unpack(wire: Wire, place: Path, missing: Mapping[str, Sequence[object]]) -> None:
    """Write the files that the host sends; each is hashed before it gets its name."""
    left = dict(missing)
    source: Any = TarSource(wire.receive)
    with tarfile.open(mode="r|", fileobj=source, bufsize=BLOCK) as tar:
        for member in tar:
            wanted = left.pop(member.name, None)
            content = tar.extractfile(member) if member.isreg() else None
            if wanted is None or content is None:
                raise RefusedError("name", path=member.name)
            _write(place, member.name, content, wanted)
    if left:
        raise RefusedError("differs", path=min(left))


def _write(place: Path, name: str, content: IO[bytes], wanted: Sequence[object]) -> None:
    temporary, digest, size = _beside(place / name), hashlib.sha256(), 0
    try:
        with temporary.open("wb") as file:
            for block in iter(lambda: content.read(BLOCK), b""):
                digest.update(block)
                size += file.write(block)
        if [size, digest.hexdigest()] != list(wanted):
            raise RefusedError("differs", path=name)
        temporary.chmod(0o644)
        temporary.replace(place / name)
    finally:
        _forget(temporary)


def _remove_others(place: Path, wanted: Container[Path]) -> None:
    """What is no longer part of the folder goes, with folders that are empty then."""
    for entry in sorted(place.iterdir()):
        if not stays(entry.name):
            _remove_unless(entry, wanted)


def _remove_unless(path: Path, wanted: Container[Path]) -> None:
    """A link is removed, and not what it leads to."""
    if path.is_symlink() or not path.is_dir():
        if path not in wanted:
            path.unlink()
        return
    for entry in sorted(path.iterdir()):
        _remove_unless(entry, wanted)
    if not any(path.iterdir()):
        path.rmdir()


def give(wire: Wire, place: str, names: Sequence[str]) -> None:
    """Send the files `names` of the folder `place` as a tar file, in this order; links are not followed."""
    sink: Any = TarSink(wire)
    with tarfile.open(mode="w|", fileobj=sink, bufsize=BLOCK) as tar:
        for name in names:
            try:
                handle = os.open(Path(place) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            except OSError as error:
                raise RefusedError("missing", path=name, why=os.strerror(error.errno or 0)) from error
            with os.fdopen(handle, "rb") as file:
                found = os.fstat(handle)
                if not stat.S_ISREG(found.st_mode):
                    raise RefusedError("missing", path=name, why="not a regular file")
                member = tarfile.TarInfo(name)
                member.size = found.st_size
                tar.addfile(member, file)


def held(folder: str) -> dict[str, Any]:
    """What lies where the bundles do: folders, bytes (a file of several names counts once), and bytes free.

    Nothing there: no folders, and no bytes free, of which nothing is known then.
    """
    place = _folder(folder)
    if not place.is_dir():
        return {"place": str(place), "folders": 0, "bytes": 0, "free": None}
    sizes: dict[tuple[int, int], int] = {}
    for path, _, names in os.walk(str(place)):
        for name in names:
            with contextlib.suppress(OSError):  # gone in between
                found = os.lstat(os.path.join(path, name))  # noqa: PTH118
                sizes[found.st_dev, found.st_ino] = found.st_blocks * 512
    disk = os.statvfs(str(place))
    folders = sum(entry.is_dir() for entry in place.iterdir())
    return {
        "place": str(place),
        "folders": folders,
        "bytes": sum(sizes.values()),
        "free": disk.f_bavail * disk.f_frsize,
    }
