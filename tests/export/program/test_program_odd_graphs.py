"""What a program cannot say is refused, with the operator and the node; what is odd but sound is done."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper
from program_graphs import Array, checked, compared, model_of, node, normal, ops, program_of_file, saved, whole

from export.program import to_program
from runtimes.errors import UserError

IMAGE: tuple[int | str, ...] = ("N", 4, 6, 6)
RELU = node("Relu", "x", "a")
TWICE = np.array([1, 1, 2, 2], np.float32)
HALF = np.array(0.5, np.float32)


def refused(model: ModelProto, folder: Path) -> UserError:
    with pytest.raises(UserError) as told:
        to_program(saved(model, folder))
    assert len(str(told.value).splitlines()) == 2
    assert not list(folder.glob("*.program.*"))
    return told.value


REFUSED: dict[str, tuple[list[NodeProto], dict[str, Array], str]] = {
    "unknown": ([RELU, node("Erf", "a", "y")], {}, "Erf '/Erf/y': the operator is not one that it knows"),
    "transposed convolution": ([node("ConvTranspose", "x w", "y")], {"w": normal(4, 2, 3, 3)}, "ConvTranspose"),
    "weights from the image": ([node("Conv", "x x", "y")], {}, "its input 1 is not a constant"),
    "bias of another length": ([node("Conv", "x w b", "y")], {"w": normal(4, 4, 3, 3), "b": normal(2)}, "its bias has"),
    "weight of other channels": ([node("Conv", "x w", "y")], {"w": normal(4, 3, 3, 3)}, "does not fit 4 channels"),
    "groups that do not divide": ([node("Conv", "x w", "y", group=3)], {"w": normal(4, 1, 3, 3)}, "in 3 groups"),
    "kernel larger than the image": ([node("Conv", "x w", "y")], {"w": normal(4, 4, 9, 9)}, "the shape"),
    "negative padding": ([node("Conv", "x w", "y", pads=[-1, 0, 0, 0])], {"w": normal(4, 4, 3, 3)}, "its padding"),
    "no such stride": ([node("Conv", "x w", "y", strides=[0, 1])], {"w": normal(4, 4, 3, 3)}, "not positive"),
    "product of images": ([node("MatMul", "x w", "y")], {"w": normal(6, 5)}, "only vectors"),
    "product from the left": ([node("MatMul", "w x", "y")], {"w": normal(6, 6)}, "its input 1 is not a constant"),
    "product of two values": ([node("MatMul", "x x", "y")], {}, "is not a constant"),
    "pool with gaps": ([node("MaxPool", "x", "y", kernel_shape=[2, 2], dilations=[2, 2])], {}, "has gaps"),
    "pool of padding alone": (
        [node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[2, 0, 0, 0])], {}, "as wide as its window",
    ),
    "more numbers than are counted": (
        [node("Resize", "x - s", "a"), node("Relu", "a", "y")],
        {"s": np.array([1, 1, 4000, 4000], np.float32)}, "would have the shape",
    ),
    "pool of one axis": ([node("MaxPool", "x", "y", kernel_shape=[2])], {}, "of two axes"),
    "pool with its indices": ([node("MaxPool", "x", "a i", kernel_shape=[2, 2]), node("Relu", "a", "y")], {}, ""),
    "average of padding and ceil": (
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4, ceil_mode=1,
              count_include_pad=1)], {}, "ceil_mode",
    ),
    "mean over channels": ([node("ReduceMean", "x", "y", axes=[1])], {}, "moves pixels"),
    "mean over the batch": ([node("ReduceMean", "x", "y", axes=[0])], {}, "along the batch"),
    "concat of the batch": ([RELU, node("Concat", "a x", "y", axis=0)], {}, "along the batch"),
    "concat of pixels": ([RELU, node("Concat", "a x", "y", axis=2)], {}, "axis of pixels"),
    "concat with a constant": ([node("Concat", "x c", "y", axis=1)], {"c": normal(1, 4, 6, 6)}, "is a constant"),
    "pixels moved": ([node("Transpose", "x", "y", perm=[0, 1, 3, 2])], {}, "moves pixels"),
    "batch moved": ([node("Transpose", "x", "y", perm=[1, 0, 2, 3])], {}, "moves the batch"),
    "images mixed": ([node("Reshape", "x s", "y")], {"s": whole(-1, 2)}, "mixes the images"),
    "images mixed by flattening": ([node("Flatten", "x", "y", axis=2)], {}, "mixes the images"),
    "a vector as an image": (
        [node("Flatten", "x", "a"), node("Reshape", "a s", "b"), node("MaxPool", "b", "y", kernel_shape=[2, 2])],
        {"s": whole(0, 1, 12, 12)}, "that is no image",
    ),
    "softmax of pixels": ([node("Softmax", "x", "y", axis=1)], {}, "not over all entries"),
    "a constant image": ([node("Add", "x c", "y")], {"c": normal(4, 6, 6)}, "differs from pixel to pixel"),
    "a constant that enlarges": ([node("Add", "x c", "y")], {"c": normal(1, 1, 4, 6, 6)}, "larger"),
    "divided by zero": ([node("Div", "x c", "y")], {"c": np.zeros(1, np.float32)}, "that is 0"),
    "divided by a value": ([node("Div", "c x", "y")], {"c": HALF}, "divides by a computed value"),
    "other pixels": ([node("GlobalAveragePool", "x", "g"), node("ReduceMean", "x", "m", axes=[2]),
                      node("Add", "m x", "y")], {}, "do not go together"),
    "maximum of two": ([RELU, node("Max", "a x", "y")], {}, "two computed values"),
    "clip upside down": ([node("Clip", "x a b", "y")], {"a": HALF, "b": -HALF}, "clips between"),
    "clip at nan": ([node("Clip", "x a", "y")], {"a": np.array(np.nan, np.float32)}, "clips between nan"),
    "clip by a value": ([node("ReduceMean", "x", "m"), node("Clip", "x m", "y")], {}, ""),
    "reflected border": ([node("Pad", "x p", "y", mode="reflect")], {"p": whole(0, 0, 1, 1, 0, 0, 1, 1)}, "'reflect'"),
    "cropping border": ([node("Pad", "x p", "y")], {"p": whole(0, 0, -1, 0, 0, 0, 0, 0)}, "it pads by"),
    "border of the batch": ([node("Pad", "x p", "y")], {"p": whole(1, 0, 0, 0, 0, 0, 0, 0)}, "it pads by"),
    "channels of ones": ([node("Pad", "x p v", "y")], {"p": whole(0, 1, 0, 0, 0, 0, 0, 0), "v": HALF}, "of zeros"),
    "blended pixels": ([node("Resize", "x - s", "y", mode="linear")], {"s": TWICE}, "blends"),
    "half as large": ([node("Resize", "x - s", "y")], {"s": np.sqrt(1 / TWICE)}, "not a repetition"),
    "corners aligned": (
        [node("Resize", "x - s", "y", coordinate_transformation_mode="align_corners", nearest_mode="floor")],
        {"s": TWICE}, "not a repetition",
    ),
    "split that does not add up": ([node("Split", "x s", "y b", axis=1)], {"s": whole(1, 1)}, "do not split"),
    "nothing left": ([node("Slice", "x a b c", "y")], {"a": whole(3), "b": whole(3), "c": whole(1)}, "nothing is left"),
    "statistics of the batch": (
        [node("BatchNormalization", "x g g g g", "y m v", training_mode=1)], {"g": normal(4)}, "of the batch",
    ),
    "statistics that are none": (
        [node("BatchNormalization", "x g g g v", "y")], {"g": normal(4), "v": np.full(4, -1, np.float32)}, "not finite",
    ),
    "to whole numbers": ([node("Cast", "x", "a", to=7), node("Cast", "a", "y", to=1)], {}, "leaves float32"),
    "gathered by the image": ([node("Cast", "x", "i", to=7), node("Gather", "x i", "y")], {}, "Cast"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_said_is_refused_by_operator_and_node(name: str, tmp_path: Path) -> None:
    nodes, constants, told = REFUSED[name]
    message = refused(model_of(nodes, constants, IMAGE), tmp_path).message
    assert told in message
    if name != "pool with its indices":
        assert any(f"{one.op_type} '{one.name}'" in message for one in nodes)


def test_an_operator_of_another_domain_is_unknown_whatever_its_name(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"], name="r", domain="com.example")], {})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "com.example::Relu 'r': the operator is not one that it knows" in refused(model, tmp_path).message


def test_constants_that_contradict_each_other_are_told(tmp_path: Path) -> None:
    nodes = [node("Reshape", "c s", "w"), node("Conv", "x w", "y")]
    model = model_of(nodes, {"c": normal(7), "s": whole(2, 4, 1, 1)})
    assert "do not fit together" in refused(model, tmp_path).message


def test_a_branch_in_the_graph_is_an_unknown_operator(tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("o", TensorProto.FLOAT, None)
    inner = helper.make_graph([node("Relu", "x", "o")], "g", [], [image])
    model = model_of([node("If", "c", "y", then_branch=inner, else_branch=inner)], {"c": np.array(True)})
    assert "If '/If/y'" in refused(model, tmp_path).message


@pytest.mark.parametrize(
    ("shape", "kind", "told"),
    [
        (("N", 4, "H", "W"), TensorProto.FLOAT, "(N, 4, H, W)"),
        (("N", 4, 6), TensorProto.FLOAT, "(N, 4, 6)"),
        (IMAGE, TensorProto.DOUBLE, "is double"),
        (IMAGE, TensorProto.FLOAT16, "is fp16: 'x' is"),
    ],
)
def test_an_input_that_is_no_image_of_fixed_size_in_float32_is_refused(
    shape: tuple[int | str, ...], kind: int, told: str, tmp_path: Path
) -> None:
    model = model_of([node("Relu", "x", "y")], {}, shape)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.elem_type = kind
    assert told in refused(model, tmp_path).message


def test_two_inputs_are_refused_by_name(tmp_path: Path) -> None:
    model = model_of([node("Add", "x z", "y")], {})
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, list(IMAGE)))
    assert "x, z" in refused(model, tmp_path).message


def test_an_answer_without_the_image_and_one_that_is_the_image_are_refused(tmp_path: Path) -> None:
    fixed = model_of([node("Relu", "c", "y")], {"c": normal(2, 3)})
    assert "is a constant" in refused(fixed, tmp_path).message
    same = model_of([node("Identity", "x", "y")], {})
    assert "computes nothing" in refused(same, tmp_path).message


def test_a_file_that_is_missing_or_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        to_program(tmp_path / "none.onnx")
    (tmp_path / "m.onnx").write_bytes(b"no protocol buffer")
    with pytest.raises(UserError, match="is not a whole ONNX model"):
        to_program(tmp_path / "m.onnx")


# Odd, but sound ------------------------------------------------------------------------------------------------------


def test_a_fixed_batch_answers_any_number_of_images(tmp_path: Path) -> None:
    nodes = [node("GlobalAveragePool", "x", "a"), node("Reshape", "a s", "b"), node("Gemm", "b w", "y")]
    constants = {"s": whole(3, 4), "w": normal(4, 5)}
    fixed = checked(model_of(nodes, constants, (3, 4, 6, 6)), tmp_path)
    assert ops(fixed) == ["global_average", "linear"]
    free = checked(model_of(nodes, {**constants, "s": whole(-1, 4)}, IMAGE), tmp_path, batch=5)
    assert [one.op for one in free.operations] == ops(fixed)


def test_a_shape_that_is_computed_from_the_input_is_known_beforehand(tmp_path: Path) -> None:
    nodes = [
        node("Shape", "x", "s"),
        node("Gather", "s zero", "n"),
        node("Concat", "n rest", "t", axis=0),
        node("Reshape", "x t", "y"),
    ]
    assert ops(checked(model_of(nodes, {"zero": whole(0), "rest": whole(-1)}, IMAGE), tmp_path)) == ["flatten"]


def test_a_network_of_vectors(tmp_path: Path) -> None:
    nodes = [node("Gemm", "x w b", "a", transB=1), node("Relu", "a", "c"), node("Gemm", "c v", "y")]
    constants = {"w": normal(7, 9), "b": normal(7), "v": normal(7, 3)}
    program = checked(model_of(nodes, constants, ("N", 9)), tmp_path)
    assert ops(program) == ["linear", "linear"]
    assert program.tensors[program.input].shape == (9, 1, 1)


def test_nodes_without_names_are_called_by_what_they_give(tmp_path: Path) -> None:
    bare = node("Erf", "x", "y")
    bare.name = ""
    assert "Erf 'Erf -> y'" in refused(model_of([bare], {}), tmp_path).message
    named = node("Sigmoid", "x", "y")
    named.name = ""
    assert program_of_file(saved(model_of([named], {}), tmp_path)).operations[0].name == "y"


def test_more_parts_than_an_operation_takes_are_joined_in_steps(tmp_path: Path) -> None:
    parts = [node("HardSigmoid", "x", f"p{at}", alpha=0.1 + at / 100) for at in range(70)]
    joined = node("Concat", " ".join(f"p{at}" for at in range(70)), "y", axis=1)
    program = checked(model_of([*parts, joined], {}, ("N", 1, 2, 2)), tmp_path)
    assert ops(program)[70:] == ["concat", "concat", "concat"]
    assert max(len(one.inputs) for one in program.operations) == 64


def test_the_first_of_several_answers_is_given_and_the_others_are_named(tmp_path: Path) -> None:
    model = model_of([RELU, node("GlobalAveragePool", "a", "y")], {}, outputs=("y", "a"))
    written = to_program(saved(model, tmp_path))
    assert written.doubts == ["only the first output, 'y', is answered; not a"]
    compared(tmp_path / "m.onnx", normal(2, 4, 6, 6))


def test_weights_that_the_file_lists_among_its_inputs_are_weights(tmp_path: Path) -> None:
    model = model_of([node("Conv", "x w", "y")], {"w": normal(3, 4, 3, 3)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3, 4, 3, 3]))
    assert ops(program_of_file(saved(model, tmp_path))) == ["conv"]


def test_the_files_are_named_after_the_onnx_file_and_go_where_they_are_told(tmp_path: Path) -> None:
    path = tmp_path / "a.b.onnx"
    onnx.save(model_of([node("Relu", "x", "y")], {}), path)
    assert to_program(path).json == tmp_path / "a.b.program.json"
    written = to_program(path, tmp_path / "there")
    assert {one.name for one in (tmp_path / "there").iterdir()} == {"a.b.program.json", "a.b.program.npz"}
    assert written.program.name == "a.b"
