"""Compaction keeps what a network computes, to the bit where sums are exact, and everything about the file but size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from compact_networks import FAMILIES, drawn, images, in_float64, names, reference, run, weights_of
from export_networks import NETWORKS, SHAPE, pruned
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export import graph as graphs
from export.compact import compact, compacted
from export.compact.record import BORDER, JOINED, LAST
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError


def smaller(model: ModelProto) -> ModelProto:
    """A compacted copy, checked."""
    copy = ModelProto.FromString(model.SerializeToString())
    compacted(copy)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def size(model: ModelProto) -> int:
    return sum(value.size for value in weights_of(model).values())


def saved(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


# Exactness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.sampled_from([0.02, 0.1, 0.25, 0.6]),
    biased=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_whole_numbers_come_out_bit_for_bit(family: str, seed: int, density: float, biased: float) -> None:
    model = drawn(family, seed, density, biased)
    given_images = images(seed)
    expected = run(model, given_images)[0]
    assert np.array_equal(expected, reference(in_float64(model), given_images.astype(np.float64)))  # float32 is exact

    found = smaller(model)

    assert np.array_equal(run(found, given_images)[0], expected)
    assert np.array_equal(run(found, given_images[:1])[0], expected[:1])
    assert size(found) <= size(model)


@pytest.mark.parametrize("family", FAMILIES)
def test_something_is_removed_and_a_second_time_nothing(family: str) -> None:
    before = [drawn(family, seed, 0.1) for seed in range(12)]
    after = [smaller(model) for model in before]
    assert sum(map(size, after)) < 0.75 * sum(map(size, before))
    assert all(smaller(model) == model for model in after)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_dense_network_is_left_as_it_is(family: str) -> None:
    model = drawn(family, 3, 1.0, 1.0)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)) + 1, tensor.name))
    before, after = weights_of(model), weights_of(smaller(model))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_real_numbers_agree_in_float64_and_in_float32(family: str, seed: int) -> None:
    model, random = drawn(family, seed, 0.15), np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.ndim and value.dtype == np.float32 and not tensor.name.endswith("var"):
            scaled = value * random.uniform(0.2, 1.5, value.shape).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    given_images = random.standard_normal((4, *images(0).shape[1:])).astype(np.float32)
    expected = reference(in_float64(model), given_images.astype(np.float64))
    exact = reference(smaller(in_float64(model)), given_images.astype(np.float64))
    assert np.abs(exact - expected).max() <= 1e-13 * np.abs(expected).max()
    single, found = run(model, given_images)[0], run(smaller(model), given_images)[0]
    assert np.abs(found - single).max() <= 1e-5 * np.abs(single).max()


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torch_are_compacted(name: str, tmp_path: Path) -> None:
    network, _ = pruned(NETWORKS[name])
    given_images = torch.randn(5, *SHAPE)
    to_onnx(network, tmp_path / "a.onnx", input_shape=SHAPE, target=TARGETS["local"], metadata={})
    found = compact(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert found.max_rel_error is not None
    assert found.max_rel_error <= 1e-5
    expected = network(given_images).detach().numpy()
    assert (
        np.abs(run(graphs.read(found.path), given_images.numpy())[0] - expected).max() <= 1e-5 * np.abs(expected).max()
    )


# The file ------------------------------------------------------------------------------------------------------------


def test_versions_names_metadata_and_the_free_batch_stay(tmp_path: Path) -> None:
    model = drawn("residual", 1, 0.1)
    source = saved(model, tmp_path / "a.onnx")
    found = compact(source, tmp_path / "b.onnx", {"edgeprune.more": "told"})
    after = graphs.read(tmp_path / "b.onnx")
    assert (after.ir_version, graphs.opset(after)) == (8, 17)
    assert (names(after.graph.input), names(after.graph.output)) == (["input"], ["logits"])
    assert after.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    told = {entry.key: entry.value for entry in after.metadata_props}
    assert told == {"edgeprune.network": "drawn", "edgeprune.more": "told"}
    assert found.removed["channels"] > 0
    assert {layer.name for layer in found.layers} == {layer.name for layer in graphs.layers(model.graph)}


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    source = saved(drawn("joined", 1, 0.1), tmp_path / "a.onnx")
    first, second = (compact(source, tmp_path / name) for name in ("b.onnx", "c.onnx"))
    assert first.sha256 == second.sha256
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()


def test_the_record_counts_what_the_files_hold(tmp_path: Path) -> None:
    model = drawn("separable", 5, 0.1)
    found = compact(saved(model, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    before = {layer.name: layer.weight for layer in graphs.layers(model.graph)}
    after = {layer.name: layer.weight for layer in graphs.layers(graphs.read(tmp_path / "b.onnx").graph)}
    for layer in found.layers:
        new = after.get(layer.name, np.zeros((0, 0)))
        assert (layer.weights_before, layer.weights_after) == (before[layer.name].size, new.size)
        assert (layer.channels_before, layer.channels_after) == (len(before[layer.name]), len(new))
        assert layer.nonzero_after == np.count_nonzero(new)
    lost = sum(value.size for value in before.values()) - sum(value.size for value in after.values())
    assert found.removed["weights"] == lost == found.to_json()["removed"]["weights"]
    assert found.summary()[0].startswith(f"{found.removed['channels']} channels and {lost} of")


def test_a_file_that_cannot_lose_anything_says_so(tmp_path: Path) -> None:
    model = drawn("plain", 3, 1.0, 1.0)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)) + 1, tensor.name))
    found = compact(saved(model, tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert found.summary() == ["no channel could be removed"]


def test_a_missing_file_is_an_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing"):
        compact(tmp_path / "none.onnx", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_files_that_disagree_are_refused(tmp_path: Path) -> None:
    from export.compact.agreement import compare

    one, other = drawn("plain", 1, 0.5, 1.0), drawn("plain", 2, 0.5, 1.0)
    with pytest.raises(UserError, match="gives outputs up to"):
        compare(saved(one, tmp_path / "a.onnx"), saved(other, tmp_path / "b.onnx"))


# Why something stays -------------------------------------------------------------------------------------------------


def left(model: ModelProto) -> dict[str, int]:
    """Reasons over all values, with the most channels of one value."""
    copy = ModelProto.FromString(model.SerializeToString())
    reasons: dict[str, int] = {}
    for found in compacted(copy).values():
        for reason, count in found.items():
            reasons[reason] = max(reasons.get(reason, 0), count)
    return reasons


def test_a_dead_network_keeps_one_channel_everywhere() -> None:
    model = drawn("plain", 0, 0.0, 1.0)
    found = smaller(model)
    convolutions = [value.shape[:2] for value in weights_of(found).values() if value.ndim == 4]
    assert convolutions == [(1, 3), (1, 1), (1, 1)]
    assert left(model)[LAST] == 1
    assert np.array_equal(run(found, images(0))[0], run(model, images(0))[0])


@pytest.mark.parametrize(("bias", "kept", "reason"), [(0.0, 1, LAST), (2.0, 2, BORDER)])
def test_a_constant_beside_zero_padding_goes_only_where_it_is_zero(bias: float, kept: int, reason: str) -> None:
    """Two channels, the second constant; a padded 3x3 convolution reads both."""
    first = np.zeros((2, 3, 1, 1), np.float32)
    first[0] = 0 if reason == LAST else 1
    model = two_convolutions(first, np.array([bias, bias], np.float32), padding=1)
    found = smaller(model)
    assert next(value for value in weights_of(found).values() if value.ndim == 4).shape[0] == kept
    assert reason in left(model)
    assert np.array_equal(run(found, images(1))[0], run(model, images(1))[0])


def test_a_constant_read_by_the_middle_of_a_padded_kernel_is_folded() -> None:
    first = np.ones((2, 3, 1, 1), np.float32)
    first[1] = 0
    model = two_convolutions(first, np.array([1, 3], np.float32), padding=1)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    second = numpy_helper.to_array(tensors["second.weight"]).copy()
    second[:, 1] = 0
    second[:, 1, 1, 1] = 5  # never reads the padding
    tensors["second.weight"].CopyFrom(numpy_helper.from_array(second, "second.weight"))
    found = smaller(model)
    assert weights_of(found)["first.weight"].shape == (1, 3, 1, 1)
    assert np.array_equal(weights_of(found)["second.bias"], weights_of(model)["second.bias"] + 15)
    assert np.array_equal(run(found, images(1))[0], run(model, images(1))[0])


def test_a_dead_channel_in_a_sum_with_a_living_one_stays() -> None:
    assert left(drawn("residual", 2, 0.2))[JOINED] > 0


def two_convolutions(first: np.ndarray, bias: np.ndarray, padding: int) -> ModelProto:
    """1x1, then 3x3 with all ones and a bias, then the mean of each of its four channels."""
    weights = {
        "first.weight": first,
        "first.bias": bias,
        "second.weight": np.ones((4, 2, 3, 3), np.float32),
        "second.bias": np.arange(4, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "first.weight", "first.bias"], ["a"]),
        helper.make_node("Conv", ["a", "second.weight", "second.bias"], ["b"], pads=[padding] * 4),
        helper.make_node("GlobalAveragePool", ["b"], ["c"]),
        helper.make_node("Flatten", ["c"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
