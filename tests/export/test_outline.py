"""What a plan reads out of files: of other exporters, with or without their weights, whole or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from export_graphs import conv, graph, only, tensor
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.n_of_m import hold_to
from export.plan import as_text, plan
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


# --- sizes that the file states


def test_only_a_free_batch_becomes_one_image() -> None:
    """Another input keeps its first axis: a kernel of 32 outputs is no batch of 32; a number alone has no axis."""
    nodes = [
        helper.make_node("Conv", ["x", "c.weight"], ["a"]),
        helper.make_node("Conv", ["a", "kernel"], ["b"], name="dynamic"),
        helper.make_node("Mul", ["b", "factor"], ["y"]),
    ]
    weights = [tensor("c.weight", 8, 4, 1, 1)]
    made = plan(graph(nodes, weights, x=["n", 4, 5, 5], kernel=[32, 8, 1, 1], factor=[]), ORIN, name="hand")
    assert [layer.macs for layer in made.layers] == [25 * 8 * 4, 25 * 32 * 8]
    assert made.layers[1].output_shape == (1, 32, 5, 5)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (graph([helper.make_node("Conv", ["x", "c"], ["y"])], [tensor("c", 8, 4, 5, 5)], x=["n", 4, 2, 2]), "-2 x -2"),
        (graph([helper.make_node("Conv", ["x", "c"], ["y"])], [tensor("c", 8, 4, 1, 1)], x=["n", 4, 0, 0]), "0 x 0"),
        (graph([helper.make_node("Gemm", ["x", "c"], ["y"])], [tensor("c", 0, 8)], x=["n", 0]), "'x' is 1 x 0"),
        (
            graph([helper.make_node("Conv", ["x", "c"], ["y"])], [tensor("c", 8, 16, 1, 1)], x=["n", 8, 4, 4]),
            "reads 8 channels, and its weight is for 16",
        ),
        (
            graph([helper.make_node("ConvTranspose", ["x", "c"], ["y"])], [tensor("c", 16, 8, 1, 1)], x=[1, 8, 4, 4]),
            "reads 8 channels, and its weight is for 16",
        ),
    ],
)
def test_sizes_that_leave_nothing_or_do_not_fit_are_told_with_the_layer(model: ModelProto, words: str) -> None:
    with pytest.raises(UserError, match="layer 'c' ") as caught:
        plan(model, ORIN, name="hand")
    assert words in caught.value.message


def test_an_image_size_that_nothing_is_open_for_is_refused(tmp_path: Path) -> None:
    path = saved(conv("c", 8, 4, 1, 1), tmp_path / "m.onnx")
    with pytest.raises(UserError, match=r"leaves no size of its images open: 'x' is n x 4 x 8 x 8"):
        read_outline(path, image_size=10)
    flat = saved(graph([helper.make_node("Relu", ["x"], ["y"])], [], x=["n", "c"]), tmp_path / "flat.onnx")
    with pytest.raises(UserError, match="no input is of images"):
        read_outline(flat, image_size=10)


def test_the_image_that_a_plan_is_for_stands_in_it(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "c.weight"], ["y"])
    path = saved(graph([node], [tensor("c.weight", 8, 4, 1, 1)], x=["n", 4, "h", "w"]), tmp_path / "m.onnx")
    made = plan(read_outline(path, image_size=10), ORIN, name="m")
    assert made.to_json()["image_shape"] == (4, 10, 10)
    assert as_text(made).splitlines()[0].endswith("multiply-adds for one image of 4 x 10 x 10")
    flat = graph([helper.make_node("MatMul", ["x", "w"], ["y"])], [tensor("w", 8, 4)], x=["n", 8])
    assert plan(flat, ORIN, name="m").image_shape is None


def test_the_first_node_that_gives_an_unknown_size_is_named() -> None:
    nodes = [
        helper.make_node("Swish", ["x"], ["s"], name="own", domain="com.example"),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("Conv", ["r", "c.weight"], ["y"]),
    ]
    made = graph(nodes, [tensor("c.weight", 8, 4, 1, 1)], x=["n", 4, 8, 8])
    made.opset_import.append(helper.make_opsetid("com.example", 1))
    with pytest.raises(UserError, match=r"the first that is not known is what 'own' \(Swish\) gives") as caught:
        plan(made, ORIN, name="hand")
    assert "--image-size" not in caught.value.hint
    assert "com.example.Swish" in caught.value.hint


def test_where_nothing_can_be_planned_what_was_seen_is_told() -> None:
    inner = helper.make_node("Conv", ["x", "w"], ["i"])
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("i", TensorProto.FLOAT, None)])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(UserError, match="it has 1 x If, which a plan does not look into"):
        plan(graph([choice], [tensor("w", 8, 4, 1, 1)], x=[1, 4, 8, 8], c=[]), ORIN, name="hand")
    given = graph([helper.make_node("Conv", ["x", "k"], ["y"])], [], x=[1, 4, 8, 8], k=[8, 4, 1, 1])
    with pytest.raises(UserError, match="it has the Conv 'Conv -> y', its weight is an input of the graph"):
        plan(given, ORIN, name="hand")


@pytest.mark.parametrize("how", ["Mul", "Sigmoid"])
def test_a_weight_computed_from_constants_is_to_be_baked_in(how: str) -> None:
    """The gate of the export refuses such a layer; the plan does not call it legal."""
    reads = ["c.weight", "mask"] if how == "Mul" else ["c.weight"]
    nodes = [helper.make_node(how, reads, ["w"]), helper.make_node("Conv", ["x", "w"], ["y"])]
    model = graph(nodes, [tensor("c.weight", 256, 256, 1, 1), tensor("mask", 256, 256, 1, 1)], x=["n", 256, 8, 8])
    layer = only(model)
    assert (layer.name, layer.eligible, layer.worth_it) == ("c", False, False)
    assert layer.reason == "its weight is computed from constants when the file runs: bake it in"
    with pytest.raises(UserError, match=r"layer 'c' of .*computed when it runs"):
        hold_to(model, Path("m.onnx"), ["c"], "2:4")


def test_a_constant_on_the_left_is_a_weight_that_no_rule_is_known_for() -> None:
    node = helper.make_node("MatMul", ["fc.weight", "x"], ["y"])
    layer = only(graph([node], [tensor("fc.weight", 512, 256)], x=["n", 256, 10]))
    assert (layer.name, layer.kind, layer.shape, layer.macs) == ("fc", "linear", (512, 256), 512 * 256 * 10)
    assert not layer.eligible
    assert "on the left of the product" in str(layer.reason)
