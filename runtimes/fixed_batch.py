"""Engines that are built for one number of images, fed with any number of them."""

from typing import Callable, List

import numpy as np


def in_batches(run: Callable[[np.ndarray], np.ndarray], size: int, images: np.ndarray) -> np.ndarray:
    """What `run` answers to `images`, float32 (N, C, H, W), given `size` of them at a time: (N, classes).

    The last batch is filled up with zeros, and their answers are dropped. Exactly `size` images are handed on as they
    are, so that this costs the timed loop one comparison.
    """
    if len(images) == size:
        return run(images)
    answers: List[np.ndarray] = []
    for start in range(0, len(images), size):
        chunk = images[start : start + size]
        full = chunk
        if len(chunk) < size:
            full = np.zeros((size, *images.shape[1:]), dtype=images.dtype)
            full[: len(chunk)] = chunk
        answers.append(np.array(run(np.ascontiguousarray(full))[: len(chunk)]))
    return np.concatenate(answers)
