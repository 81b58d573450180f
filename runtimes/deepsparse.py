"""DeepSparse on the CPU. The only file that imports deepsparse, and only when a function here is called.

It reached its end of life in 2025: its last release, 1.8, runs on x86-64 with AVX2 or more under Python 3.8 to 3.11 and
reads opset 13. So it is measured from an environment of its own, as a peer to compare with.
"""

import os
import sys
from pathlib import Path
from typing import Any, List, Mapping, Optional

import numpy as np

from runtimes import installing
from runtimes.errors import UserError
from runtimes.fixed_batch import in_batches

_ENVIRONMENT = {
    "NM_DISABLE_ANALYTICS": "1",  # it would call home
    "NM_BIND_THREADS_TO_CORES": "0",  # it would choose others than the workload's processors
}


class DeepSparseEngine:
    """A network that is compiled for one batch."""

    engine_bytes: Optional[int] = None  # DeepSparse does not say
    context_bytes: Optional[int] = None
    gpu_ns: Optional[List[int]] = None
    receipt: Optional[Mapping[str, Any]] = None

    def __init__(self, engine: Any, batch: int) -> None:
        self._engine = engine
        self._batch = batch

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W)."""
        return in_batches(self._infer, self._batch, batch)

    def close(self) -> None:
        """Drop the engine."""
        self._engine = None

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        answer: np.ndarray = self._engine.run([batch], val_inp=False)[0]
        return answer


def load(path: Path, options: Mapping[str, str]) -> DeepSparseEngine:
    """The ONNX file at `path` compiled for `options["batch"]` images on `options["threads"]` cores.

    Raises:
        UserError: the file is missing, damaged, or uses what DeepSparse does not know.
    """
    _set_environment()
    import deepsparse

    batch, cores = int(options.get("batch", "1")), int(options.get("threads", "1"))
    try:
        engine = deepsparse.compile_model(str(path), batch_size=batch, num_cores=cores)
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            "DeepSparse {} cannot load {}: {}".format(version(), path.name, _first_line(error)),
            "export the network again with opset 13, and ask for no more threads than there are cores",
        ) from error
    return DeepSparseEngine(engine, batch)


def missing() -> Optional[str]:
    """None where deepsparse can be imported; else why not, and the command that installs it."""
    _set_environment()
    try:
        import deepsparse  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:  # the last two: it is there, and this CPU is too old for it
        if sys.version_info >= (3, 12):
            return "deepsparse has no release for Python {}.{}: install deepsparse==1.8.0 with a Python 3.11".format(
                *sys.version_info[:2]
            )
        return "deepsparse cannot be imported ({}): install it with {}".format(
            _first_line(error), installing.command("deepsparse==1.8.0")
        )
    return None


def version() -> str:
    """The version of DeepSparse."""
    import deepsparse

    return str(deepsparse.__version__)


def _set_environment() -> None:
    """It reads its settings from the environment when it is imported; what somebody set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
