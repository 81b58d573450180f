"""torchvision's classifiers, exported and verified: the small ones always, the rest with `-m slow`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from export.macs import count_macs
from export.targets import TARGETS
from export.to_onnx import to_onnx
from export.verify import verify

ALWAYS = {"mobilenet_v2": 32, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 32}
SLOW = {
    "resnet18": 64,
    "resnet50": 64,
    "mobilenet_v3_small": 64,
    "vgg11": 32,
    "efficientnet_b0": 64,
    "densenet121": 64,
    "googlenet": 64,
    "inception_v3": 128,
    "vit_b_16": 32,
    "swin_t": 64,
    "convnext_tiny": 64,
    "regnet_y_400mf": 64,
    "mnasnet0_5": 64,
}


def network(name: str, size: int) -> nn.Module:
    torch.manual_seed(0)
    extra: dict[str, object] = {"image_size": size} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        extra = {"init_weights": False}
    made = torchvision.models.get_model(name, weights=None, num_classes=10, **extra)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
        if isinstance(part, nn.Linear) and part.out_features == 10:
            nn.init.normal_(part.weight)  # some start at zero: nothing could be compared
    return made


def check(name: str, size: int, path: Path) -> None:
    torch.manual_seed(0)
    made = network(name, size)
    masks = {}
    with torch.no_grad():
        for module_name, module in made.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and "aux" not in module_name.lower():
                masks[module_name] = torch.rand(module.weight.shape) > 0.5
                module.weight.mul_(masks[module_name])
    if name == "vit_b_16":
        masks = {key: mask for key, mask in masks.items() if "out_proj" not in key}
    to_onnx(made, path, input_shape=(3, size, size), target=TARGETS["local"], metadata={})
    found = verify(made, path, torch.randn(3, 3, size, size), masks, target=TARGETS["local"])
    assert found.argmax_agreement == 1.0
    assert {layer.name for layer in found.layers} == set(masks)
    assert all(nonzero <= macs for macs, nonzero in count_macs(path).values())


@pytest.mark.parametrize("name", ALWAYS)
def test_small_classifiers(name: str, tmp_path: Path) -> None:
    check(name, ALWAYS[name], tmp_path / "m.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_kinds_of_classifiers(name: str, tmp_path: Path) -> None:
    check(name, SLOW[name], tmp_path / "m.onnx")
