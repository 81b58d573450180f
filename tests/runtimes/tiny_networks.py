"""Classifiers small enough to check by hand, logits = flatten(input) @ W, and how the tests measure them."""

from pathlib import Path
from typing import Any

import numpy as np

from runtimes.records import Workload

PREPROCESS = {"scale": 0.0625, "mean": [0.5], "std": [0.25]}
QUICK = Workload(
    warmup_s=0.01, passes=1, rounds=3, round_s=0.02, min_samples=6, idle_s=0.0, accuracy_batch=16, timeout_s=60
)
WEIGHTS = {
    name: np.random.default_rng(seed).normal(size=(64, 10)).astype(np.float32)
    for seed, name in enumerate(("dense", "sparse"))
}


def job(bundle: Path, **changes: Any) -> dict[str, Any]:
    """What a worker of this bundle is asked."""
    return {
        "runtime": "null",
        "file": str(bundle / "model.onnx"),
        "precision": "fp32",
        "engines": str(bundle / "engines"),
        "build": 0,
        "images": [str(bundle / "inputs/0000.npy")],
        "preprocess": PREPROCESS,
        "workload": QUICK.changed(**changes).to_json(),
    }
