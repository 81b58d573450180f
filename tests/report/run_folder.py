"""A run folder as the steps would leave it, small, seeded, and written through the real records."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.files import read_json, write_json, write_text
from runtimes.latency import summary_ms, throughput_ips
from runtimes.records import Doubt, Measurement, Workload

NETWORKS = ("teacher", "dense", "pruned", "sparse")
FILES = {"teacher": "teacher.onnx", "dense": "dense.onnx", "pruned": "pruned.onnx", "sparse": "model.onnx"}
RECIPE = """\
name = "quickstart"
seed = 0
method = "default"

[prune]
sparsity = 0.9
pattern = "unstructured"
"""
FACTS = {
    "cpu_model": "Example CPU @ 2.40GHz",
    "cores": 2,
    "os": "Debian GNU/Linux 12",
    "python": "3.12.3",
    "memory_total_bytes": 16_000_000_000,
    "governor": None,
    "clocks_mhz": {"before": [2400.0, 2400.0], "after": [2400.0, 2399.5]},
    "temperature_mc": {"before": {"soc": 41000}, "after": {"soc": 47500}},
    "load_average": {"before": [0.5, 0.4, 0.2], "after": [0.9, 0.5, 0.3]},
    "reasons": {"governor": "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor: No such file or directory"},
}
LAYERS = (  # name, kind, shape, share of zeros, reason
    ("stem", "conv", (16, 1, 3, 3), 0.0, "the first layer: its 9 inputs per output are too few to prune"),
    ("stage1.conv1", "conv", (64, 16, 3, 3), 0.71, None),
    ("stage1.conv2", "conv", (64, 64, 3, 3), 0.88, None),
    ("stage2.conv1", "conv", (128, 64, 3, 3), 0.93, None),
    ("stage2.conv2", "conv", (128, 128, 3, 3), 0.957, None),
    ("stage2.norm", "norm", (128,), 0.0, "batch-norm"),
    ("classifier", "linear", (10, 128), 0.0, "the classifier is left dense"),
)


def sha(network: str) -> str:
    return hashlib.sha256(network.encode()).hexdigest()


def layers(pruned: bool) -> list[dict[str, Any]]:
    made = []
    for name, kind, shape, share, reason in LAYERS:
        weights = int(np.prod(shape))
        zeros = int(weights * share) if pruned else 0
        entry = {"name": name, "kind": kind, "shape": list(shape), "weights": weights, "zeros": zeros, "masked": zeros}
        made.append({**entry, "prunable": reason is None, "reason": reason})
    return made


def manifest() -> dict[str, Any]:
    networks = {}
    for name in NETWORKS:
        pruned = name in ("pruned", "sparse")
        rows = layers(pruned)
        weights, zeros = sum(r["weights"] for r in rows if r["prunable"]), sum(r["zeros"] for r in rows)
        networks[name] = {
            "file": FILES[name], "sha256": sha(name), "model": "digits-cnn", "opset": 17, "ir_version": 8,
            "precision": "fp32", "pattern": "unstructured" if pruned else "dense",
            "sparsity": zeros / weights, "sparsity_paper": zeros / sum(r["weights"] for r in rows),
            "zeros": zeros, "weights": weights, "macs": 5_213_440, "nonzero_macs": 713_440 if pruned else 5_213_440,
            "size_bytes": {
                "onnx": 1_090_112 * (3 if name == "teacher" else 1),
                "nonzero": 4 * (weights - zeros), "compressed": 171_204 if pruned else 1_005_112,
            },
            "layers": rows, "verification": {"n": 64, "max_abs_error": 3e-6, "argmax_agreement": 1.0, "extra_zeros": 0},
        }  # fmt: skip
    return {
        "schema_version": 1, "target": "local", "method": "teacher_guided_weighted", "pattern": "unstructured",
        "mask_sha256": sha("mask"), "classes": [str(digit) for digit in range(10)], "networks": networks,
    }  # fmt: skip


def history(epochs: int, first: float, last: float, seed: int) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    rest = np.exp(-np.arange(epochs) / max(epochs / 5, 1))
    return [
        {
            "epoch": i + 1, "lr": 0.05, "seconds": 2.0, "loss": float(1.4 * rest[i] + 0.05 + 0.01 * rng.random()),
            "validation_top1": float(min(100, last - (last - first) * rest[i] + rng.normal(0, 0.2))),
        }
        for i in range(epochs)
    ]  # fmt: skip


def latencies(median_ms: float, seed: int, rounds: int = 10, samples: int = 120) -> list[list[int]]:
    """A skewed distribution with a slow tail, and rounds that drift by half a percent."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(rounds):
        ms = median_ms * (1 + 0.005 * rng.normal()) * (0.97 + rng.gamma(2.0, 0.02, samples))
        ms[rng.random(samples) < 0.01] *= 2.5
        made.append([int(value * 1e6) for value in ms])
    return made


