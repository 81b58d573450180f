from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_graphs import graph, tensor
from export_networks import NETWORKS, SHAPE, Residual, Shared, Tokens, pruned, trained
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

from export import graph as graphs
from export.macs import count_macs
from export.plan import plan
from export.plan.outline import read_outline
from export.sizes import size_bytes
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError


def written(network: nn.Module, folder: Path) -> Path:
    to_onnx(network, folder / "m.onnx", input_shape=SHAPE, target=TARGETS["local"], metadata={})
    return folder / "m.onnx"


def test_macs_in_closed_form(tmp_path: Path) -> None:
    network, masks = pruned(Residual)
    kept = {name.removesuffix(".weight"): int(mask.sum()) for name, mask in masks.items()}
    assert count_macs(written(network, tmp_path)) == {
        "conv1": (64 * 8 * 3 * 9, 64 * kept["conv1"]),
        "conv2": (64 * 8 * 8 * 9, 64 * kept["conv2"]),
        "conv3": (9 * 12 * 8 * 9, 9 * kept["conv3"]),  # stride 2, no padding: 3 x 3 positions
        "fc": (12 * 5, kept["fc"]),
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_macs_equal_those_of_the_modules_that_ran(name: str, tmp_path: Path) -> None:
    network = trained(NETWORKS[name])
    expected: dict[str, int] = {}

    def count(layer: str, module: nn.Module, output: torch.Tensor) -> None:
        positions = output.numel() // module.weight.shape[0]
        expected[layer] = expected.get(layer, 0) + positions * module.weight.numel()

    for layer, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda module, _, output, layer=layer: count(layer, module, output))
    network(torch.zeros(1, *SHAPE))
    seen = dict(expected)
    assert {layer: macs for layer, (macs, _) in count_macs(written(network, tmp_path)).items()} == seen


def test_a_layer_used_twice_costs_twice(tmp_path: Path) -> None:
    macs = count_macs(written(trained(Shared), tmp_path))
    assert macs["conv"] == (2 * 64 * 81, 2 * 64 * 81)


def test_a_linear_layer_costs_once_for_each_row(tmp_path: Path) -> None:
    assert count_macs(written(trained(Tokens), tmp_path))["mix"][0] == 4 * 36


def test_sizes_against_an_outside_count(tmp_path: Path) -> None:
    path = written(pruned(Residual)[0], tmp_path)
    arrays = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    sizes = size_bytes(path)
    assert sizes["onnx"] == path.stat().st_size
    assert sizes["nonzero"] == 4 * sum(int((array != 0).sum()) for array in arrays if array.dtype == np.float32)
    assert len(gzip.compress(path.read_bytes(), 9, mtime=0)) == sizes["compressed"] < sizes["onnx"]
    assert sizes == size_bytes(path)


def test_pruning_shrinks_what_is_compressed_and_not_the_file(tmp_path: Path) -> None:
    (tmp_path / "dense").mkdir()
    dense, sparse = (
        size_bytes(written(trained(Residual), tmp_path / "dense")),
        size_bytes(written(pruned(Residual)[0], tmp_path)),
    )
    assert sparse["onnx"] == dense["onnx"]
    assert sparse["nonzero"] < dense["nonzero"]
    assert sparse["compressed"] < dense["compressed"]


@pytest.mark.parametrize("measure", [size_bytes, count_macs])
def test_a_damaged_file_is_refused(measure, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a whole ONNX model"):
        measure(path)


@pytest.mark.parametrize(
    ("side", "weight", "given", "attributes"),
    [
        ("MatMul right", (8, 6), (1, 5, 8), {}),
        ("MatMul left", (6, 8), (1, 8, 5), {}),
        ("MatMul right", (3, 8, 6), (1, 3, 5, 8), {}),
        ("MatMul left", (3, 6, 8), (1, 3, 8, 5), {}),
        ("MatMul right", (8,), (1, 5, 8), {}),
        ("Gemm left", (6, 8), (8, 5), {}),
        ("Gemm left", (8, 6), (8, 5), {"transA": 1}),
        ("Gemm left", (6, 8), (5, 8), {"transB": 1}),
        ("Gemm right", (6, 8), (8, 5), {"transA": 1, "transB": 1}),
    ],
)
def test_products_cost_what_numpy_multiplies_whichever_side_is_constant(
    side: str, weight: tuple[int, ...], given: tuple[int, ...], attributes: dict[str, int], tmp_path: Path
) -> None:
    """The oracle: the multiply-adds of a product are its output's elements times the length that is summed over."""
    stored = np.random.default_rng(0).standard_normal(weight).astype(np.float32)
    reads = ["x", "w"] if side.endswith("right") else ["w", "x"]
    node = helper.make_node(side.split()[0], reads, ["y"], **attributes)
    onnx.save(graph([node], [numpy_helper.from_array(stored, "w")], x=list(given)), tmp_path / "m.onnx")
    images = np.random.default_rng(1).standard_normal(given).astype(np.float32)
    (layer,) = graphs.layers(onnx.load(tmp_path / "m.onnx").graph)
    torchs = layer.weight if side.endswith("left") else np.swapaxes(layer.weight, -1, -2) if len(weight) > 1 else stored
    read = images.T if attributes.get("transA" if side.endswith("right") else "transB") else images
    product = torchs @ read if side.endswith("left") else read @ torchs
    (found,) = ReferenceEvaluator(str(tmp_path / "m.onnx")).run(None, {"x": images})
    np.testing.assert_allclose(found, product, rtol=1e-4, atol=1e-5)
    expected = found.size * layer.weight.shape[-1]
    assert count_macs(tmp_path / "m.onnx")["w"] == (expected, expected)
    assert [one.macs for one in plan(onnx.load(tmp_path / "m.onnx"), TARGETS["local"], name="m").layers] == [expected]


def test_a_fixed_number_of_images_is_divided_out(tmp_path: Path) -> None:
    """As exporters without a free batch write it, with a Reshape that names the batch."""
    found = []
    for batch in ("n", 8):
        nodes = [
            helper.make_node("Conv", ["x", "c.weight"], ["a"]),
            helper.make_node("Reshape", ["a", "sizes"], ["f"]),
            helper.make_node("Gemm", ["f", "fc.weight"], ["y"], transB=1),
        ]
        sizes = numpy_helper.from_array(np.array([1 if batch == "n" else 8, -1]), "sizes")
        weights = [tensor("c.weight", 8, 4, 1, 1), tensor("fc.weight", 300, 8 * 64), sizes]
        onnx.save(graph(nodes, weights, x=[batch, 4, 8, 8]), tmp_path / "m.onnx")
        planned = plan(read_outline(tmp_path / "m.onnx"), TARGETS["local"], name="m")
        found.append((count_macs(tmp_path / "m.onnx"), planned))
        assert [layer.output_shape[0] for layer in planned.layers] == [1, 1]
    assert found[0] == found[1]
    assert found[0][0]["c"][0] == 64 * 32
