"""The timed loop: the only place where a clock is read around an engine."""

import contextlib
import gc
import time
from typing import Any, Callable, Iterator, List, Sequence

import numpy as np


def time_calls(
    run: Callable[[np.ndarray], Any],
    inputs: Sequence[np.ndarray],
    more: Callable[[int, float], bool],
    start: int = 0,
    settle_s: float = 0.0,
) -> List[int]:
    """Time `run` on one of `inputs` after the other, from number `start` on, as long as `more(samples, seconds)`.

    Only the call lies between the two readings of the clock: the result is kept until after the second, so that
    freeing it is not timed either. The garbage collector stands still. For the first `settle_s` seconds nothing is
    timed: when another process ran in between, the caches and the clock are not the engine's own yet.

    Returns:
        Nanoseconds of each call.
    """
    clock = time.perf_counter_ns
    samples: List[int] = []
    with _no_garbage_collection():
        end = clock() + int(settle_s * 1e9)
        while clock() < end:
            run(inputs[start % len(inputs)])
        begin = clock()
        while more(len(samples), (clock() - begin) / 1e9):
            batch = inputs[(start + len(samples)) % len(inputs)]
            before = clock()
            answer = run(batch)
            after = clock()
            samples.append(after - before)
            del answer
    return samples


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