def twin_of(timed: list[list[int]], factor: float = 1.0) -> list[list[int]]:
    """A second process of the same engine: each round by chance half a percent slower or faster."""
    rng = np.random.default_rng(99)
    luck = factor * np.exp(rng.normal(0, 0.005, len(timed)))
    return [[int(value * by) for value in samples] for samples, by in zip(timed, luck, strict=True)]


def two_passes(rounds: int) -> list[dict[str, Any]]:
    """The passes of so many rounds."""
    shares = [rounds - rounds // 2, rounds // 2]
    return [
        {"rounds": share, "load_ms": 21.5, "first_inference_ms": 2.4, "peak_rss_mb": 71.4, "engine_sha256": None}
        for share in shares
    ]


def measurement(name: str, **changes: Any) -> Measurement:
    timed = changes.pop("latency_ns", latencies(1.31, seed=NETWORKS.index(name)))
    passes = changes.pop("passes", two_passes(len(timed)))
    values: dict[str, Any] = {
        "name": name, "runtime": "ort", "runtime_version": "1.31.1", "device": "local", "precision": "fp32",
        "batch": 1, "threads": 1, "protocol": "quick", "workload": Workload().to_json(),
        "n": sum(map(len, timed)), "latency_ns": timed, "latency_ms": summary_ms(timed),
        "throughput_ips": throughput_ips(timed, changes.get("batch", 1)), "load_ms": 21.5, "first_inference_ms": 2.4,
        "memory_mb": {
            "peak_rss": 71.4, "available_delta": 12.1, "engine": None, "context": None,
            "reasons": {"engine": "ONNX Runtime does not say", "context": "ONNX Runtime does not say"},
        },
        "facts": FACTS, "power_mw": None, "harness_overhead_ns": 310.0, "warnings": [], "outputs": None,
        "network_sha256": sha(name), "bundle": "7f3ac1", "argv": ["python3", "-m", "runtimes"],
        "started_at": "2025-11-21T10:00:00Z", "images": 360, "reasons": {"power_mw": "no sensor"},
        "passes": passes, "twin_ns": twin_of(timed) if name == "dense" else None,
        "top1": 100 * {"teacher": 356, "dense": 354, "pruned": 241, "sparse": 352}[name] / 360,
    }  # fmt: skip
    return Measurement(**{**values, **changes})


def put(run: Path, record: Measurement) -> None:
    record.write(run / "5-measure" / str(record.device) / f"{record.runtime}-{record.name}.json")


def build(run: Path) -> Path:
    """Everything done, measured on `local` with ONNX Runtime."""
    write_text(run / "recipe.toml", RECIPE)
    command = "edgeprune run quickstart --out runs/quickstart"
    origin = {"command": command, "version": "0.1.0", "created_at": "2025-11-21T09:58:00Z", "recipe": {}}
    write_json(run / "run.json", origin)
    write_json(run / "0-teacher/teacher.history.json", history(20, 60, 99.2, 1))
    write_json(run / "0-teacher/dense.history.json", history(15, 55, 98.6, 2))
    write_json(run / "1-prune/scoring.json", {"batches": 12})
    write_json(run / "2-retrain/history.json", history(10, 84, 97.9, 3))
    for step in ("0-teacher", "1-prune", "2-retrain"):
        write_json(run / step / "completed.json", {})
    write_json(run / "3-export/manifest.json", manifest())
    doubt = Doubt("other-load", "other programs used 0.4 of 2 cores while this was timed")
    for name in NETWORKS:
        put(run, measurement(name, warnings=[doubt] if name in ("dense", "sparse") else []))
    return run


def with_compacted(run: Path, median_ms: float) -> Path:
    """The run with a compacted network of that latency on ONNX Runtime."""
    path = run / "3-export" / "manifest.json"
    manifest = read_json(path)
    sparse = manifest["networks"]["sparse"]
    name = "sparse-compact"
    manifest["networks"][name] = {
        **sparse, "file": "model.compact.onnx", "network": "sparse", "sha256": sha(name),
        "compaction": {"summary": ["12 channels removed"], "removed": {"channels": 12}},
    }  # fmt: skip
    write_json(path, manifest)
    measured = measurement("sparse", latency_ns=latencies(median_ms, seed=9))
    put(run, replace(measured, name=name, network_sha256=sha(name)))
    return run


def build_wide(run: Path) -> Path:
    """The same, and also measured on a board with two runtimes: one gains, one loses."""
    build(run)
    for runtime, dense, sparse in (("trt", 0.84, 0.52), ("ort", 6.1, 6.4)):
        for name, median in (("dense", dense), ("sparse", sparse)):
            timed = latencies(median, seed=len(name) + len(runtime))
            put(run, measurement(name, device="jetson-orin", runtime=runtime, runtime_version="10.3", latency_ns=timed))
    return run


BOARD = {
    **FACTS,
    "cpu_model": "Example Cortex",
    "board": "Example Orin Nano Developer Kit",
    "module": "Orin Nano 8GB",
    "l4t": "36.4.3",
    "power_mode": {"name": "15W", "id": 0},
    "clocks_pinned": {"before": {"gpu": True, "cpu": True}, "after": {"gpu": True, "cpu": True}},
    "gpu_clock_mhz": {"before": {"min": 624, "cur": 624, "max": 624}, "after": {"min": 624, "cur": 624, "max": 624}},
    "stand_in": None,
}
SWITCHED = {  # as `runtimes.board.settings` reports it
    "power_mode": {
        "asked": "15W", "before": {"name": "MAXN", "id": 2}, "after": {"name": "15W", "id": 0},
        "restored": {"name": "MAXN", "id": 2},
    },
    "clocks": {"how": "jetson_clocks", "before": {}, "after": {}, "restored": {}}, "problems": [],
}  # fmt: skip
PASSES = [
    {"rounds": 6, "load_ms": 20.0 + i, "first_inference_ms": 2.4, "peak_rss_mb": 71.4, "engine_sha256": None}
    for i in range(3)
]


def power(mean_mw: float, latency_ms: float) -> dict[str, Any]:
    return {
        "source": "tegrastats", "scope": "module", "rails": {"VDD_IN": mean_mw}, "mean_mw": mean_mw,
        "idle_mw": 3200.0, "samples": 40, "energy_mj": mean_mw * latency_ms / 1e3,
        "net_energy_mj": (mean_mw - 3200.0) * latency_ms / 1e3,
    }  # fmt: skip


def watch() -> dict[str, Any]:
    columns = {"at_s": [0.0, 0.1, 0.2], "power_mw": [5000, 5100, 5200], "gpu_percent": [None] * 3, "gpu_mhz": [624] * 3}
    return {"source": "tegrastats", "interval_s": 0.1, "rate_hz": 9.8, "overhead_cores": 0.013, "columns": columns}


def on_board(name: str, median: float, device: str = "orin-nano", **changes: Any) -> Measurement:
    """Measured by three passes with power, a watch and, of the dense network, a twin."""
    seed = NETWORKS.index(name)
    values = {
        "device": device, "runtime": "trt", "runtime_version": "10.3.0", "precision": "fp16", "protocol": "standard",
        "workload": {**Workload().to_json(), "protocol": "standard"},
        "latency_ns": latencies(median, seed, rounds=18), "passes": PASSES, "facts": BOARD, "settings": SWITCHED,
        "twin_ns": latencies(median, seed + 10, rounds=18) if name == "dense" else None,
        "power": power(5100.0, median), "power_mw": 5100.0, "watch": watch(), "reasons": {},
        "memory_mb": {"peak_rss": 412.0, "available_delta": 155.2, "engine": 4.1, "context": 2.0, "reasons": {}},
        "receipt": {"verdict": "yes", "reason": "TensorRT chose sparse tactics for 3 of 7 layers."},
        "bundle": "a1b2c3", "argv": ["python3", "-m", "runtimes", "measure", ".", "--passes", "3"],
    }  # fmt: skip
    return measurement(name, **{**values, **changes})


def build_boards(run: Path) -> Path:
    """On this machine, on two boards with power readings, and on a stand-in."""
    build(run)
    for name, median in (("dense", 0.84), ("sparse", 0.52)):
        put(run, on_board(name, median))
        sparse = {"receipt": None, "runtime": "ort", "runtime_version": "1.31.1", "precision": "fp32"}
        facts = {**BOARD, "board": "Example Pi", "module": None, "power_mode": None, "governor": "ondemand"}
        unread = {"power": None, "power_mw": None, "reasons": {"power_mw": "the board has no rail that can be read"}}
        put(run, on_board(name, 10 * median + 2, "pi@10.0.0.7", **{**sparse, **unread}, facts=facts, settings=None))
        emulated = {**facts, "stand_in": "emulated by qemu-aarch64"}
        doubt = Doubt("stand_in", "emulated by qemu-aarch64: its times are not a board's")
        put(run, on_board(name, 99.0, "emulated", **sparse, facts=emulated, settings=None, warnings=[doubt]))
    return run
