"""Torchvision's ResNets for images of 32 or 64 pixels: a 3 x 3 stem with stride 1, and no max-pooling after it.

The ImageNet stem would shrink such an image fourfold before the first block. This is the form in which the pruning
papers use ResNet-18 on CIFAR and Tiny ImageNet.
"""

from __future__ import annotations

from torch import nn
from torchvision import models


def resnet18(*, classes: int, channels: int) -> nn.Module:
    """ResNet-18 with a stem of 3 x 3 at stride 1 and no max-pooling, for images of 32 to 64 pixels."""
    return _small_stem(models.resnet18(num_classes=classes), channels)


def resnet34(*, classes: int, channels: int) -> nn.Module:
    """ResNet-34 with a stem of 3 x 3 at stride 1 and no max-pooling, for images of 32 to 64 pixels."""
    return _small_stem(models.resnet34(num_classes=classes), channels)


def resnet50(*, classes: int, channels: int) -> nn.Module:
    """ResNet-50 with a stem of 3 x 3 at stride 1 and no max-pooling, for images of 32 to 64 pixels."""
    return _small_stem(models.resnet50(num_classes=classes), channels)


def _small_stem(network: models.ResNet, channels: int) -> nn.Module:
    stem = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
    network.conv1, network.maxpool = stem, nn.Identity()
    changed: nn.Module = network
    return changed
