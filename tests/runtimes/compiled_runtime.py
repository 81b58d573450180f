"""A runtime for tests that compiles: it writes what it was asked for, and its engine has a clock of its own.

It stands where a GPU's runtime does, so that the way from the engine's file to the measurement is run without one. The
engine's file holds the process that made it.
"""

import contextlib
import hashlib
import json
import os
import signal

import numpy as np

AFFINITY = sorted(os.sched_getaffinity(0))  # as a library's thread pool finds it
VERSION = "7"
MIB = 1 << 20


class Counting:
    """An engine whose n-th run took n microseconds on the GPU, and half of that to hand over."""

    engine_bytes = 5
    context_bytes = None
    launch = {"cuda_graph": "it cannot be captured: a stand-in", "host_wait": "spin"}  # noqa: RUF012

    def __init__(self, verdict="no"):
        self.receipt = {"eligible": 1, "chosen": 0, "tactics": [], "verdict": verdict, "reason": "none was chosen"}
        self.gpu_ns = []
        self.enqueue_ns = []
        self.runs = 0

    def run(self, batch):
        self.runs += 1
        self.gpu_ns.append(1000 * self.runs)
        self.enqueue_ns.append(500 * self.runs)
        return np.zeros((len(batch), 10), np.float32)

    def close(self):
        pass


def compile(path, folder, options, beat):
    beat()
    build = options["build"]
    engine = folder / (f"{path.stem}.engine" if build == "0" else f"{path.stem}-{build}.engine")
    if options.get("die"):
        engine.with_name(engine.name + ".log").write_text("my last words")
        os.kill(os.getpid(), signal.SIGKILL)
    large = np.ones(256 * MIB, np.uint8)  # what a builder leaves in the process that it ran in
    engine.write_text(str(os.getpid()))
    told = [{"code": "low-memory", "message": "a kernel was left out"}]
    built = {"available_mb": 1000, "warnings": told, "bytes": len(large)}
    sidecar = {"onnx": path.name, "options": dict(options), "build": built, "pid": os.getpid(), "affinity": AFFINITY}
    sidecar["engine"] = {"sha256": hashlib.sha256(engine.read_bytes()).hexdigest()}
    engine.with_name(engine.name + ".json").write_text(json.dumps(sidecar))
    return engine


def load(path, options):
    assert path.suffix == ".engine", "the worker has to hand over what `compile` returned"
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(path.read_text()), 0)
        raise AssertionError("what is measured must start after the process that built it has ended")
    return Counting("yes" if path.stem.endswith("-1") else "no")


def missing():
    return None


def version():
    return VERSION
