"""ONNX Runtime on the CPU. The only file that imports onnxruntime, and only when a function here is called."""

from pathlib import Path
from typing import Any, List, Mapping, Optional

import numpy as np

from runtimes import installing
from runtimes.errors import UserError


class OrtEngine:
    """One session on the CPU; input and output are the first of the graph."""

    engine_bytes: Optional[int] = None  # ONNX Runtime does not say
    context_bytes: Optional[int] = None
    gpu_ns: Optional[List[int]] = None
    receipt: Optional[Mapping[str, Any]] = None

    def __init__(self, session: Any) -> None:
        self._session = session
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W)."""
        logits: np.ndarray = self._session.run(self._outputs, {self._input: batch})[0]
        return logits

    def close(self) -> None:
        """Drop the session."""
        self._session = None


def load(path: Path, options: Mapping[str, str]) -> OrtEngine:
    """A session for the ONNX file at `path`, on `options["threads"]` threads; `precision` is that of the file.

    Raises:
        UserError: the file is missing, damaged, or uses what this ONNX Runtime does not know.
    """
    import onnxruntime

    if hasattr(onnxruntime, "disable_telemetry_events"):
        onnxruntime.disable_telemetry_events()
    try:
        session = onnxruntime.InferenceSession(
            str(path), sess_options=_session_options(options), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions share no base class but this one
        raise UserError(
            "ONNX Runtime {} cannot load {}: {}".format(version(), path.name, _first_line(error)),
            "export the network again; `opset` and `ir_version` must be ones that this ONNX Runtime reads",
        ) from error
    if len(session.get_inputs()) != 1:
        names = ", ".join(entry.name for entry in session.get_inputs())
        raise UserError(
            "{} has the inputs {}".format(path.name, names), "a classifier with one image input is expected"
        )
    return OrtEngine(session)


def missing() -> Optional[str]:
    """None where onnxruntime can be imported; else why not, and the command that installs it."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return "onnxruntime cannot be imported ({}): install it with {}".format(
            _first_line(error), installing.command("onnxruntime")
        )
    return None


def version() -> str:
    """The version of ONNX Runtime."""
    import onnxruntime

    return str(onnxruntime.__version__)


def _session_options(options: Mapping[str, str]) -> Any:
    """Full graph optimisation, sequential, and threads that sleep when there is nothing to do.

    A spinning thread burns the core on which another engine is being timed, and the clock budget of the whole chip.
    Without the last optimisation, that of the layout, for fp16: ONNX Runtime 1.31.1 dies of it on some such files
    (microsoft/onnxruntime#28392 looks like it), and computes fp16 as float32 on a CPU anyway.
    """
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel

    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = int(options.get("threads", "1"))
    chosen.inter_op_num_threads = 1
    chosen.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    half = options.get("precision") == "fp16"
    chosen.graph_optimization_level = levels.ORT_ENABLE_EXTENDED if half else levels.ORT_ENABLE_ALL
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.inter_op.allow_spinning", "0")
    chosen.log_severity_level = 3  # errors
    return chosen


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
