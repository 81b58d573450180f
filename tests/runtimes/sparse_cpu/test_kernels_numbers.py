"""Numbers that are none, exponentials, and what the CPU is said to be able to do."""

import platform
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from kernel_cases import RELU
from kernel_library import written
from kernel_programs import Builder
from onnx import TensorProto, helper, numpy_helper

from export.program.weights import dense

LAYERS = {
    "3x3": {"out": 4, "kernel": 3},
    "stride 2": {"out": 5, "kernel": 3, "stride": 2},
    "pointwise": {"out": 9, "kernel": 1},
    "depthwise": {"out": 3, "kernel": 3, "groups": 3},
    "uneven": {"out": 2, "kernel": (1, 5), "padding": (0, 4, 0, 1), "dilation": (1, 2)},
}
SPECIAL = (np.nan, np.inf, -np.inf, 3e38, -3e38)


def onnx_answer(op, images, *weights, **attributes):
    """What ONNX Runtime says of one node with these weights."""
    names = [f"w{i}" for i in range(len(weights))]
    held = [numpy_helper.from_array(value, name) for name, value in zip(names, weights, strict=True)]
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, images.shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node(op, ["x", *names], ["y"], **attributes)
    graph = helper.make_graph([node], "one", [given], [made], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": images})[0].reshape(len(images), -1)


def assert_alike(found, expected):
    """The same NaN and infinities, and everything else within rounding."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def spoiled(shape, seed=0):
    """One image for each special value, which stands at a few places of it; elsewhere are small numbers."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((len(SPECIAL), *shape)).astype(np.float32)
    for image, value in zip(images, SPECIAL, strict=True):
        image.flat[rng.choice(image.size, 3, replace=False)] = value
    return images


@pytest.mark.parametrize("layer", LAYERS)
def test_a_convolution_without_zeros_treats_what_is_no_number_as_onnx_runtime_does(
    sparse_library, kernels, tmp_path, layer
):
    built = Builder((3, 9, 11))
    built.conv(**LAYERS[layer], sparsity=0)
    [(_, path)] = written([built.case(layer)], tmp_path)
    images = spoiled((3, 9, 11))
    conv = built.operations[0]
    kernel, groups = conv.attributes["kernel"], conv.attributes["groups"]
    weight = conv.arrays["weight"].reshape(-1, 3 // groups, *kernel)
    attributes = {"strides": conv.attributes["stride"], "dilations": conv.attributes["dilation"]}
    expected = onnx_answer(
        "Conv", images, weight, conv.arrays["bias"], pads=conv.attributes["padding"], group=groups, **attributes
    )
    assert np.isnan(expected).any()
    assert_alike(sparse_library.answer(path, images, kernels), expected)


def test_a_linear_layer_without_zeros_treats_what_is_no_number_as_onnx_runtime_does(sparse_library, kernels, tmp_path):
    built = Builder((37, 1, 1))
    built.linear(19, sparsity=0)
    [(_, path)] = written([built.case("linear")], tmp_path)
    images = spoiled((37, 1, 1))
    arrays = built.operations[0].arrays
    expected = onnx_answer("Gemm", images.reshape(-1, 37), arrays["weight"], arrays["bias"], transB=1)
    assert_alike(sparse_library.answer(path, images, kernels), expected)


@pytest.mark.parametrize(
    ("op", "held"),
    [
        ("Relu", RELU),
        ("HardSwish", {"kind": "hard_swish"}),
        ("HardSigmoid", {"kind": "hard_sigmoid", "low": 0.2, "high": 0.5}),
        ("Sigmoid", {"kind": "sigmoid"}),
    ],
)
def test_activations_treat_what_is_no_number_as_onnx_runtime_does(sparse_library, kernels, tmp_path, op, held):
    for shape in ((21, 1, 1), (2, 6, 7)):
        built = Builder(shape)
        built.add("activate", shape, activation=held)
        [(_, path)] = written([built.case(op)], tmp_path)
        images = spoiled(shape)
        assert_alike(sparse_library.answer(path, images, kernels), onnx_answer(op, images))


@pytest.mark.parametrize(("op", "name"), [("max_pool", "MaxPool"), ("average_pool", "AveragePool")])
def test_pools_treat_infinities_as_onnx_runtime_does(sparse_library, kernels, tmp_path, op, name):
    built = Builder((3, 9, 10))
    built.pool(op, 3, 2, (1, 1, 1, 1), **({"count_padding": False} if op == "average_pool" else {}))
    [(_, path)] = written([built.case(op)], tmp_path)
    images = spoiled((3, 9, 10))[1:]
    expected = onnx_answer(name, images, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    assert np.isinf(expected).any()
    assert_alike(sparse_library.answer(path, images, kernels), expected)


def test_a_softmax_of_what_is_no_number_is_that_of_onnx_runtime(sparse_library, kernels, tmp_path):
    built = Builder((10, 1, 1))
    built.add("softmax", (10, 1, 1))
    [(_, path)] = written([built.case("softmax")], tmp_path)
    images = spoiled((10, 1, 1))
    expected = onnx_answer("Softmax", images.reshape(-1, 10), axis=1)
    assert_alike(sparse_library.answer(path, images, kernels), expected)


def test_a_weight_of_zero_keeps_an_infinity_out_of_a_sparse_convolution(sparse_library, kernels, tmp_path):
    """ONNX Runtime multiplies it, and has NaN there: the one place where the two may differ."""
    built = Builder((8, 5, 5))
    built.conv(40, 1, sparsity=0.9)
    [(case, path)] = written([built.case("skipped")], tmp_path)
    images = case.given.copy()
    images[0, 2] = np.inf
    touched = dense(built.operations[0].arrays, 8)[:, 2] != 0
    found = sparse_library.answer(path, images, kernels).reshape(40, -1)
    assert 0 < touched.sum() < 40
    assert np.isinf(found[touched]).all()
    assert_alike(found[~touched], case.expected.reshape(40, -1)[~touched])


def test_exponentials_are_right_to_a_few_units_in_the_last_place(sparse_library, kernels, tmp_path):
    """Far below 0 a sigmoid is the exponential itself."""
    x = np.concatenate([np.linspace(-87, 20, 30011), [-0.0, 1e-30, -1e-30, 88.8, 1000]]).astype(np.float32)
    built = Builder((len(x), 1, 1))
    built.add("activate", built.shapes[0], activation={"kind": "sigmoid"})
    [(_, path)] = written([built.case("sigmoid")], tmp_path)
    found = sparse_library.answer(path, x.reshape(1, -1, 1, 1), kernels)[0].astype(np.float64)
    expected = 1 / (1 + np.exp(-x.astype(np.float64)))
    ulp = np.spacing(expected.astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(found - expected) / ulp) <= 4


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the sets that may be missing are those of x86-64")
def test_the_kernels_offered_are_those_that_the_system_says_the_cpu_has(sparse_library):
    """Linux lists a feature only where it saves the registers that belong to it."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
    wanted = [("avx512", {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}), ("avx2", {"avx2", "fma"})]
    assert sparse_library.kernels == [name for name, needs in wanted if needs <= flags] + ["scalar"]
