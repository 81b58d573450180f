"""Every runtime of the table keeps the contract of `runtimes.protocol`; a new line is tested the moment it exists."""

import subprocess
import sys

import numpy as np
import pytest
from tiny_networks import WEIGHTS

from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.tables import resolve


@pytest.fixture(params=list(RUNTIMES))
def runtime(request, sparse_cpu_built):
    module = resolve(RUNTIMES[request.param])
    lacks = module.missing()
    if lacks:
        pytest.skip(lacks)
    return module


def test_it_loads_answers_and_closes(runtime, tiny_onnx, tmp_path):
    options, path = {"threads": "1", "batch": "1", "precision": "fp32"}, tiny_onnx["dense"]
    if hasattr(runtime, "compile"):
        path = runtime.compile(path, tmp_path, options, lambda: None)
        assert path.with_name(f"{path.name}.json").is_file()
    engine = runtime.load(path, options)
    for n in (1, 5):
        x = np.random.default_rng(n).normal(size=(n, 1, 8, 8)).astype(np.float32)
        logits = engine.run(x)
        assert logits.dtype == np.float32
        assert logits.ndim == 2
        if logits.shape[1]:
            np.testing.assert_allclose(logits, x.reshape(n, 64) @ WEIGHTS["dense"], rtol=1e-4, atol=1e-4)
    assert engine.engine_bytes is None or engine.engine_bytes > 0
    assert engine.context_bytes is None or engine.context_bytes >= 0
    assert engine.gpu_ns is None or len(engine.gpu_ns) == 2
    assert engine.receipt is None or engine.receipt["verdict"] in ("yes", "no", "unknown")
    engine.close()


def test_it_has_a_version(runtime):
    assert runtime.version()


@pytest.mark.parametrize("name", RUNTIMES)
def test_importing_it_imports_no_library(name):
    libraries = ("onnxruntime", "tensorrt", "onnx", "torch")
    code = f"import sys, {RUNTIMES[name]}; sys.exit(any(name in sys.modules for name in {libraries}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("content", ["truncated", "empty", "text"])
def test_ort_refuses_a_damaged_file(tiny_onnx, tmp_path, content):
    whole = tiny_onnx["dense"].read_bytes()
    path = tmp_path / "model.onnx"
    path.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"not a network"}[content])
    with pytest.raises(UserError, match=r"ONNX Runtime [\d.]+ cannot load model\.onnx"):
        resolve(RUNTIMES["ort"]).load(path, {"threads": "1"})


def test_ort_refuses_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot load gone\.onnx"):
        resolve(RUNTIMES["ort"]).load(tmp_path / "gone.onnx", {})


def test_null_is_busy_as_long_as_it_is_told(tmp_path):
    null = resolve(RUNTIMES["null"])
    assert null.load(tmp_path, {"busy_us": "250"}).busy_ns == 250_000
    with pytest.raises(UserError, match="busy_us is 'long'"):
        null.load(tmp_path, {"busy_us": "long"})
