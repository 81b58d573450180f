"""The reader of ONNX inputs without the onnx package, against the onnx package."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, save

from runtimes.errors import UserError
from runtimes.onnx_input import onnx_input

SMALL = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)


def written(path, shape, *, name="input", extra=(), weights_are_inputs=False, elements=1):
    """A network that answers its input: `extra` names further inputs."""
    weight = numpy_helper.from_array(np.zeros(elements, dtype=np.float32), "weight")
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    inputs += [helper.make_tensor_value_info(other, TensorProto.FLOAT, [1]) for other in extra]
    if weights_are_inputs:
        inputs.insert(0, helper.make_tensor_value_info("weight", TensorProto.FLOAT, [elements]))
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    graph = helper.make_graph([helper.make_node("Identity", [name], ["logits"])], "g", inputs, outputs, [weight])
    save(helper.make_model(graph, producer_name="x" * 200), path)
    return path


def test_the_tiny_networks(tiny_onnx):
    assert onnx_input(tiny_onnx["dense"]) == ("input", [None, 1, 8, 8])


@SMALL
@given(
    st.text(min_size=1, max_size=200).filter(lambda text: text not in ("weight", "logits") and text.isprintable()),
    st.lists(st.none() | st.integers(1, 2**40) | st.sampled_from(["n", "batch"]), max_size=6),
    st.booleans(),
)
def test_names_and_shapes_are_those_that_onnx_wrote(tmp_path, name, shape, weights_are_inputs):
    path = written(tmp_path / "a.onnx", shape, name=name, weights_are_inputs=weights_are_inputs)
    assert onnx_input(path) == (name, [size if isinstance(size, int) else None for size in shape])


def test_a_file_with_much_weight_before_its_input_is_read(tmp_path):
    assert onnx_input(written(tmp_path / "a.onnx", ["n", 3], elements=1_000_000)) == ("input", [None, 3])


def test_other_numbers_of_inputs_are_named(tmp_path):
    with pytest.raises(UserError, match="these inputs: input, mask, size"):
        onnx_input(written(tmp_path / "a.onnx", [1], extra=["mask", "size"]))
    with pytest.raises(UserError, match="these inputs: none"):
        onnx_input(written(tmp_path / "a.onnx", [1], name="weight"))


def test_an_empty_or_missing_file_is_told(tmp_path):
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name in ("empty.onnx", "missing.onnx"):
        with pytest.raises(UserError, match=f"{name} is not a whole ONNX file"):
            onnx_input(tmp_path / name)


def test_every_truncation_is_told_or_still_holds_the_input(tmp_path):
    whole = written(tmp_path / "a.onnx", ["n", 3, 8, 8]).read_bytes()
    told = 0
    for length in range(1, len(whole)):
        (tmp_path / "cut.onnx").write_bytes(whole[:length])
        try:
            assert onnx_input(tmp_path / "cut.onnx") == ("input", [None, 3, 8, 8])
        except UserError:
            told += 1
    assert told > len(whole) * 0.9  # what comes after the graph is the opset, a few bytes


@SMALL
@given(st.binary(min_size=1, max_size=200))
def test_no_bytes_end_in_another_error(tmp_path, content):
    (tmp_path / "junk.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"junk\.onnx"):
        onnx_input(tmp_path / "junk.onnx")
