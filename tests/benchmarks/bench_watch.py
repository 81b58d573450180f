"""What the watch takes from an engine that is timed beside it: `python tests/benchmarks/bench_watch.py`.

One engine, in a process of its own as in any measurement, is timed in rounds, every other one with the watch beside it.
The ratio of the two medians is formed for each pair of neighbours, so that a drift of the machine cancels. Exit code 1
where the median of these ratios is above 1.02, or its interval does not reach down to 1.01.
"""

import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from runtimes.engine_process import EngineProcess
from runtimes.records import Workload
from runtimes.watch import Watch

PAIRS = 40
INTERVAL_S = 0.1
MOST = 1.02
WORK = Workload(warmup_s=0.5, passes=1, rounds=1, round_s=0.25, min_samples=1, accuracy=False)


def main() -> int:
    """Print the figures; 1 if the watch slows an engine down."""
    with tempfile.TemporaryDirectory() as folder:
        found = [
            compared("null", "busy for 1 ms by the clock", Path(folder), {"busy_us": "1000"}),
            compared("ort", "a product of 512 x 512 matrices", Path(folder), {}),
        ]
    return max(found)


def compared(runtime: str, what: str, folder: Path, options: dict[str, str]) -> int:
    """Time one engine with and without; 1 where it is slower with."""
    with EngineProcess("model", runtime, job(runtime, folder, options)) as process:
        process.answer("start")
        process.ask("load")
        pairs = [pair(process, number) for number in range(PAIRS)]
    ratios = [with_it["median"] / without["median"] for without, with_it in pairs]
    tails = [with_it["p99"] / without["p99"] for without, with_it in pairs]
    low, high = interval(ratios)
    overhead, rate = (median(with_it[key] for _, with_it in pairs) for key in ("overhead", "rate"))
    print(f"{runtime}, {what}: {median(without['median'] for without, _ in pairs) / 1e6:.4f} ms without the watch")
    print(f"  with it x {median(ratios):.5f} (95 % of medians: {low:.5f} to {high:.5f}, {len(ratios)} pairs of rounds)")
    print(f"  p99 x {median(tails):.4f}; the watch takes {overhead:.5f} cores for {rate:.2f} samples a second")
    return int(median(ratios) > MOST or low > 1.01)


def pair(process: EngineProcess, number: int) -> tuple[dict[str, float], dict[str, float]]:
    """A round without and one with the watch; which comes first changes from pair to pair."""
    if number % 2:
        watched = timed(process, INTERVAL_S)
        return timed(process, 0.0), watched
    return timed(process, 0.0), timed(process, INTERVAL_S)


def timed(process: EngineProcess, interval_s: float) -> dict[str, float]:
    """One round: nanoseconds, and what the watch took."""
    with Watch(interval_s) as watch:
        samples = process.ask("round")["latency_ns"]
    seen = watch.seen()
    told = {"overhead": seen.overhead_cores, "rate": seen.rate_hz} if seen else {}
    return {"median": float(np.median(samples)), "p99": float(np.percentile(samples, 99)), **told}


def interval(ratios: list[float]) -> tuple[float, float]:
    """A percentile bootstrap of the median, 95 %."""
    drawn = np.random.default_rng(0).choice(ratios, size=(4000, len(ratios)))
    low, high = np.percentile(np.median(drawn, axis=1), [2.5, 97.5])
    return float(low), float(high)


def job(runtime: str, folder: Path, options: dict[str, str]) -> dict[str, object]:
    """As `runtimes.worker` wants it."""
    network, images = folder / "model.onnx", folder / "0000.npy"
    weight = numpy_helper.from_array(np.ones((512, 512), np.float32), "weight")
    nodes = [
        helper.make_node("Expand", ["input", "shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["logits"], axes=[1, 2], keepdims=0),
    ]
    shape = numpy_helper.from_array(np.array([1, 1, 512, 512], np.int64), "shape")
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 512, 512])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 512])]
    graph = helper.make_graph(nodes, "product", inputs, outputs, [weight, shape])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), network)
    np.save(images, np.ones((1, 512, 512, 1), np.uint8))
    return {
        "runtime": runtime,
        "file": str(network),
        "precision": "fp32",
        "engines": str(folder),
        "build": 0,
        "images": [str(images)],
        "preprocess": {"scale": 1.0, "mean": [0.0], "std": [1.0]},
        "workload": WORK.changed(options=options).to_json(),
    }


if __name__ == "__main__":
    sys.exit(main())
