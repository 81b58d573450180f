"""The folder that a measurement writes to: found to be writable before anything is timed, and its own meanwhile."""

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from typing import IO, Iterator

from runtimes.errors import UserError
from runtimes.files import told

_LOCK = ".measuring"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # a file system that has none: nobody is kept out
_LEFT_BEHIND = ".logits-*.tmp"  # by a measurement that was killed


@contextlib.contextmanager
def own(folder: Path) -> Iterator[None]:
    """Make `folder` where it is not there, and keep other measurements out of it during the block.

    What a killed measurement left half-written is removed, and a folder that was made and stayed empty too. The lock is
    the system's and ends with this process.

    Raises:
        UserError: it cannot be written, or another measurement is writing to it.
    """
    path, is_new = folder / _LOCK, not folder.exists()
    with told(path):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    with lock:
        for leftover in folder.glob(_LEFT_BEHIND):
            leftover.unlink()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # somebody took the folder away: what could not be written is told
                path.unlink()
            if is_new:
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def _locked(path: Path) -> IO[str]:
    """The file, open and locked. It is taken again where its last owner has just removed it."""
    while True:
        file = open(str(path), "a+", encoding="utf-8")  # noqa: SIM115
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(path, file) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(str(path))):
                file.truncate(0)
                file.write(str(os.getpid()))
                file.flush()
                return file
        file.close()


def _taken(path: Path, file: IO[str]) -> UserError:
    with file:
        file.seek(0)
        owner = file.read() or "not known"
    return UserError(
        "another measurement is writing to {} (pid {})".format(path.parent, owner),
        "wait until it has ended, or choose another --out",
    )
