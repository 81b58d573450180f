"""A look at files that are there already, of edgeprune and of others: what is refused, counted and told."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from export_graphs import conv, graph, matmul, tensor
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export import graph as graphs
from export.examine import examine
from export.plan import plan
from export.plan.outline import read_outline
from export.targets import TARGETS
from runtimes.errors import UserError

ORIN = TARGETS["jetson-orin"]


def examined(model: ModelProto, folder: Path, *planned: str) -> list[str]:
    helper.set_model_props(model, {"edgeprune.planned": json.dumps(planned)} if planned else {})
    onnx.save(model, folder / "m.onnx")
    return examine(folder / "m.onnx", None)


def refused(model: ModelProto, folder: Path, *planned: str) -> UserError:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as caught:
            examined(model, folder, *planned)
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


def held(name: str, *shape: int) -> TensorProto:
    """A weight that is 2:4 along dim 1."""
    value = np.ones(shape, np.float32)
    value[:, ::2] = 0
    return numpy_helper.from_array(value, name)


def two(second: str, *more: TensorProto, **inputs: list[int | str]) -> ModelProto:
    """Two convolutions, the first with a stored weight that is 2:4, the second with the weight `second`."""
    nodes = [
        helper.make_node("Conv", ["x", "good.weight"], ["a"]),
        helper.make_node("Sigmoid", ["other.weight"], ["computed"], name="soft"),
        helper.make_node("Conv", ["a", second], ["y"]),
    ]
    weights = [held("good.weight", 8, 8, 1, 1), tensor("other.weight", 8, 8, 1, 1), *more]
    return graph(nodes, weights, x=["n", 8, 4, 4], **inputs)


@pytest.mark.parametrize("planned", [(), ("good",), ("good", "other")])
def test_a_weight_that_is_computed_is_refused_planned_or_not(planned: tuple[str, ...], tmp_path: Path) -> None:
    told = refused(two("computed"), tmp_path, *planned)
    assert "layer 'other' of" in told.message
    assert "computed when it runs, in 'soft'" in told.message


@pytest.mark.parametrize("side", [0, 1])
def test_a_mask_that_is_left_is_found_on_either_side_of_a_product(side: int, tmp_path: Path) -> None:
    reads = ["x", "masked"] if side else ["masked", "x"]
    nodes = [
        helper.make_node("Mul", ["w", "mask"], ["masked"], name="masking"),
        helper.make_node("MatMul", reads, ["y"]),
    ]
    model = graph(nodes, [tensor("w", 8, 8), tensor("mask", 8, 8)], x=[8, 8])
    assert "still multiplies by a mask when it runs, in 'masking'" in refused(model, tmp_path).message


@pytest.mark.parametrize("planned", [(), ("gone",)])
def test_a_weight_that_is_an_input_is_called_so_and_not_a_mask(planned: tuple[str, ...], tmp_path: Path) -> None:
    told = refused(two("given", given=[8, 8, 1, 1]), tmp_path, *planned)
    assert told.message.endswith("its weight is an input of the graph")
    assert "mask" not in str(told)


def test_a_weight_in_a_constant_node_is_constant_and_the_file_is_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["c.weight"], value=held("", 8, 8, 1, 1)),
        helper.make_node("Conv", ["x", "c.weight"], ["y"]),
    ]
    model = graph(nodes, [], x=["n", 8, 4, 4])
    assert examined(model, tmp_path, "c") == ["m.onnx: all 1 layers that it plans to be 2:4 are"]
    assert onnx.load(tmp_path / "m.onnx") == model


@pytest.mark.parametrize(
    ("model", "could_be"),
    [
        (conv("c", 8, 8, 1, 1), 1),
        (conv("c", 8, 4, 3, 3, groups=8), 0),
        (matmul(8, 12), 1),
        (matmul(7, 8, 12), 0),
        (graph([helper.make_node("MatMul", ["w", "x"], ["y"])], [tensor("w", 12, 8)], x=["n", 8, 5]), 0),
    ],
)
def test_only_what_the_plan_finds_legal_counts_as_what_could_be_2_to_4(
    model: ModelProto, could_be: int, tmp_path: Path
) -> None:
    assert examined(model, tmp_path) == [
        f"m.onnx: plans no layer to be N:M; 0 of {could_be} layers that could be 2:4 are"
    ]
    (layer,) = plan(model, ORIN, name="hand").layers
    assert layer.eligible == bool(could_be)


def quantised(kind: int, scale: np.ndarray, opset: int = 17, quantise: bool = False, **told: int) -> ModelProto:
    """A product whose weight is stored as `kind`, or made so when the file runs."""
    stored = TensorProto.FLOAT if quantise else kind
    weight = helper.make_tensor("fc.weight", stored, [8, 12], np.ones(96, np.float32))
    zero = helper.make_tensor("zero", kind, scale.shape, np.zeros(scale.size, np.float32))
    steps = ["scale", "zero"]
    nodes = [helper.make_node("QuantizeLinear", ["fc.weight", *steps], ["q"], **told)] if quantise else []
    nodes += [
        helper.make_node("DequantizeLinear", ["q" if quantise else "fc.weight", *steps], ["d"], **told),
        helper.make_node("MatMul", ["x", "d"], ["y"]),
    ]
    model = graph(nodes, [weight, numpy_helper.from_array(scale, "scale"), zero], x=["n", 8])
    model.opset_import[0].version, model.ir_version = opset, 8 if opset == 17 else 10
    return model


INT8, FLOAT8 = TensorProto.INT8, TensorProto.FLOAT8E4M3FN


@pytest.mark.parametrize(
    "model",
    [
        quantised(INT8, np.full((2, 12), 0.1, np.float32), 21, axis=0, block_size=4),
        quantised(FLOAT8, np.full(12, 0.1, np.float32), 21, True, axis=1),
        quantised(INT8, np.full(12, 0.1, np.float32), axis=2),
        quantised(INT8, np.full(12, 0.1, np.float32), axis=0),
        quantised(INT8, np.zeros(12, np.float32), axis=1),
        quantised(INT8, np.zeros(12, np.float32), 17, True, axis=1),
    ],
    ids=["by blocks", "float8", "axis beyond the rank", "scale of another length", "scale 0", "scale 0 both ways"],
)
def test_a_weight_in_a_form_that_cannot_be_read_is_told_by_its_layer(model: ModelProto, tmp_path: Path) -> None:
    assert "layer 'fc' of" in refused(model, tmp_path).message
    assert "cannot read the form its weight is stored in" in refused(model, tmp_path).message


def test_stored_float8_and_an_axis_from_the_end_are_read(tmp_path: Path) -> None:
    for model in (
        quantised(FLOAT8, np.full(12, 0.5, np.float32), 21, axis=-1),
        quantised(INT8, np.full(12, 0.5, np.float32), axis=-1),
    ):
        (layer,) = graphs.layers(model.graph)
        np.testing.assert_array_equal(layer.weight, np.full((12, 8), 0.5))
        assert "0 of 1 layers" in examined(model, tmp_path)[0]


# --- one reader


def test_both_readers_tell_the_same_of_a_file_that_is_none(tmp_path: Path) -> None:
    whole = conv("c", 8, 8, 3, 3)
    onnx.save(whole, tmp_path / "whole")
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "half").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    other = conv("c", 8, 8, 3, 3)
    other.graph.node.append(helper.make_node("Bar", ["y"], ["z"]))
    onnx.save(other, tmp_path / "other")
    for name, words in {
        "half": "is not a whole ONNX model",
        "empty": "is not a whole ONNX model",
        "folder": "cannot be read: Is a directory",
        "nowhere": "is missing",
        "other": "has an operator that ONNX does not: No Op registered for Bar",
    }.items():
        told = []
        for reader in (graphs.read, read_outline):
            with pytest.raises(UserError, match=words) as caught:
                reader(tmp_path / name)
            told.append(caught.value.message)
        assert told[0] == told[1]


def test_both_readers_take_outputs_of_an_open_rank(tmp_path: Path) -> None:
    """As runtimes do; and they hand on what the file says, not what the checker wants to see there."""
    model = conv("c", 8, 8, 3, 3)
    assert not model.graph.output[0].type.tensor_type.HasField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    assert graphs.read(tmp_path / "m.onnx") == model
    assert not read_outline(tmp_path / "m.onnx").graph.output[0].type.tensor_type.HasField("shape")


def test_weights_beside_the_file_are_refused_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(conv("c", 8, 8, 3, 3), path, save_as_external_data=True, location="m.data", size_threshold=0)
    for folder in (tmp_path, Path("/")):
        monkeypatch.chdir(folder)
        with pytest.raises(UserError, match=r"in one file: 'c\.weight' lies beside it"):
            graphs.read(path)
        assert len(plan(read_outline(path), ORIN, name="m").layers) == 1
