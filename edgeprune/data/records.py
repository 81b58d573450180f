"""What a data set is made of: splits of labelled uint8 images, and the two ways they become a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Preprocess:
    """From stored pixels to a network's input: x = (uint8 * scale - mean) / std, per channel, in float32."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the manifests: `{"scale": s, "mean": [...], "std": [...]}`."""
        return {"scale": self.scale, "mean": list(self.mean), "std": list(self.std)}


IMAGENET = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
"""RGB as torchvision's networks and the published CIFAR-10 ResNets were trained on it."""


@dataclass(frozen=True)
class Augment:
    """What training does at random to each image, in this order; black fills what comes in from outside.

    crop_padding: pad by this many pixels and crop back, that is, shift by up to as many in each direction.
    flip: mirror left and right, for half of the images.
    rotation_degrees: turn about the centre by an angle uniform in plus or minus this, bilinearly.
    """

    crop_padding: int = 0
    flip: bool = False
    rotation_degrees: float = 0.0


class Split(Protocol):
    """Labelled images, read by index."""

    @property
    def labels(self) -> Labels:
        """Class numbers, (n,)."""
        ...

    def __len__(self) -> int: ...

    def images(self, indices: Indices) -> Images:
        """The images at `indices`, uint8 (b, H, W, C)."""
        ...

    def take(self, indices: Indices) -> Split:
        """The split of these images only, in this order."""
        ...


@dataclass(frozen=True, eq=False)
class ArraySplit:
    """A split that is held in memory: `array` uint8 (n, H, W, C), `labels` int64 (n,)."""

    array: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def images(self, indices: Indices) -> Images:
        return self.array[indices]

    def take(self, indices: Indices) -> ArraySplit:
        return ArraySplit(self.array[indices], self.labels[indices])


@dataclass(frozen=True)
class Request:
    """What a data set's loader is asked for. `folder` is None where the user named none."""

    folder: Path | None
    split_seed: int
    image_size: int | None
    download: bool


@dataclass(frozen=True, eq=False)
class Source:
    """What a data set's loader answers: all of its training images, and its test images.

    `validation` is None where the data set brings none, which is the rule: one is then held out of `train`.
    """

    classes: tuple[str, ...]
    train: Split
    test: Split
    preprocess: Preprocess
    augment: Augment
    validation: Split | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set ready for training: three disjoint splits, of which `test` is scored once, at the very end."""

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    preprocess: Preprocess
    augment: Augment
    image_shape: tuple[int, int, int]
    """(C, H, W)"""
