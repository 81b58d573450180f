"""Augmentation against a loop over single pixels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.data.augment import cropped_and_flipped, rotated


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    channels=st.sampled_from([1, 3]),
    padding=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_crop_and_flip_equal_a_loop(n: int, height: int, width: int, channels: int, padding: int, seed: int) -> None:
    random = np.random.RandomState(seed)
    images = random.randint(1, 256, (n, height, width, channels)).astype(np.uint8)
    top, left = random.randint(0, 2 * padding + 1, (2, n))
    flip = random.rand(n) < 0.5
    expected = np.zeros_like(images)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                row = y + top[i] - padding
                column = (width - 1 - x if flip[i] else x) + left[i] - padding
                if 0 <= row < height and 0 <= column < width:
                    expected[i, y, x] = images[i, row, column]
    arguments = [torch.from_numpy(value) for value in (images, top, left, flip)]
    assert np.array_equal(cropped_and_flipped(*arguments, padding), expected)


@pytest.mark.parametrize("shape", [(2, 1, 6, 6), (2, 3, 5, 8)])
def test_rotation_equals_bilinear_interpolation_by_hand(shape: tuple[int, int, int, int]) -> None:
    random = np.random.RandomState(0)
    images = random.randint(0, 256, shape).astype(np.uint8)
    degrees = random.uniform(-40, 40, shape[0])
    found = rotated(torch.from_numpy(images), torch.tensor(degrees, dtype=torch.float32))
    expected = np.stack([_turned(image, angle) for image, angle in zip(images, degrees, strict=True)])
    assert np.allclose(found, expected, atol=0.05)


def test_a_quarter_turn_is_counter_clockwise() -> None:
    images = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    turned = rotated(images, torch.tensor([90.0]))
    assert torch.allclose(turned, torch.rot90(images, 1, (2, 3)).float(), atol=1e-4)


def _turned(image: np.ndarray, degrees: float) -> np.ndarray:
    """Each pixel of the result looks back to where it came from, between four pixels; black outside."""
    channels, height, width = image.shape
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = image
    out = np.zeros(image.shape)
    for y in range(height):
        for x in range(width):
            across, down = x - (width - 1) / 2, y - (height - 1) / 2
            from_x = cos * across - sin * down + (width - 1) / 2
            from_y = sin * across + cos * down + (height - 1) / 2
            if not (-1 < from_x < width and -1 < from_y < height):
                continue
            x0, y0 = math.floor(from_x), math.floor(from_y)
            right, below = from_x - x0, from_y - y0
            corners = padded[:, y0 + 1 : y0 + 3, x0 + 1 : x0 + 3]
            weights = np.outer([1 - below, below], [1 - right, right])
            out[:, y, x] = (corners * weights).sum((1, 2))
    return out
