"""Entrants as a benchmark leaves them, with rounds made up by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune.benching.entrants import Entrant
from edgeprune.benching.subjects import Subject

DENSE = Subject("net", 0.0, 0.0, Path("net-0.onnx"), 1000, 1000)
SPARSE = Subject("net", 0.9, 0.85, Path("net-90.onnx"), 1000, 150)


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
