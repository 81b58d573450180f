"""What a benchmark was set to, as its document tells it: nothing in it is only this machine's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.benching.asked import Asked
from edgeprune.benching.subjects import IR_VERSION, OPSET, Subject
from runtimes.files import sha256
from runtimes.sparse_cpu import stated

OF_RUNTIME: dict[str, dict[str, Any]] = {
    "ort": {"graph_optimisation": "all", "execution": "sequential", "spinning": False},
    "openvino": {
        "performance_hint": "latency",
        "precision_hint": "f32",
        "execution_hint": "accuracy",
        "streams": 1,
        "pinning": False,
        "batch": "fixed",
    },
    "deepsparse": {"batch": "fixed"},
}
"""What `runtimes/<name>.py` sets beside threads and batch. Nothing else is claimed of a runtime."""
_LEFT_TO_ENVIRONMENT = {"deepsparse": {"NM_BIND_THREADS_TO_CORES": "0"}}  # variable -> what it is where nobody set it

_FOLDERS = re.compile(r"(?<![\w.:/])/(?:[^\s/:;,'\"()]+/)+")


def settings(asked: Asked, found: Sequence[Subject], runtimes: Sequence[str]) -> dict[str, Any]:
    """The settings of one benchmark.

    `kernels` are those that ours was forced to use, if any; `source` is the file where a person's own was measured.
    """
    source = {"file": found[0].path.name, "sha256": sha256(found[0].path)} if asked.is_file else None
    return {
        "network": Path(asked.network).name if asked.is_file else asked.network,
        "source": source,
        "pattern": None if source else asked.pattern,
        "seed": asked.seed,
        "opset": None if source else OPSET,
        "ir_version": None if source else IR_VERSION,
        "precision": "fp32",
        "workload": asked.workload.to_json(),
        "image_size": asked.image_size,
        "kernels": stated(asked.workload.options).get("kernels"),
        "runtimes": {runtime: _of(runtime) for runtime in runtimes},
    }


def without_folders(text: str) -> str:
    """The text with every absolute path cut down to its last name."""
    return _FOLDERS.sub("", text)


def without_folder(word: str) -> str:
    """A word of the command line without folders: those of `NAME=PATH` go, and those before a network's file."""
    name, equals, path = word.rpartition("=")
    return f"{name}{equals}{Path(path).name}" if "/" in path else word


def _of(runtime: str) -> dict[str, Any]:
    given = {name: os.environ.get(name, usual) for name, usual in _LEFT_TO_ENVIRONMENT.get(runtime, {}).items()}
    return {**OF_RUNTIME.get(runtime, {}), **given}
