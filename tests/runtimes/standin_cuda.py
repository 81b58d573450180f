"""The stand-in libcudart, compiled where there is a C compiler, and what the tests may do with it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.cuda import Cuda

SOURCE = Path(__file__).with_name("standin_cudart.c")
KINDS = ("device", "host", "stream", "event", "graph", "exec")
_ROOM = 1 << 30
Work = ctypes.CFUNCTYPE(None)


class StandIn:
    """One compiled stand-in: `cuda` is ours on top of it, the rest is the tests' side."""

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("no C compiler: the stand-in libcudart cannot be made")
        self.path = folder / "libcudart.so.12"
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(self.path), str(SOURCE)]
        subprocess.run(command, check=True)
        self._library = ctypes.CDLL(str(self.path))
        self._library.standin_enqueue.argtypes = [ctypes.c_void_p, Work]
        self._library.standin_set.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_size_t, ctypes.c_int]
        self._work: list[object] = []  # ctypes does not keep what C only points to
        self.cuda = Cuda(str(self.path))

    def held(self, kind: str | None = None) -> int:
        """How many things of a kind (of all) are held."""
        return int(self._library.standin_held(-1 if kind is None else KINDS.index(kind)))

    def set(self, devices: int = 1, refuse_capture: bool = False, room: int = _ROOM, count_code: int = 0) -> None:
        """How many devices there are, whether work can be captured, the largest allocation in bytes, and an error."""
        self._library.standin_set(devices, refuse_capture, room, count_code)

    def capturing(self) -> bool:
        """Whether work is recorded for a graph, and not done."""
        return bool(self._library.standin_capturing())

    @property
    def flags(self) -> int:
        """Those of the device."""
        return int(self._library.standin_flags())

    def enqueue(self, stream: int, work: Callable[[], None]) -> bool:
        """Put a piece of work into `stream`, or record it where that is captured; False where it is refused."""
        self._work.append(Work(work))
        return self._library.standin_enqueue(stream, self._work[-1]) == 0
