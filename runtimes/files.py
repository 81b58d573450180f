"""Files that are whole or not there: written under a temporary name, flushed, then renamed."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Iterator

from runtimes.errors import UserError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EEXIST)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; when the block ends well, it becomes `path` in one rename.

    When the block fails, the temporary file goes and whatever stood at `path` before still stands there. A full disk
    is a `UserError`, and so is a folder that may not be written.
    """
    with _full_disk_told(path):
        with _refusal_told(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix="." + path.name + ".", suffix=".tmp", dir=str(path.parent))
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with _refusal_told(path):
                _flush(temporary)
                os.chmod(str(temporary), 0o644)
                os.replace(str(temporary), str(path))
        finally:
            with contextlib.suppress(OSError):  # gone already, or the disk became read-only: what failed is told
                temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, atomically."""
    with replacing(path) as temporary, open(str(temporary), "wb") as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as indented JSON, atomically; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON from `path`; a missing or damaged file is a `UserError`, and so is one that holds NaN or infinity."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except FileNotFoundError:
        raise UserError("{} is missing".format(path), "the step that writes it has not been run") from None
    except (ValueError, RecursionError) as error:
        what = "{} is not JSON: {}".format(path, error)
        raise UserError(what, "delete it and run the step that writes it again") from None


def _no_number(name: str) -> None:
    raise ValueError("{} is no number".format(name))


def sha256(path: Path) -> str:
    """The hexadecimal SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with open(str(path), "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def told(path: Path) -> Iterator[None]:
    """A `UserError` where the system does not let `path` be written in the block, or there is no room for it."""
    with _full_disk_told(path), _refusal_told(path):
        yield


@contextlib.contextmanager
def _full_disk_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise UserError(
            "no room to write {}: {}".format(path, os.strerror(error.errno)),
            "free some space and run the same command again; everything finished so far is kept",
        ) from error


@contextlib.contextmanager
def _refusal_told(path: Path) -> Iterator[None]:
    """Not around the caller's block, which may be refused something else: a file that it reads."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise UserError(
            "{} cannot be written: {}".format(path, os.strerror(error.errno)),
            "choose another --out, or make its folder writable",
        ) from error


def _flush(path: Path) -> None:
    handle = os.open(str(path), os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
