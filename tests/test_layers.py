"""What a network is made of, and the two ways its zeros are counted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import Toy, toy

from edgeprune.layers import Layer, account, layers, weights, why_dense
from edgeprune.models import build
from edgeprune.prune import choose
from edgeprune.prune import masks as masking
from edgeprune.prune.allocate import uniform
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.recipe import Prune

RESNET18_CONV = (
    1_728
    + 4 * 36_864
    + (73_728 + 3 * 147_456 + 8_192)
    + (294_912 + 3 * 589_824 + 32_768)
    + (1_179_648 + 3 * 2_359_296 + 131_072)
)  # stem, then the four stages with their 1 x 1 shortcuts, by hand


def pruned_at(model: nn.Module, sparsity: float) -> dict[str, Tensor]:
    """Masks of all convolutions with that share of zeros, exact in total; which weights they are does not matter."""
    convolutions = {name: module.weight for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    counts = uniform(convolutions, sparsity, 0.0)
    ranks = {name: torch.arange(w.numel()).view_as(w) for name, w in convolutions.items()}
    return {name: rank < counts[name] for name, rank in ranks.items()}


@pytest.mark.parametrize(("classes", "percent"), [(10, "98.41"), (100, "98.01"), (200, "97.56")])
def test_resnet18_prints_the_papers_sparsities(classes: int, percent: str) -> None:
    model = build("resnet18-cifar", classes=classes, channels=3)
    masks = pruned_at(model, 0.985)
    masking.bake(model, masks)
    _, reasons = choose(model, UNSTRUCTURED, Prune())
    found = account(model, masks, reasons)
    assert f"{100 * found.sparsity_paper:.2f}" == percent
    assert found.weights == RESNET18_CONV == 11_159_232
    assert found.zeros == round(0.985 * RESNET18_CONV)
    assert found.sparsity == found.zeros / RESNET18_CONV
    assert sum(layer.weights for layer in found.layers) == RESNET18_CONV + 512 * classes + 4_800


def zeroed(model: nn.Module) -> dict[str, Tensor]:
    masks = {name: torch.ones(getattr(model, name).weight.shape, dtype=torch.bool) for name in ("stem", "conv")}
    masks["stem"][0] = False
    masks["conv"][:, 1] = False
    masking.bake(model, masks)
    return masks


def test_counts_are_those_of_a_plain_loop_over_the_state() -> None:
    model = toy()
    masks = zeroed(model)
    model.conv.weight.data[5, 5, 0, 0] = 0.0  # type: ignore[union-attr, operator, index]  # zero without a mask
    reasons = {"head": "the classifier", "norm1": "a norm", "norm2": "a norm", "hidden": "linear"}
    found = account(model, masks, reasons)
    state = model.state_dict()
    for layer in found.layers:
        values = state[f"{layer.name}.weight"].flatten().tolist()
        assert (layer.weights, layer.zeros) == (len(values), values.count(0.0))
        assert layer.prunable is (layer.name not in reasons)
        assert layer.reason == reasons.get(layer.name)
    by_name = {layer.name: layer for layer in found.layers}
    assert (by_name["stem"].masked, by_name["conv"].masked, by_name["head"].masked) == (27, 72, 0)
    assert by_name["conv"].zeros == 73
    prunable = [layer for layer in found.layers if layer.prunable]
    assert (found.zeros, found.weights) == (100, sum(layer.weights for layer in prunable))
    assert found.sparsity_paper == 100 / sum(layer.weights for layer in found.layers)


def test_biases_and_statistics_are_not_counted() -> None:
    model = toy()
    for name, value in model.named_parameters():
        if name.endswith("bias"):
            value.data.zero_()
    found = account(model, {}, {})
    assert found.zeros == 0
    assert found.sparsity == found.sparsity_paper == 0.0


def test_a_network_without_layers_has_no_sparsity_rather_than_an_error() -> None:
    found = account(nn.Sequential(nn.Flatten()), {}, {})
    assert (found.weights, found.sparsity, found.sparsity_paper) == (0, 0.0, 0.0)


def test_the_layers_come_in_order_with_kind_groups_and_the_classifier_last() -> None:
    found = {layer.name: layer for layer in layers(toy())}
    assert [layer.kind for layer in found.values()] == [
        *("conv", "norm", "conv", "norm", "conv", "conv", "conv", "linear", "linear")
    ]
    assert [layer.name for layer in found.values() if layer.classifier] == ["head"]
    assert found["depthwise"] == Layer("depthwise", "conv", (8, 1, 3, 3), groups=8)
    assert found["grouped"].groups == 2


def test_a_network_that_is_one_layer_and_norms_without_weights() -> None:
    (only,) = layers(nn.Linear(4, 2))
    assert (only.name, only.shape, only.classifier) == ("", (2, 4), True)
    assert not layers(nn.BatchNorm2d(3, affine=False))
    assert not any(layer.classifier for layer in layers(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))))


def test_weights_come_in_the_order_asked_for_and_are_the_networks_own() -> None:
    model = toy()
    found = weights(model, dict.fromkeys(("head", "stem")))
    assert list(found) == ["head", "stem"]
    assert found["stem"] is model.stem.weight


DENSE = [
    ("conv", Prune(), None),
    ("conv", Prune(skip=("c*",)), "left out by prune.skip"),
    ("conv", Prune(layers=("linear",)), "conv layers are kept dense"),
    ("head", Prune(layers=("linear",)), None),
    ("head", Prune(), "linear layers are kept dense"),
    ("norm1", Prune(layers=("conv", "linear")), "norm layers are kept dense"),
]


@pytest.mark.parametrize(("name", "settings", "words"), DENSE)
def test_why_a_layer_stays_dense(name: str, settings: Prune, words: str | None) -> None:
    (layer,) = (one for one in layers(Toy()) if one.name == name)
    reason = why_dense(layer, settings, UNSTRUCTURED.refuses)
    assert reason is None if words is None else words in str(reason)
    assert why_dense(layer, settings, lambda one: f"{one.name} does not fit the pattern")
