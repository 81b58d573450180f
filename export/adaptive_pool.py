"""Adaptive average pooling to a size that does not divide the input's: ONNX has no operator for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SeparatePool(nn.Module):
    """Adaptive average pooling of (N, C, H, W) as a mean over rows, then over columns: the same windows, the same mean.

    Output cell i of n covers the input from floor(i size / n) to ceil((i + 1) size / n), as in torch. Where n divides
    the size it leaves the work to the ordinary operator.
    """

    def __init__(self, output_size: tuple[int, int]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, images: Tensor) -> Tensor:
        sizes = (int(images.shape[2]), int(images.shape[3]))
        if all(size % cells == 0 for size, cells in zip(sizes, self.output_size, strict=True)):
            return F.adaptive_avg_pool2d(images, self.output_size)
        for axis, size, cells in zip((2, 3), sizes, self.output_size, strict=True):
            windows = [(i * size // cells, -(-(i + 1) * size // cells)) for i in range(cells)]
            before = (slice(None),) * axis
            means = [images[(*before, slice(low, high))].mean(axis, keepdim=True) for low, high in windows]
            images = torch.cat(means, axis)
        return images


def separate_pools(module: nn.Module) -> nn.Module:
    """Replace every `AdaptiveAvgPool2d` inside `module`, in place, by `SeparatePool`; return the module."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and (size := _both(child.output_size)) is not None:
                setattr(parent, name, SeparatePool(size))
    return module


def _both(size: object) -> tuple[int, int] | None:
    """The two output sizes; None where one is left as the input's."""
    if isinstance(size, int):
        return size, size
    if isinstance(size, tuple) and len(size) == 2 and all(isinstance(part, int) for part in size):
        return size
    return None
