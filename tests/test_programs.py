"""What an export and a bundle hold for sparse_cpu: programs beside fp32 files, libraries for the target's machines."""

from types import SimpleNamespace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from edgeprune.steps import compile as compiling
from edgeprune.steps.compile import libraries, network_file
from edgeprune.steps.programs import with_programs
from export import native
from export.bundle import NetworkFile, write_bundle
from export.program import read_program
from export.targets import TARGETS
from runtimes.bundle import read_bundle
from runtimes.errors import UserError
from runtimes.files import sha256
from runtimes.records import Workload

LOCAL, BOARD = TARGETS["local"], TARGETS["jetson-orin-nano"]
PREPROCESS = {"scale": 1.0, "mean": [0.0], "std": [1.0]}


def onnx_file(path, operator="Relu"):
    """(N, 1, 4, 4) through a convolution and an operator of the caller's to 16 logits."""
    weight = np.random.default_rng(0).normal(size=(1, 1, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["input", "weight"], ["mapped"], name="layer/Conv", pads=[1, 1, 1, 1]),
        helper.make_node(operator, ["mapped"], ["bent"], name="layer/bent"),
        helper.make_node("Flatten", ["bent"], ["logits"], name="flat"),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, 4, 4])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 16])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return {"file": path.name, "precision": "fp32", "network": path.stem}


def test_an_fp32_file_for_a_cpu_gets_a_program_and_a_lower_precision_none(tmp_path):
    entry = onnx_file(tmp_path / "model.onnx")
    lower = {**entry, "file": "model.int8.onnx", "precision": "int8", "program": ["stale.program.json"]}
    made = with_programs(tmp_path, {"sparse": entry, "sparse-int8": lower}, LOCAL, needed=False)
    assert made.entries["sparse"]["program"] == ["model.program.json", "model.program.npz"]
    assert "program" not in made.entries["sparse-int8"]
    assert not made.warnings
    assert read_program(tmp_path / "model.program.json").source_sha256 == sha256(tmp_path / "model.onnx")


def test_a_gpu_gets_none_unless_the_recipe_measures_on_sparse_cpu(tmp_path):
    entries = {"sparse": onnx_file(tmp_path / "model.onnx")}
    assert "program" not in with_programs(tmp_path, entries, BOARD, needed=False).entries["sparse"]
    assert "program" in with_programs(tmp_path, entries, BOARD, needed=True).entries["sparse"]


def test_an_unknown_operator_stops_the_export_or_is_a_warning(tmp_path):
    entries = {
        "sparse": onnx_file(tmp_path / "model.onnx", operator="Erf"),
        "dense": onnx_file(tmp_path / "dense.onnx"),
    }
    with pytest.raises(UserError, match=r"Erf.*layer/bent"):
        with_programs(tmp_path, entries, LOCAL, needed=True)
    made = with_programs(tmp_path, entries, LOCAL, needed=False)
    assert "program" not in made.entries["sparse"]
    assert "program" in made.entries["dense"]
    (warning,) = made.warnings
    assert warning.startswith("sparse has no program for sparse_cpu")
    assert "Erf" in warning
    assert "layer/bent" in warning


def test_programs_of_an_earlier_export_go(tmp_path):
    entries = {"sparse": onnx_file(tmp_path / "model.onnx"), "dense": onnx_file(tmp_path / "dense.onnx")}
    with_programs(tmp_path, entries, LOCAL, needed=True)
    with_programs(tmp_path, {"sparse": entries["sparse"]}, LOCAL, needed=True)
    assert {path.name for path in tmp_path.glob("*.program.*")} == {"model.program.json", "model.program.npz"}


