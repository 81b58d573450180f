from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, Residual, Shared, Tokens, pruned, trained
from onnx import numpy_helper
from torch import nn

from export.macs import count_macs
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
