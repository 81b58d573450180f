"""Stored images (uint8, NHWC) become what a network takes (float32, NCHW). Never inside a timed region."""

from pathlib import Path
from typing import Any, Iterator, List, Mapping, Sequence

import numpy as np

from runtimes.errors import UserError

_BYTES_OF_TIMED_INPUTS = 32 << 20  # enough to fall out of a small cache, little enough for a small board
_MOST_TIMED_BATCHES = 64


def preprocess(images: np.ndarray, how: Mapping[str, Any]) -> np.ndarray:
    """x = (uint8 * scale - mean) / std, channel by channel.

    Args:
        images: uint8 (N, H, W, C).
        how: `scale`, a number, and `mean` and `std`, C numbers each.

    Returns:
        float32 (N, C, H, W), contiguous.
    """
    mean = np.asarray(how["mean"], dtype=np.float32)
    std = np.asarray(how["std"], dtype=np.float32)
    x = (images.astype(np.float32) * np.float32(how["scale"]) - mean) / std
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def open_chunk(path: Path) -> np.ndarray:
    """The stored images of one file, mapped and not read; anything else in it is a `UserError`."""
    try:
        images: np.ndarray = np.load(str(path), mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError("{} cannot be read as images: {}".format(path, error), "copy the bundle again") from error
    if images.dtype != np.uint8 or images.ndim != 4:
        found = "{} of shape {}".format(images.dtype, images.shape)
        raise UserError(
            "{} holds {}".format(path, found), "images are stored as uint8 (N, H, W, C): write the bundle again"
        )
    return images


def batches(paths: Sequence[Path], size: int, how: Mapping[str, Any]) -> Iterator[np.ndarray]:
    """All images in order, preprocessed, in batches of at most `size`; one file is mapped at a time."""
    for path in paths:
        images = open_chunk(path)
        for start in range(0, len(images), size):
            yield preprocess(images[start : start + size], how)


def timed_batches(paths: Sequence[Path], size: int, how: Mapping[str, Any]) -> List[np.ndarray]:
    """Different full batches of the first images, for the timed loop to go around in; too few images are repeated."""
    images = open_chunk(paths[0])
    one = size * int(np.prod(images.shape[1:])) * 4
    wanted = max(1, min(_MOST_TIMED_BATCHES, _BYTES_OF_TIMED_INPUTS // one, -(-len(images) // size)))
    rows = np.arange(wanted * size).reshape(wanted, size) % len(images)
    return [preprocess(np.asarray(images[row]), how) for row in rows]
