"""What the harness adds to an engine: `python tests/benchmarks/bench_harness.py`, exit code 1 above 2 % of 1 ms.

An engine that is busy for exactly 1 ms by its own clock is measured like any other, in a bundle and through
`python -m runtimes measure`. What is reported above 1 ms is the harness's. An idle engine gives the floor.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from export.bundle import NetworkFile, write_bundle
from runtimes.records import Measurement, Workload

MODEL_US = 1000
MOST_US = 20.0  # 2 % of it


def measured(bundle: Path, busy_us: int) -> Measurement:
    """The null runtime's measurement of the bundle, busy for `busy_us` in each call."""
    command = [sys.executable, "-m", "runtimes", "measure", ".", "--runtime", "null", "--option", f"busy_us={busy_us}"]
    finished = subprocess.run(command, cwd=bundle, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    answer = json.loads(finished.stdout.splitlines()[-1])
    return Measurement.read(Path(answer["out"]) / answer["measurements"][0])


def idle_bundle(folder: Path) -> Path:
    """A bundle with real-sized inputs (32 x 32 RGB) and a network that the null runtime does not open."""
    network = folder / "model.onnx"
    network.write_bytes(b"not looked at")
    images = np.random.default_rng(0).integers(0, 256, (256, 32, 32, 3), dtype=np.uint8)
    write_bundle(
        folder / "bundle",
        name="harness",
        networks={"sparse": NetworkFile(network)},
        images=[images],
        preprocess={"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.25] * 3},
        runtimes=["null"],
        workload=Workload(),
    )
    return folder / "bundle"


def main() -> int:
    """Print the figures; 1 if the harness adds too much."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = idle_bundle(Path(folder))
        idle, busy = measured(bundle, 0), measured(bundle, MODEL_US)
    added = {key: (busy.latency_ms[key] * 1000 - MODEL_US) for key in ("min", "median", "p90", "p99")}
    print(f"empty engine, median: {idle.latency_ms['median'] * 1000:.3f} us ({idle.n} calls)")
    print(f"harness_overhead_ns as measurements report it: {busy.harness_overhead_ns:.0f} ns")
    print(
        f"added to {MODEL_US} us: "
        + ", ".join(f"{key} {us:.3f} us" for key, us in added.items())
        + f" ({busy.n} calls)"
    )
    print(f"share: {added['median'] / MODEL_US:.4%} at the median, at most {MOST_US / MODEL_US:.0%} allowed")
    return 0 if added["median"] <= MOST_US else 1


if __name__ == "__main__":
    sys.exit(main())
