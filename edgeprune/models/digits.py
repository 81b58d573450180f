"""Small plain networks for images of 8 x 8 pixels, large enough that their time is not all call overhead."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn


def digits_cnn(*, classes: int, channels: int) -> nn.Module:
    """Six convolutions, 7.7 million multiply-adds on 1 x 8 x 8; all inner widths are multiples of 4, as 2:4 needs."""
    return _plain((32, 32, 64, 64), (128, 128), classes, channels)


def digits_cnn_wide(*, classes: int, channels: int) -> nn.Module:
    """The teacher of `digits_cnn`: the same, twice as wide after the pooling."""
    return _plain((32, 32, 64, 64), (256, 256), classes, channels)


def _plain(before: Sequence[int], after: Sequence[int], classes: int, channels: int) -> nn.Module:
    """Convolutions of 3 x 3 with batch-norm and ReLU, halved once, averaged over the image, then one linear layer."""
    layers: dict[str, nn.Module] = {}
    for number, width in enumerate((*before, *after), start=1):
        conv = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        layers |= {f"conv{number}": conv, f"norm{number}": nn.BatchNorm2d(width), f"relu{number}": nn.ReLU()}
        if number == len(before):
            layers["pool"] = nn.MaxPool2d(2)
        channels = width
    layers |= {"average": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "head": nn.Linear(channels, classes)}
    return nn.Sequential(OrderedDict(layers))
