from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, PreActivation, Residual, Tokens, pruned
from onnx import helper, numpy_helper
from torch import nn

from export.targets import TARGETS
from export.to_onnx import to_onnx
from export.verify import verify
from runtimes.errors import UserError

LOCAL = TARGETS["local"]
IMAGES = torch.randn(40, *SHAPE, generator=torch.Generator().manual_seed(0))
Edit = Callable[[np.ndarray], None]


def exported(made: type[nn.Module], folder: Path) -> tuple[nn.Module, Path, dict[str, torch.Tensor]]:
    network, masks = pruned(made)
    path = folder / "m.onnx"
    to_onnx(network, path, input_shape=SHAPE, target=LOCAL, metadata={})
    return network, path, masks


def edit(path: Path, name: str, change: Edit) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor).copy()
            change(value)
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    onnx.save(model, path)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_was_exported_passes_and_is_counted(name: str, tmp_path: Path) -> None:
    network, path, masks = exported(NETWORKS[name], tmp_path)
    found = verify(network, path, IMAGES, masks, target=LOCAL)
    assert (found.n, found.argmax_agreement, found.extra_zeros, found.opset, found.ir_version) == (40, 1.0, 0, 17, 8)
    assert found.max_rel_error < 1e-5
    assert {f"{layer.name}.weight" for layer in found.layers} == set(masks)
    for layer in found.layers:
        keep = masks[f"{layer.name}.weight"]
        assert (layer.weights, layer.masked, layer.zeros) == (keep.numel(), int((~keep).sum()), int((~keep).sum()))
    document = json.loads(json.dumps(found.to_json()))
    assert set(document) == {"n", "max_abs_error", "max_rel_error", "argmax_agreement", "extra_zeros", "layers"}
    assert set(document["layers"][0]) == {"name", "weights", "masked", "zeros", "extra_zeros"}


def test_masks_may_be_named_after_modules_and_one_image_is_enough(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    found = verify(network, path, IMAGES[:1], {key.removesuffix(".weight"): mask for key, mask in masks.items()})
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "conv3", "fc"]
    assert found.n == 1


def test_zeros_beyond_the_mask_are_counted_apart(tmp_path: Path) -> None:
    network, masks = pruned(Residual)
    with torch.no_grad():
        network.conv2.weight[1] = 0
    to_onnx(network, tmp_path / "m.onnx", input_shape=SHAPE, target=LOCAL, metadata={})
    found = verify(network, tmp_path / "m.onnx", IMAGES, masks)
    assert found.extra_zeros == int(masks["conv2.weight"][1].sum())


