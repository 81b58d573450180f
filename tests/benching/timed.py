"""Entrants as a benchmark leaves them, with rounds made up by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.benching.entrants import Entrant
from edgeprune.benching.judging import standings
from edgeprune.benching.rows import rows
from edgeprune.benching.subjects import Subject

DENSE = Subject("net", 0.0, 0.0, Path("net-0.onnx"), 1000, 1000)
SPARSE = Subject("net", 0.9, 0.85, Path("net-90.onnx"), 1000, 150)

PASSES = 2
STEADY = [[4.0] * 6] * PASSES


def entrant(runtime: str, subject: Subject, passes: list[list[float]], *, is_twin: bool = False) -> Entrant:
    """`passes` are the latencies of each round in milliseconds; a round has three samples around its own."""
    made = Entrant(runtime, subject, is_twin, "1.0")
    made.rounds = [[[round(ms * 1e6) + off for off in (-10, 0, 10)] for ms in rounds] for rounds in passes]
    made.loaded = [{"load_ms": 5.0, "classes": 2} for _ in passes]
    made.peak_bytes = [(60 + number) << 20 for number in range(len(passes))]
    made.idle_cpu = 0.0
    made.other_cores = [0.0, 0.5, 0.1]
    return made


def with_answers(made: Entrant, folder: Path, answers: list[list[float]]) -> Entrant:
    """The same, and what it answered."""
    made.answers = folder / f"{made.runtime}-{made.subject.sparsity}.npy"
    np.save(made.answers, np.asarray(answers, dtype=np.float32))
    return made


def document(tmp_path: Path, last: float) -> dict[str, Any]:
    """As `bench` returns it; the last answer of ours is `last`, where the reference says 4."""
    dense = with_answers(entrant("ort", DENSE, STEADY), tmp_path, [[1.0, 4.0]])
    like = with_answers(entrant("ort", SPARSE, STEADY), tmp_path, [[1.0, 4.0]])
    ours = with_answers(entrant("sparse_cpu", SPARSE, [[0.5] * 6] * PASSES), tmp_path, [[1.0, last]])
    slow = with_answers(entrant("sparse_cpu", DENSE, [[5.0] * 6] * PASSES), tmp_path, [[1.0, 4.0]])
    found = rows([slow, dense, ours, like], threads=1)
    workload = {"threads": 1, "batch": 1, "protocol": "quick", "options": {}}
    machine = {"cpu_model": "a CPU", "cores": 2, "governor": None, "os": "an OS", "runtimes": {"ort": "1.0"}}
    steps = [
        {"name": "conv1", "kernel": "conv_dense", "ns": 1000, "macs": 5000, "gmacs": 5.0, "of_limit": None},
        {"name": "conv2", "kernel": "conv_sparse", "ns": 1000, "macs": 9000, "gmacs": 9.0, "of_limit": 0.25},
    ]
    return {
        "started_at": "2026-11-21T20:00:00+00:00",
        "settings": {"network": "net", "pattern": "all", "seed": 0, "image_size": None, "workload": workload},
        "machine": machine,
        "rows": found,
        "fastest": standings(found, 0.02),
        "noise_floor": {"value": 0.02, "reason": None},
        "alone": None,
        "denormals": {"ort": "kept", "null": None},
        "absent": {"openvino": "not there"},
        "layers": [{"sparsity": 0.9, "kernels": "avx2", "limit_gmacs": 40.0, "steps": steps}],
    }
