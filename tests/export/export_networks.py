"""Small networks that each show one thing the exporter must cope with, and masks for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (3, 8, 8)


class Residual(nn.Module):
    """Stem, a block with a shortcut, a strided convolution with bias, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.conv3, self.bn3 = nn.Conv2d(8, 12, 3, stride=2, bias=True), nn.BatchNorm2d(12)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        first = torch.relu_(self.bn1(self.conv1(images)))
        second = torch.relu_(self.bn2(self.conv2(first)) + first)
        third = torch.relu_(self.bn3(self.conv3(second)))
        return self.fc(self.drop(third.mean((2, 3))))


class PreActivation(nn.Module):
    """The normalization stands before the convolution: there is nothing to fold it into."""

    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv, self.fc = nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.conv(torch.relu(self.bn(images))).mean((2, 3)))


class Shared(nn.Module):
    """One convolution, used twice, with a normalization of its own after each use."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn1, self.bn2 = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.bn2(self.conv(self.bn1(self.conv(images)))).mean((2, 3)))


class ReadTwice(nn.Module):
    """The convolution's own output is read beside the normalized one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.conv(images)
        return self.fc((self.bn(raw) + raw).mean((2, 3)))


class Separable(nn.Sequential):
    """Depthwise and pointwise convolutions."""

    def __init__(self) -> None:
        depthwise = nn.Conv2d(3, 6, 3, groups=3, bias=False)
        pointwise = nn.Conv2d(6, 8, 1, bias=False)
        pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(depthwise, nn.BatchNorm2d(6), pointwise, nn.BatchNorm2d(8), nn.ReLU6(), *pool, nn.Linear(8, 5))


class LinearOnly(nn.Sequential):
    """No convolution; one normalization after a linear layer."""

    def __init__(self) -> None:
        hidden = (nn.Linear(192, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16, bias=False))
        super().__init__(nn.Flatten(), *hidden, nn.BatchNorm1d(16), nn.Linear(16, 5))


class Tokens(nn.Module):
    """Linear layers on (N, pixels, channels): MatMul in ONNX, stored the other way round; square on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.fc = nn.Conv2d(3, 6, 4, stride=4), nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.mix(self.embed(images).flatten(2).transpose(1, 2))).mean(1))


NETWORKS: dict[str, type[nn.Module]] = {
    made.__name__: made for made in (Residual, PreActivation, Shared, ReadTwice, Separable, LinearOnly, Tokens)
}


def trained(made: type[nn.Module], seed: int = 0) -> nn.Module:
    """A network in evaluation mode whose normalizations have statistics as after training: nothing is 0 or 1."""
    torch.manual_seed(seed)
    network = made().eval()
    for part in network.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, -1.5, 1.5)
            nn.init.normal_(part.bias)
    return network


def pruned(made: type[nn.Module], seed: int = 0) -> tuple[nn.Module, dict[str, Tensor]]:
    """A network with 70 % of each weight masked, one output channel whole, and the masks."""
    network = trained(made, seed)
    masks = {}
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.ndim >= 2:
                keep = torch.rand(weight.shape) > 0.7
                keep[0] = False
                weight.mul_(keep)  # leaves -0.0 where the weight was negative
                masks[name] = keep
    return network, masks