@pytest.mark.parametrize(
    ("target", "here", "machines"),
    [
        ("raspberry-pi-5", "aarch64-linux-gnu", {"aarch64-linux-gnu"}),
        ("raspberry-pi-5", "x86_64-linux-gnu", {"aarch64-linux-gnu", "x86_64-linux-gnu"}),
        ("jetson-orin", "x86_64-linux-musl", {"aarch64-linux-gnu", "x86_64-linux-musl"}),
        ("x86-avx2", "riscv64-linux-gnu", {"x86_64-linux-gnu"}),
        ("local", "x86_64-linux-gnu", {"aarch64-linux-gnu", "x86_64-linux-gnu"}),
    ],
)
def test_a_bundle_gets_the_library_of_each_machine_that_measures_it(target, here, machines, monkeypatch, tmp_path):
    monkeypatch.setattr("edgeprune.steps.compile.build_library", lambda triple: tmp_path / triple)
    monkeypatch.setattr("edgeprune.steps.compile.library.triple", lambda: here)
    network = {"sparse": NetworkFile(tmp_path / "model.onnx", "fp32", (tmp_path / "model.program.json",))}
    assert set(libraries(TARGETS[target], network, needed=True)) == machines
    assert libraries(TARGETS[target], {"sparse": NetworkFile(tmp_path / "model.onnx")}, needed=True) == {}


@pytest.mark.parametrize("lacks", ["a compiler", "a cache"])
def test_what_cannot_be_built_matters_only_where_it_is_needed(monkeypatch, tmp_path, capsys, lacks):
    if lacks == "a compiler":
        monkeypatch.setattr(native.importlib.util, "find_spec", lambda name: None)
    else:
        (tmp_path / "file").write_text("no folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    network = {"sparse": NetworkFile(tmp_path / "model.onnx", "fp32", (tmp_path / "model.program.json",))}
    assert libraries(LOCAL, network, needed=False) == {}
    said = capsys.readouterr().err
    assert said.startswith("warning: the bundle has no library of sparse_cpu: ")
    assert {"a compiler": "pip install ziglang", "a cache": "set XDG_CACHE_HOME"}[lacks] in said
    with pytest.raises(UserError):
        libraries(LOCAL, network, needed=True)


@pytest.mark.parametrize(
    ("networks", "runtimes"),
    [
        ({"dense": True, "sparse": True, "sparse-int8": False}, ("ort", "sparse_cpu")),
        ({"dense": False, "sparse": True}, ("ort",)),
        ({"sparse-int8": False}, ("ort",)),
    ],
)
def test_a_bundle_for_a_cpu_is_measured_on_sparse_cpu_where_all_in_fp32_have_programs(
    networks, runtimes, monkeypatch, tmp_path
):
    files = {
        name: NetworkFile(tmp_path / name, "int8" if name.endswith("int8") else "fp32", (tmp_path,) if beside else ())
        for name, beside in networks.items()
    }
    written: list[tuple[str, ...]] = []
    monkeypatch.setattr(compiling, "exported_networks", lambda folder: files)
    monkeypatch.setattr(compiling, "build_library", lambda triple: tmp_path / triple)
    monkeypatch.setattr(compiling, "_write", lambda bench, folder, chosen, runtimes, *rest: written.append(runtimes))
    bench = SimpleNamespace(run={"export": tmp_path, "compile": tmp_path})
    compiling.compile_for(bench, TARGETS["raspberry-pi-5"], lambda *told: None)
    assert written == [runtimes]


def test_a_bundle_lists_programs_and_libraries_with_their_hashes(tmp_path):
    made = with_programs(tmp_path, {"sparse": onnx_file(tmp_path / "model.onnx")}, LOCAL, needed=True)
    library = tmp_path / "built" / "libedgeprune_sparse.so"
    library.parent.mkdir()
    library.write_bytes(b"a library")
    write_bundle(
        tmp_path / "bundle",
        name="tiny",
        networks={"sparse": network_file(tmp_path, made.entries["sparse"])},
        images=[np.zeros((3, 4, 4, 1), np.uint8)],
        preprocess=PREPROCESS,
        runtimes=["ort", "sparse_cpu"],
        workload=Workload(),
        libraries={"aarch64-linux-gnu": library},
    )
    listed = read_bundle(tmp_path / "bundle").files
    for name in ("model.program.json", "model.program.npz", "libraries/aarch64-linux-gnu/libedgeprune_sparse.so"):
        assert listed[name] == sha256(tmp_path / "bundle" / name)
    assert "runtimes/sparse_cpu/native/edgeprune_sparse.h" in listed
