"""Augmentation as arithmetic on a whole batch, on the device it lies on. What is drawn is drawn by the caller."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def cropped_and_flipped(images: Tensor, top: Tensor, left: Tensor, flip: Tensor, padding: int) -> Tensor:
    """Pad uint8 (b, H, W, C) with black, crop each image at its own corner, then mirror those with `flip`.

    top, left: (b,) corner of the crop in the padded image, 0 .. 2 * padding; `padding` itself leaves it in place.
    """
    n, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    across = torch.arange(width, device=images.device)
    columns = left[:, None] + torch.where(flip[:, None], width - 1 - across, across)
    rows = top[:, None] + torch.arange(height, device=images.device)
    each = torch.arange(n, device=images.device)
    return padded[each[:, None, None], rows[:, :, None], columns[:, None, :]]


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Turn each image (b, C, H, W) counter-clockwise about its centre, bilinearly, as float32; black comes in.

    degrees: (b,). The grid lives in coordinates of -1 .. 1 along each side, hence the ratios of the sides.
    """
    height, width = images.shape[-2:]
    radians = torch.deg2rad(degrees)
    cos, sin, zero = torch.cos(radians), torch.sin(radians), torch.zeros_like(radians)
    rows = [torch.stack([cos, -sin * height / width, zero], 1), torch.stack([sin * width / height, cos, zero], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, align_corners=False)
