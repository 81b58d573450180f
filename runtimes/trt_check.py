"""Does TensorRT take this file? Parsed and built by whatever TensorRT is here, and nothing is kept.

TensorRT is C++ that reads a file which may be damaged, so it runs in a process of its own: `python -m
runtimes.trt_check`, started by `check` and by nobody else. Run with TensorRT for RTX on machines without a GPU only.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from runtimes.cuda import find_gpu
from runtimes.errors import UserError
from runtimes.lifetime import END_WITH, end_with_named_parent
from runtimes.trt_adapter import Journal, Library, find_library, one_line
from runtimes.trt_build import WITHOUT_GPU, build
from runtimes.trt_wishes import Wishes

_CHIPS = {"SM86": "8.6"}


class Checked(NamedTuple):
    """A file that was parsed and built."""

    library: str  # "TensorRT for RTX"
    version: str  # "1.7.1.116"
    engine_bytes: int
    seconds: float  # parsing and building
    layers: int  # of the network, before any are fused
    compute_capability: str  # that it was built for
    precision: str  # of the engine: fp32, fp16, int8
    note: Optional[str]  # what this does not show; None where it was built for the GPU that is here


def check(path: Path, batch: Optional[int] = None, sparsity: bool = True, timeout_s: float = 1800.0) -> Checked:
    """Parse and build the ONNX file at `path`, in a process of its own that ends with this one.

    Nothing is left on the disk.

    Args:
        batch: images in one inference; None: as the file has it, one where it is free.
        sparsity: whether sparse kernels are allowed.
        timeout_s: a build that takes longer is ended.

    Raises:
        UserError: no TensorRT is installed; it refuses the file, with the layer and its words; or it crashed.
    """
    job = json.dumps({"path": str(path.resolve()), "batch": batch, "sparsity": sparsity})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "runtimes.trt_check", job],
            cwd=str(Path(__file__).resolve().parent.parent),
            env={**os.environ, END_WITH: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UserError(
            "TensorRT has not built {} in {:g} s".format(path.name, timeout_s), "check it on a machine that is free"
        ) from None
    reply = _reply(done.stdout)
    if reply is None:  # a library that crashes on its way out has built the file all the same
        raise _crashed(path, done.returncode, done.stderr.decode("utf-8", "replace"))
    if "error" in reply:
        raise UserError(*reply["error"])
    return Checked(**reply["ok"])


def _reply(output: bytes) -> Optional[Dict[str, Any]]:
    """The last line, which is ours; what a library prints comes before."""
    lines = output.decode("utf-8", "replace").splitlines()
    try:
        reply = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return reply if isinstance(reply, dict) and reply.keys() & {"ok", "error"} else None


def _crashed(path: Path, code: int, words: str) -> UserError:
    how = "was killed by {}".format(signal.Signals(-code).name) if code < 0 else "ended with exit code {}".format(code)
    last = [line.strip() for line in words.splitlines() if line.strip()][-2:]
    return UserError(
        "TensorRT's process {} while it built {}".format(how, path.name),
        "its last words: {}".format(one_line(" | ".join(last))) if last else "it said nothing; the file may be damaged",
    )


def _checked(path: Path, wishes: Wishes) -> Checked:
    gpu = find_gpu()
    library = _library(gpu is not None)
    built = build(library, path, wishes, Journal(), without_gpu=gpu is None)
    note = None
    if gpu is None:
        note = "no GPU here: built for {}, the nearest to the Jetson Orin's SM87 that there is".format(WITHOUT_GPU)
    return Checked(
        library=library.title[: -len(library.version)].strip(),
        version=library.version,
        engine_bytes=len(built.plan),
        seconds=built.seconds,
        layers=built.layers,
        compute_capability=_CHIPS[WITHOUT_GPU] if gpu is None else gpu.compute_capability,
        precision=str(built.record["precision"]),
        note=note,
    )


def _library(with_gpu: bool) -> Library:
    """Without a GPU, the one that can do without."""
    return find_library() if with_gpu else find_library("tensorrt_rtx", "tensorrt")


def _main(arguments: List[str]) -> int:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is not an answer
    job = json.loads(arguments[0])
    try:
        wishes = Wishes(batch=job["batch"], sparsity=job["sparsity"])
        reply: Dict[str, Any] = {"ok": dict(_checked(Path(job["path"]), wishes)._asdict())}
    except UserError as error:
        reply = {"error": [error.message, error.hint]}
    answers.write(json.dumps(reply) + "\n")
    answers.close()
    return 0


if __name__ == "__main__":
    end_with_named_parent()
    raise SystemExit(_main(sys.argv[1:]))
