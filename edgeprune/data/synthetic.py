"""Made-up images that a small network learns in seconds: one coarse pattern per class under noise. For tests."""

from __future__ import annotations

import numpy as np

from edgeprune.data.records import ArraySplit, Augment, Preprocess, Request, Source

CLASSES = ("ada", "bel", "cyd", "dot")
_SIZE, _CELLS, _NOISE = 8, 4, 24.0


def load(request: Request) -> Source:
    """256 training and 128 test images of 8 x 8 RGB pixels (or `image_size`), the same every time."""
    random = np.random.RandomState(0)
    patterns = random.uniform(64, 192, (len(CLASSES), _CELLS, _CELLS, 3))
    size = request.image_size or _SIZE
    cells = np.arange(size) * _CELLS // size
    enlarged = patterns[:, cells][:, :, cells]
    return Source(
        classes=CLASSES,
        train=_noisy(enlarged, 256, random),
        test=_noisy(enlarged, 128, random),
        preprocess=Preprocess(scale=1 / 255, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)),
        augment=Augment(crop_padding=1),
    )


def _noisy(patterns: np.ndarray, n: int, random: np.random.RandomState) -> ArraySplit:
    labels = np.arange(n, dtype=np.int64) % len(patterns)
    images = patterns[labels] + random.normal(0, _NOISE, (n, *patterns.shape[1:]))
    return ArraySplit(np.clip(images, 0, 255).astype(np.uint8), labels)
