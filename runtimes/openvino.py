"""OpenVINO on the CPU. The only file that imports openvino, and only when a function here is called."""

from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from runtimes import installing
from runtimes.errors import UserError
from runtimes.fixed_batch import in_batches


class OpenVinoEngine:
    """One infer request of a network that is compiled for one batch."""

    engine_bytes: Optional[int] = None  # OpenVINO does not say
    context_bytes: Optional[int] = None
    gpu_ns: Optional[List[int]] = None
    receipt: Optional[Mapping[str, Any]] = None

    def __init__(self, compiled: Any, batch: int) -> None:
        self._request = compiled.create_infer_request()
        self._batch = batch

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W)."""
        return in_batches(self._infer, self._batch, batch)

    def close(self) -> None:
        """Drop the request."""
        self._request = None

    def _infer(self, batch: np.ndarray) -> np.ndarray:
        """The images are read where they are; the answer is copied, because the next call writes over it."""
        answer: np.ndarray = self._request.infer([batch], share_inputs=True, share_outputs=True)[0].copy()
        return answer


def load(path: Path, options: Mapping[str, str]) -> OpenVinoEngine:
    """The ONNX file at `path` compiled for the CPU, for `options["batch"]` images on `options["threads"]` threads.

    Raises:
        UserError: the file is missing, damaged, or uses what this OpenVINO does not know.
    """
    import openvino

    batch = int(options.get("batch", "1"))
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        if len(model.inputs) != 1:
            raise UserError(
                "{} has {} inputs".format(path.name, len(model.inputs)), "a classifier with one image input is expected"
            )
        model.reshape([batch] + [side.get_length() for side in list(model.inputs[0].partial_shape)[1:]])
        compiled = core.compile_model(model, "CPU", _properties(options))
    except RuntimeError as error:
        raise UserError(
            "OpenVINO {} cannot load {}: {}".format(version(), path.name, _last_line(error)),
            "export the network again; `opset` has to be one that this OpenVINO reads",
        ) from error
    return OpenVinoEngine(compiled, batch)


def missing() -> Optional[str]:
    """None where openvino can be imported; else why not, and the command that installs it."""
    try:
        import openvino  # noqa: F401
    except ImportError as error:
        return "openvino cannot be imported ({}): install it with {}".format(
            _last_line(error), installing.command("openvino")
        )
    return None


def version() -> str:
    """The version of OpenVINO, without its build number."""
    import openvino

    return str(openvino.__version__).split("-")[0]


def _properties(options: Mapping[str, str]) -> Dict[str, Any]:
    """For the latency of one stream, in true float32: left alone, it computes in bfloat16 where the CPU can.

    Threads are not bound to processors, because it would choose others than the workload's `cpus`. They do not spin;
    nothing is to be switched off.
    """
    return {
        "INFERENCE_NUM_THREADS": int(options.get("threads", "1")),
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "ENABLE_CPU_PINNING": False,
    }


def _last_line(error: BaseException) -> str:
    """Its errors begin with places in its own source and end with what is wrong."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
