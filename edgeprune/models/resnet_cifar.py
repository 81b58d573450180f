"""The thin ResNets for 32 x 32 images: K. He et al., Deep Residual Learning for Image Recognition, 2016, section 4.2.

6n + 2 layers in three stages of 16, 32 and 64 channels. Shortcuts are the paper's option A, free of parameters. The
attributes are named so that the widely used published checkpoints (github.com/akamaster/pytorch_resnet_cifar10) load.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (16, 32, 64)


class Block(nn.Module):
    """Two 3 x 3 convolutions and the shortcut around them."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, width - channels
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        """Option A: every second pixel, and zeros for the channels that are new, half of them on either side."""
        if not self.added:
            return x
        before = self.added // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.added - before))


class ResNetCifar(nn.Module):
    """`blocks` blocks in each of the three stages: 6 * blocks + 2 layers."""

    def __init__(self, blocks: int, classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.layer1 = _stage(WIDTHS[0], WIDTHS[0], 1, blocks)
        self.layer2 = _stage(WIDTHS[0], WIDTHS[1], 2, blocks)
        self.layer3 = _stage(WIDTHS[1], WIDTHS[2], 2, blocks)
        self.linear = nn.Linear(WIDTHS[2], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        logits: Tensor = self.linear(F.adaptive_avg_pool2d(out, 1).flatten(1))
        return logits


def _stage(channels: int, width: int, stride: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(Block(channels, width, stride), *(Block(width, width, 1) for _ in range(blocks - 1)))


def resnet20(*, classes: int, channels: int) -> nn.Module:
    """ResNet-20 of 16, 32 and 64 channels, 3 blocks each (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    return ResNetCifar(3, classes, channels)


def resnet32(*, classes: int, channels: int) -> nn.Module:
    """ResNet-32 of 16, 32 and 64 channels, 5 blocks each (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    return ResNetCifar(5, classes, channels)


def resnet44(*, classes: int, channels: int) -> nn.Module:
    """ResNet-44 of 16, 32 and 64 channels, 7 blocks each (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    return ResNetCifar(7, classes, channels)


def resnet56(*, classes: int, channels: int) -> nn.Module:
    """ResNet-56 of 16, 32 and 64 channels, 9 blocks each (He et al. 2016, arXiv 1512.03385, section 4.2)."""
    return ResNetCifar(9, classes, channels)
