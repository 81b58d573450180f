"""How long each layer of an engine takes, by TensorRT's own profiler. Never run on a GPU.

The profiler makes each run slower and waits after it: these times say which layers matter, and are never the latency.
"""

from typing import Any, Callable, Dict, List

import numpy as np

from runtimes.trt_adapter import Library

_WARM_UP, _RUNS = 2, 10


def times_ms(library: Library, context: Any, execute: Callable[[Any], None]) -> Dict[str, float]:
    """Layer -> median GPU time of ten runs, in ms, in the order in which TensorRT tells them.

    A name can be told several times in one run, for example of a layer that was split: those times are added up.

    Args:
        context: its inputs are set; it is not used for anything that is timed afterwards.
        execute: runs a context once and waits.
    """
    profiler = _profiler(library.module)
    context.profiler = profiler
    for _ in range(_WARM_UP + _RUNS):
        profiler.runs.append({})
        execute(context)
    runs = profiler.runs[_WARM_UP:]
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: float(np.median([run[name] for run in runs if name in run])) for name in names}


def _profiler(module: Any) -> Any:
    class Profiler(module.IProfiler):  # type: ignore[misc]
        """Collects the times of each layer, run by run."""

        def __init__(self) -> None:
            module.IProfiler.__init__(self)
            self.runs: List[Dict[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT for each layer of each run."""
            self.runs[-1][layer_name] = self.runs[-1].get(layer_name, 0.0) + float(ms)

    return Profiler()
