"""A runtime for tests that compiles: it writes what it was asked for, and its engine has a clock of its own.

It stands where a GPU's runtime does, so that the way from the engine's file to the measurement is run without one.
"""

import json

import numpy as np

VERSION = "7"


class Counting:
    """An engine whose n-th run took n microseconds on the GPU."""

    engine_bytes = 5
    context_bytes = None

    def __init__(self):
        self.receipt = {"eligible": 1, "chosen": 0, "tactics": [], "verdict": "no", "reason": "none was chosen"}
        self.gpu_ns = []
        self._runs = 0

    def run(self, batch):
        self._runs += 1
        self.gpu_ns.append(1000 * self._runs)
        return np.zeros((len(batch), 10), np.float32)

    def close(self):
        pass


def compile(path, folder, options, beat):
    beat()
    engine = folder / f"{path.stem}.engine"
    engine.write_text("made")
    engine.with_name(engine.name + ".json").write_text(json.dumps({"onnx": path.name, "options": dict(options)}))
    return engine


def load(path, options):
    assert path.suffix == ".engine", "the worker has to hand over what `compile` returned"
    return Counting()


def missing():
    return None


def version():
    return VERSION
