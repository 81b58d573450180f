"""How long each layer of an engine takes, by TensorRT's own profiler. Never run on a GPU.

The profiler makes each run slower and waits after it: these times say which layers matter, and are never the latency.
"""

from typing import Any, Callable, Dict, List

import numpy as np

from runtimes.trt_adapter import Library

_WARM_UP, _RUNS = 2, 10


def times_ms(library: Library, context: Any, execute: Callable[[], None]) -> Dict[str, float]:
    """Layer -> median GPU time of ten runs, in ms, in the order in which TensorRT tells them.

    Args:
        context: its inputs are set; it is not used for anything that is timed afterwards.
        execute: runs `context` once and waits.
    """
    profiler = _profiler(library.module)
    context.profiler = profiler
    for _ in range(_WARM_UP):
        execute()
    profiler.times.clear()
    for _ in range(_RUNS):
        execute()
    return {name: float(np.median(times)) for name, times in profiler.times.items()}


def _profiler(module: Any) -> Any:
    class Profiler(module.IProfiler):  # type: ignore[misc]
        """Collects the times of each layer."""

        def __init__(self) -> None:
            module.IProfiler.__init__(self)
            self.times: Dict[str, List[float]] = {}

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT for each layer of each run."""
            self.times.setdefault(layer_name, []).append(float(ms))

    return Profiler()
