"""The real parser and builder: TensorRT for RTX, which builds on a machine without a GPU.

Every network of the export's tests is parsed and built; damaged files and operators that it does not know are refused
in two lines. The engines are for another GPU than the Jetson's: this shows that the files are taken, not how fast.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes import trt
from runtimes.cuda import find_gpu
from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, find_library
from runtimes.trt_build import build
from runtimes.trt_check import check
from runtimes.trt_wishes import Wishes

sys.path.append(str(Path(__file__).parents[1] / "export"))
from export_networks import NETWORKS, SHAPE, trained

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed: `uv sync --group builder`")
pytestmark = pytest.mark.skipif(find_gpu() is not None, reason="there is a GPU: these are about a machine without one")

IMAGES = (8, 8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("exported")
    paths = {name: folder / f"{name}.onnx" for name in NETWORKS}
    for name, path in paths.items():
        to_onnx(trained(NETWORKS[name]), path, input_shape=SHAPE, target=TARGETS["jetson-orin"], metadata={})
    return paths


def saved(path: Path, nodes, initializers=(), domain: str = "", outputs=("batch", None, None, None)) -> Path:
    """A file with one float32 input (batch, 3, 8, 8) and one float32 output."""
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, *IMAGES])
    made = helper.make_tensor_value_info("logits", TensorProto.FLOAT, list(outputs))
    graph = helper.make_graph(nodes, "made", [given], [made], list(initializers))
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def weights(name: str, shape: tuple[int, ...], dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.random.default_rng(3).normal(size=shape).astype(dtype), name)


def half(path: Path) -> Path:
    """Typed fp16 between float32 ports."""
    nodes = [
        helper.make_node("Cast", ["input"], ["low"], to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["low", "w"], ["out"], name="conv"),
        helper.make_node("Cast", ["out"], ["logits"], to=TensorProto.FLOAT),
    ]
    return saved(path, nodes, [weights("w", (4, 3, 3, 3), np.float16)])


def quantised(path: Path) -> Path:
    """One convolution between Q/DQ pairs."""
    scale, zero = numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")
    integers = numpy_helper.from_array(np.arange(-54, 54, dtype=np.int8).reshape(4, 3, 3, 3), "w")
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["dq"]),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["dw"]),
        helper.make_node("Conv", ["dq", "dw"], ["logits"], name="conv"),
    ]
    return saved(path, nodes, [scale, zero, integers])


# Accepted ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_that_is_exported_is_parsed_and_built(exported, name: str) -> None:
    built = build(find_library("tensorrt_rtx"), exported[name], Wishes(), Journal(), without_gpu=True)
    assert len(built.plan) > 1000
    assert built.record["precision"] == "fp32"
    assert built.record["batches"] == [1, 1, 1]
    nodes = onnx.load(exported[name]).graph.node
    assert built.layers >= sum(node.op_type in ("Conv", "Gemm", "MatMul") for node in nodes)


def test_the_precision_is_read_from_the_file(tmp_path) -> None:
    library = find_library("tensorrt_rtx")
    for made, precision in ((half, "fp16"), (quantised, "int8")):
        built = build(library, made(tmp_path / f"{precision}.onnx"), Wishes(), Journal(), without_gpu=True)
        assert (built.record["precision"], built.record["strongly_typed"]) == (precision, True)


def test_a_check_says_what_was_built_for_what(exported, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    checked = check(exported["Residual"], batch=4)
    assert (checked.library, checked.version) == ("TensorRT for RTX", find_library("tensorrt_rtx").version)
    assert (checked.compute_capability, checked.precision) == ("8.6", "fp32")
    assert "SM86, the nearest to the Jetson Orin's SM87" in checked.note
    assert checked.engine_bytes > exported["Residual"].stat().st_size
    assert 0 < checked.seconds < 60
    assert list(tmp_path.iterdir()) == []
    assert sorted(exported["Residual"].parent.iterdir()) == sorted(exported.values())


def test_sparse_kernels_can_be_forbidden(exported) -> None:
    assert check(exported["LinearOnly"], sparsity=False).engine_bytes > 1000


def test_compile_builds_without_a_gpu_and_load_refuses_that_engine(exported, tmp_path) -> None:
    beats = []
    engine = trt.compile(exported["Tokens"], tmp_path, {"sparsity": "1"}, lambda: beats.append(1))
    content = json.loads((tmp_path / f"{engine.name}.json").read_text())
    assert (content["machine"]["device"], content["build"]["built_for"]) == (None, "SM86")
    assert content["build"]["flags"] == ["SPARSE_WEIGHTS", "TF32"]
    assert content["build"]["timing_cache"] == "none"
    assert len(beats) >= 1
    assert "Tokens.onnx" in (tmp_path / f"{engine.name}.log").read_text()
    before = engine.stat().st_mtime_ns
    assert trt.compile(exported["Tokens"], tmp_path, {"sparsity": "1"}, lambda: None) == engine
    assert engine.stat().st_mtime_ns == before
    with pytest.raises(UserError, match="no GPU that CUDA can use"):
        trt.load(engine, {"sparsity": "1"})


# Refused -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[: len(whole) // 2], "Failed to parse the ONNX model"),
        (lambda whole: whole[:10], "Failed to parse the ONNX model"),
        (lambda whole: b"", "is not an ONNX network"),
        (lambda whole: b"hello\n" * 1000, "is not an ONNX network"),
        (lambda whole: np.random.default_rng(5).bytes(20000), "Failed to parse the ONNX model"),
        (lambda whole: bytes(20000), "is not an ONNX network"),
    ],
    ids=["half", "ten bytes", "empty", "text", "random", "zeros"],
)
def test_a_damaged_file_gets_two_lines(exported, tmp_path, damage, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(damage(exported["Residual"].read_bytes()))
    with pytest.raises(UserError, match=words) as caught:
        check(path)
    assert "model.onnx" in caught.value.message
    assert "copy it again" in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_wherever_a_file_is_cut_off_it_is_told(exported, tmp_path) -> None:
    whole, path, library = exported["Residual"].read_bytes(), tmp_path / "cut.onnx", find_library("tensorrt_rtx")
    for length in range(1, len(whole), len(whole) // 40):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError) as caught:
            build(library, path, Wishes(), Journal(), without_gpu=True)
        assert "\n" not in caught.value.message + caught.value.hint


def test_bytes_that_flipped_are_built_or_told(exported, tmp_path) -> None:
    """Half of them are in the weights, where nobody can tell."""
    whole, path, library = exported["Residual"].read_bytes(), tmp_path / "odd.onnx", find_library("tensorrt_rtx")
    random, told = np.random.default_rng(11), 0
    for _ in range(30):
        content = np.frombuffer(whole, np.uint8).copy()
        content[random.integers(0, len(whole), 5)] ^= 0x55
        path.write_bytes(content.tobytes())
        try:
            build(library, path, Wishes(), Journal(), without_gpu=True)
        except UserError:
            told += 1
    assert told > 0


def test_a_missing_file_gets_two_lines(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no\.onnx is missing"):
        check(tmp_path / "no.onnx")


@pytest.mark.parametrize(
    ("operator", "domain", "words"),
    [("Det", "", "UNSUPPORTED_NODE"), ("Frobnicate", "mine", "Plugin not found")],
)
def test_an_operator_that_it_does_not_know_is_named_with_its_layer(tmp_path, operator, domain, words) -> None:
    node = helper.make_node(operator, ["input"], ["logits"], name="layer3/odd", domain=domain)
    path = saved(tmp_path / "odd.onnx", [node], domain=domain, outputs=("batch", None))
    with pytest.raises(UserError, match=words) as caught:
        check(path)
    assert f"refuses odd.onnx: layer 'layer3/odd' ({operator})" in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_layer_whose_weight_does_not_fit_is_named(tmp_path) -> None:
    conv = helper.make_node("Conv", ["input", "w"], ["logits"], name="layer1/conv")
    path = saved(tmp_path / "odd.onnx", [conv], [weights("w", (4, 5, 3, 3), np.float32)])
    with pytest.raises(UserError, match=r"layer 'layer1/conv' \(Conv\)"):
        check(path)


def test_two_outputs_are_no_classifier(tmp_path) -> None:
    path = saved(tmp_path / "two.onnx", [helper.make_node("Relu", ["input"], ["logits"])])
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("Neg", ["input"], ["more"]))
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, None))
    onnx.save(model, path)
    with pytest.raises(UserError, match="1 inputs and 2 outputs"):
        check(path)


def test_free_height_and_width_are_refused(tmp_path) -> None:
    path = saved(tmp_path / "free.onnx", [helper.make_node("Relu", ["input"], ["logits"])])
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, path)
    with pytest.raises(UserError, match="takes images of the shape"):
        check(path)


def test_fp16_of_an_fp32_file_is_refused_where_there_are_no_flags(exported) -> None:
    with pytest.raises(UserError, match=r"holds fp32, and TensorRT for RTX .* makes no fp16 of it"):
        build(find_library("tensorrt_rtx"), exported["Tokens"], Wishes(precision="fp16"), Journal(), without_gpu=True)


# A process of its own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "words", "last"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was killed by SIGSEGV", "it said nothing"),
        (
            "import sys; sys.exit('terminate called\\nafter throwing')",
            "ended with exit code 1",
            "terminate called | after",
        ),
        ("print('chatter')", "ended with exit code 0", "it said nothing"),
        ("print('{}')", "ended with exit code 0", "it said nothing"),
    ],
)
def test_a_crash_of_the_library_does_not_end_the_caller(exported, monkeypatch, code, words, last) -> None:
    whole = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **more: whole([sys.executable, "-c", code], **{**more, "check": False})
    )
    with pytest.raises(UserError) as caught:
        check(exported["Tokens"])
    assert f"{words} while it built Tokens.onnx" in caught.value.message
    assert last in caught.value.hint


def test_a_crash_after_the_answer_is_none(exported, monkeypatch) -> None:
    code = "import os, sys; from runtimes.trt_check import _main; _main(sys.argv[1:]); os.kill(os.getpid(), 11)"
    whole = subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **more: whole([sys.executable, "-c", code, command[-1]], **{**more, "check": False}),
    )
    assert check(exported["Tokens"]).engine_bytes > 1000


def test_a_build_that_takes_too_long_is_ended(exported) -> None:
    with pytest.raises(UserError, match=r"has not built Tokens\.onnx in 0\.001 s"):
        check(exported["Tokens"], timeout_s=0.001)


def test_a_check_without_any_tensorrt_says_how_to_get_one(exported, monkeypatch) -> None:
    """The libraries are hidden from the process."""
    blocked = "import sys; sys.modules.update(tensorrt=None, tensorrt_rtx=None); "
    code = blocked + "from runtimes.trt_check import _main; sys.exit(_main(sys.argv[1:]))"
    whole = subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **more: whole([sys.executable, "-c", code, command[-1]], **{**more, "check": False}),
    )
    with pytest.raises(UserError, match="TensorRT is not installed") as caught:
        check(exported["Tokens"])
    assert "pip install tensorrt-rtx-cu13" in caught.value.hint


def test_a_check_does_not_outlive_its_caller(exported, tmp_path) -> None:
    """A stand-in for the library says which process it is in, and sleeps."""
    pid = tmp_path / "pid"
    (tmp_path / "tensorrt_rtx.py").write_text(
        f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(120)\n"
    )
    code = f"from pathlib import Path; from runtimes.trt_check import check; check(Path({str(exported['Tokens'])!r}))"
    caller = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    child = Path(f"/proc/{pid.read_text()}/stat")
    assert child.exists()
    caller.kill()
    caller.wait()
    while child.exists() and child.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < deadline, "it goes on alone"
        time.sleep(0.02)
