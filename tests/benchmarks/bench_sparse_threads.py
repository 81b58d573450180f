"""What a second thread brings sparse_cpu: `python tests/benchmarks/bench_sparse_threads.py`.

The same network with random masks is loaded twice into one process, for one thread and for two, and the two take turns.
Between turns the threads of both sleep. The ratio of the two latencies is formed in each turn. Exit code 1 where the
median of these ratios is below 1.6 for a network that is not among `SMALL`.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from edgeprune.benching.asked import Asked
from edgeprune.benching.subjects import subjects
from export.native import build_library
from export.program import to_program
from runtimes import sparse_cpu
from runtimes.sparse_cpu import library

TURNS = 60
CALLS = 5  # of a turn, after one that wakes the threads
LEAST = 1.6
NETWORKS = (
    ("resnet18-cifar", 0.9),
    ("resnet18-cifar", 0.98),
    ("resnet50", 0.95),
    ("mobilenet_v2", 0.9),
    ("resnet20-cifar", 0.9),
)
# Steps of 8 to 30 microseconds: what the other core wrote last has to come over. They are told and held to nothing.
SMALL = (("resnet18-cifar", 0.98), ("resnet20-cifar", 0.9))


def main() -> int:
    """Print the figures; 1 if a second thread brings too little."""
    build_library(library.triple())
    return max(compared(name, sparsity) for name, sparsity in NETWORKS)


def compared(name: str, sparsity: float) -> int:
    """Time one network on one thread and on two; 1 where two are not worth it."""
    with tempfile.TemporaryDirectory() as folder:
        subject = subjects(Asked(name, (sparsity,)), Path(folder))[-1]
        to_program(subject.path)
        engines = [sparse_cpu.load(subject.path, {"threads": threads}) for threads in ("1", "2")]
        image = np.random.default_rng(0).standard_normal((1, *engines[0].shape), dtype=np.float32)
        turns = [[timed(engine, image) for engine in engines] for _ in range(TURNS)]
        for engine in engines:
            engine.close()
    ratios = [one / two for one, two in turns]
    low, high = quantiles(ratios, n=4)[0], quantiles(ratios, n=4)[2]
    print(f"{name}, {sparsity:.0%} zeros: {median(one for one, _ in turns) * 1e3:.3f} ms on one thread")
    print(f"  on two x {median(ratios):.2f} faster (quartiles {low:.2f} to {high:.2f}, {TURNS} turns)")
    return int((name, sparsity) not in SMALL and median(ratios) < LEAST)


def timed(engine: sparse_cpu.SparseEngine, image: np.ndarray) -> float:
    """Seconds of a call, the median of a turn."""
    engine.run(image)
    took = []
    for _ in range(CALLS):
        begin = time.perf_counter()
        engine.run(image)
        took.append(time.perf_counter() - begin)
    return median(took)


if __name__ == "__main__":
    sys.exit(main())
