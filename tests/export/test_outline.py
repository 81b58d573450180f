"""What a plan reads out of files: of other exporters, with or without their weights, whole or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export_graphs import conv, graph, only, tensor
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.plan import plan
from export.plan.outline import read_outline
from export.targets import TARGETS
from runtimes.errors import UserError

ORIN = TARGETS["jetson-orin"]


def quantized(forms: list[str]) -> ModelProto:
    """A linear layer whose weight, stored (out, in), goes through `forms` on its way to the MatMul."""
    nodes, last = [], "fc.weight"
    for at, form in enumerate(forms):
        more = ["scale", "zero"] if "quantize" in form.lower() else []
        kept = {"to": TensorProto.FLOAT} if form == "Cast" else {"perm": [1, 0]} if form == "Transpose" else {}
        nodes.append(helper.make_node(form, [last, *more], [f"w{at}"], **kept))
        last = f"w{at}"
    small = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.int8(0), "zero")]
    nodes.append(helper.make_node("MatMul", ["x", last], ["y"]))
    return graph(nodes, [tensor("fc.weight", 256, 512), *small], x=["n", 512])


@pytest.mark.parametrize(
    "forms", [["Transpose"], ["Identity", "Transpose"], ["QuantizeLinear", "DequantizeLinear", "Transpose"], ["Cast"]]
)
def test_a_weight_in_another_form_is_a_constant_under_its_name(forms: list[str]) -> None:
    model = quantized(forms) if "Transpose" in forms else quantized([*forms, "Transpose"])
    layer = only(model)
    assert (layer.name, layer.shape, layer.worth_it) == ("fc", (256, 512), True)


def test_names_of_other_exporters() -> None:
    """Invented names of weights give way to the node's; equal names are told apart."""
    nodes = [
        helper.make_node("Conv", ["x", "onnx::Conv_12"], ["a"], name="/block/conv/Conv"),
        helper.make_node("Conv", ["a", "onnx::Conv_13"], ["b"], name="/block/conv/Conv"),
        helper.make_node("Conv", ["b", "w3"], ["c"]),
    ]
    weights = [tensor(name, 8, 8, 1, 1) for name in ("onnx::Conv_12", "onnx::Conv_13", "w3")]
    made = plan(graph(nodes, weights, x=[1, 8, 8, 8]), ORIN, name="hand")
    assert [layer.name for layer in made.layers] == ["/block/conv/Conv", "/block/conv/Conv#2", "w3"]


def test_sizes_that_the_file_computes_are_followed() -> None:
    """As torch's exporter writes a flatten of a free batch: Shape, Gather, Concat, Reshape."""
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["a"]),
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["u"]),
        helper.make_node("Concat", ["u", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["a", "target"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight"], ["y"], transB=1),
    ]
    held = {"zero": np.int64(0), "axes": np.array([0]), "rest": np.array([-1])}
    small = [numpy_helper.from_array(np.asarray(value, np.int64), name) for name, value in held.items()]
    weights = [tensor("c.weight", 8, 4, 1, 1), tensor("fc.weight", 300, 8 * 64)]
    made = plan(graph(nodes, [*weights, *small], x=["batch", 4, 8, 8]), ORIN, name="hand")
    assert [layer.macs for layer in made.layers] == [8 * 4 * 64, 300 * 8 * 64]
    assert made.layers[1].output_shape == (1, 300)


# --- files of all kinds


def saved(model: ModelProto, path: Path, **options: Any) -> Path:
    onnx.save(model, path, **options)
    return path


def test_weights_beside_the_file_need_not_be_there(tmp_path: Path) -> None:
    model = conv("c", 256, 256, 3, 3)
    expected = only(model)
    path = saved(model, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").stat().st_size > 10 * path.stat().st_size
    (tmp_path / "m.data").unlink()
    assert only(read_outline(path)) == expected


def test_a_file_of_before_ir_version_4_lists_its_weights_as_inputs(tmp_path: Path) -> None:
    model = conv("c", 256, 64, 3, 3)
    expected = only(model)
    model.graph.input.append(helper.make_tensor_value_info("c.weight", TensorProto.FLOAT, [256, 64, 3, 3]))
    model.ir_version = 3
    assert only(read_outline(saved(model, tmp_path / "m.onnx"))) == expected


def test_a_weight_in_a_constant_node_and_layers_in_a_function() -> None:
    held = helper.make_node("Constant", [], ["c.weight"], value=tensor("", 256, 64, 3, 3))
    multiply = helper.make_node("Conv", ["x", "c.weight"], ["y"])
    made = graph([held, multiply], [], x=["n", 64, 8, 8])
    assert only(made) == only(conv("c", 256, 64, 3, 3))
    body = helper.make_function(
        "own", "Block", ["a", "b"], ["c"], [helper.make_node("Conv", ["a", "b"], ["c"])], [helper.make_opsetid("", 17)]
    )
    called = graph(
        [helper.make_node("Block", ["x", "c.weight"], ["y"], domain="own")],
        [tensor("c.weight", 256, 64, 3, 3)],
        x=["n", 64, 8, 8],
    )
    called.opset_import.append(helper.make_opsetid("own", 1))
    called.functions.append(body)
    assert only(called) == only(conv("c", 256, 64, 3, 3))


def test_free_sizes_of_images_take_the_size_that_is_asked_for(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "c.weight"], ["y"])
    path = saved(graph([node], [tensor("c.weight", 8, 4, 1, 1)], x=["n", 4, "h", "w"]), tmp_path / "m.onnx")
    assert only(read_outline(path, image_size=10)).macs == 100 * 32
    with pytest.raises(UserError, match=r"'y' is 1 x 8 x \? x \?") as told:
        plan(read_outline(path), ORIN, name="m")
    assert "--image-size" in told.value.hint


def test_images_with_the_channels_last_take_it_too(tmp_path: Path) -> None:
    """As converters from TensorFlow write them: turned round before the first convolution."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "c.weight"], ["y"]),
    ]
    path = saved(graph(nodes, [tensor("c.weight", 8, 4, 1, 1)], x=["n", "h", "w", 4]), tmp_path / "m.onnx")
    assert only(read_outline(path, image_size=10)).output_shape == (1, 8, 10, 10)


def test_files_that_are_none_are_told(tmp_path: Path) -> None:
    whole = saved(conv("c", 256, 256, 3, 3), tmp_path / "whole.onnx").read_bytes()
    for name, content in {
        "half": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a model",
        "zip": b"PK\3\4",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is not a whole ONNX model"):
            read_outline(tmp_path / name)
    with pytest.raises(UserError, match=r"nowhere\.onnx is missing"):
        read_outline(tmp_path / "nowhere.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read_outline(tmp_path / "folder.onnx")


def test_shapes_that_contradict_each_other_are_told() -> None:
    node = helper.make_node("Conv", ["x", "c.weight"], ["y"])
    with pytest.raises(UserError, match="'y' is unknown"):
        plan(graph([node], [tensor("c.weight", 8, 4, 3, 3)], x=[1, 4, 8]), ORIN, name="hand")


def test_sizes_that_cannot_be_computed_are_told() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "ninth"], ["n"]),
        helper.make_node("Reshape", ["x", "n"], ["r"]),
        helper.make_node("Conv", ["r", "c.weight"], ["y"]),
    ]
    weights = [tensor("c.weight", 8, 4, 3, 3), numpy_helper.from_array(np.array([9]), "ninth")]
    with pytest.raises(UserError, match=r"not possible: .*out of bounds"):
        plan(graph(nodes, weights, x=[1, 4, 8, 8]), ORIN, name="hand")