@pytest.mark.parametrize("layer", ["conv1", "conv2", "conv3", "fc"])
def test_a_weight_that_came_back_is_named(layer: str, tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    edit(path, f"{layer}.weight", lambda weight: weight.reshape(-1).__setitem__(0, 1e-30))  # channel 0 is masked whole
    with pytest.raises(UserError, match=f"layer '{layer}': 1 of"):
        verify(network, path, IMAGES, masks)


def test_of_several_layers_the_first_in_the_graph_is_named(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    for layer in ("fc", "conv2", "conv3"):
        edit(path, f"{layer}.weight", lambda weight: weight.__imul__(np.linspace(1, 2, weight.shape[-1], dtype="f")))
    with pytest.raises(UserError, match="first layer that differs: 'conv2'"):
        verify(network, path, IMAGES, masks)


@pytest.mark.parametrize(
    ("made", "layer"), [(Residual, "conv2"), (Residual, "fc"), (Tokens, "mix"), (PreActivation, "conv")]
)
def test_a_wrong_bias_is_found_by_the_activations(made: type[nn.Module], layer: str, tmp_path: Path) -> None:
    network, path, masks = exported(made, tmp_path)
    edit(path, f"{layer}.bias", lambda bias: bias.__iadd__(0.5))
    with pytest.raises(UserError, match=f"first layer that differs: '{layer}'"):
        verify(network, path, IMAGES, masks)


def test_a_wrongly_folded_channel_is_found_though_its_weights_are_proportional(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    edit(path, "conv2.weight", lambda weight: weight[1:4].__imul__(1.5))
    with pytest.raises(UserError, match="first layer that differs: 'conv2'"):
        verify(network, path, IMAGES, masks)


def test_weights_transposed_in_a_square_layer_are_noticed(tmp_path: Path) -> None:
    network, path, masks = exported(Tokens, tmp_path)
    edit(path, "mix.weight", lambda weight: weight.__setitem__(slice(None), weight.T.copy()))
    with pytest.raises(UserError, match="layer 'mix'"):
        verify(network, path, IMAGES, masks)


def test_outputs_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    edit(path, "conv3.bias", lambda bias: bias.__setitem__(0, np.nan))
    with pytest.raises(UserError, match=r"not finite.*'conv3'"):
        verify(network, path, IMAGES, masks)
    with torch.no_grad():
        network.fc.bias[0] = torch.inf
    with pytest.raises(UserError, match="the torch module gives logits that are not finite"):
        verify(network, path, IMAGES, masks)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    dead = {"conv1.weight": torch.zeros_like(masks["conv1.weight"])}
    with pytest.raises(UserError, match="masked weights are not zero"):
        verify(network, path, IMAGES, dead)
    with pytest.raises(UserError, match=r"unknown masked layer 'convv1'(.|\n)*'conv1'"):
        verify(network, path, IMAGES, {"convv1": masks["conv1.weight"]})
    with pytest.raises(UserError, match="mask of layer 'conv1'"):
        verify(network, path, IMAGES, {"conv1": masks["conv2.weight"]})
    with pytest.raises(UserError, match="mask of layer 'conv1'"):
        verify(network, path, IMAGES, {"conv1": masks["conv1.weight"].float()})


def test_a_masked_layer_the_file_does_not_have_is_refused(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    network.unused = nn.Linear(2, 2)
    with pytest.raises(UserError, match="has no layer 'unused'"):
        verify(network, path, IMAGES, masks | {"unused": torch.ones(2, 2, dtype=torch.bool)})


def test_a_mask_left_in_the_graph_is_refused(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    model = onnx.load(path)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((8, 8, 3, 3), np.float32), "mask"))
    conv = next(node for node in model.graph.node if "conv2.weight" in node.input)
    conv.input[1] = "masked"
    model.graph.node.insert(0, helper.make_node("Mul", ["conv2.weight", "mask"], ["masked"], name="masking"))
    onnx.save(model, path)
    with pytest.raises(UserError, match="multiplies by a mask when it runs, in 'masking'"):
        verify(network, path, IMAGES, masks)


@pytest.mark.parametrize("cut", [0, 10, 1000, -1])
def test_a_truncated_file_is_refused(cut: int, tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"m\.onnx"):
        verify(network, path, IMAGES, masks)


def test_a_missing_file_another_opset_and_wrong_images_are_refused(tmp_path: Path) -> None:
    network, path, masks = exported(Residual, tmp_path)
    with pytest.raises(UserError, match="is missing"):
        verify(network, tmp_path / "none.onnx", IMAGES, masks)
    with pytest.raises(UserError, match="reads opset 13"):
        verify(network, path, IMAGES, masks, target=replace(LOCAL, opset=13))
    for images in (IMAGES.byte(), IMAGES[0], IMAGES[:0]):
        with pytest.raises(UserError, match="float32 images"):
            verify(network, path, images, masks)


class FixedBatch(nn.Sequential):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.reshape(int(images.shape[0]), -1))


def test_a_batch_fixed_in_the_graph_is_refused(tmp_path: Path) -> None:
    network = FixedBatch(nn.Linear(192, 5)).eval()
    to_onnx(network, tmp_path / "m.onnx", input_shape=SHAPE, target=LOCAL, metadata={})
    with pytest.raises(UserError, match="batch"):
        verify(network, tmp_path / "m.onnx", IMAGES, {})
