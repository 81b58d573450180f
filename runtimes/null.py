"""The runtime that answers nothing: measured like any other, its latency is what the harness adds to the others'."""

import time
from pathlib import Path
from typing import Any, List, Mapping, Optional, Union

import numpy as np

from runtimes.errors import UserError

_NOTHING = np.empty((0, 0), dtype=np.float32)


class Idle:
    """An engine that returns at once."""

    engine_bytes: Optional[int] = None
    context_bytes: Optional[int] = None
    gpu_ns: Optional[List[int]] = None
    receipt: Optional[Mapping[str, Any]] = None

    def run(self, batch: np.ndarray) -> np.ndarray:
        """An answer without classes."""
        return _NOTHING

    def close(self) -> None:
        """Nothing is held."""


class Busy(Idle):
    """An engine that works for exactly `busy_ns` nanoseconds by its own clock: what is measured above that is ours."""

    def __init__(self, busy_ns: int) -> None:
        self.busy_ns = busy_ns

    def run(self, batch: np.ndarray) -> np.ndarray:
        """An answer without classes, `busy_ns` later."""
        end = time.perf_counter_ns() + self.busy_ns
        while time.perf_counter_ns() < end:
            pass
        return _NOTHING


def load(path: Path, options: Mapping[str, str]) -> Union[Idle, Busy]:
    """An engine that does not look at `path`. Option `busy_us`: microseconds it is busy in each call (default 0)."""
    given = options.get("busy_us", "0")
    if not given.isdigit():
        raise UserError(
            "null: option busy_us is '{}'".format(given), "give whole microseconds, for example busy_us=1000"
        )
    return Busy(int(given) * 1000) if int(given) else Idle()


def missing() -> Optional[str]:
    """Nothing is ever missing."""
    return None


def version() -> str:
    """The version of what it measures: the loop in `runtimes.worker`."""
    return "1"
