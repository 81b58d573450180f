"""Small plain networks for images of 8 x 8 pixels, large enough that their time is not all call overhead."""

from __future__ import annotations

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
    early = nn.Sequential(*_convolutions(channels, before))
    late = nn.Sequential(*_convolutions(before[-1], after))
    head = nn.Linear(after[-1], classes)
    return nn.Sequential(early, nn.MaxPool2d(2), late, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)


def _convolutions(channels: int, widths: Sequence[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-3].weight, nonlinearity="relu")  # type: ignore[arg-type]
        channels = width
    return layers
