"""Data sets by name. One file and one line in `DATASETS` make a new one; importing this package needs no torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune.data.records import ArraySplit, Augment, Dataset, Preprocess, Request, Source, Split
from edgeprune.data.stratify import hold_out
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

__all__ = ["DATASETS", "ArraySplit", "Augment", "Dataset", "Preprocess", "Request", "Source", "Split", "load_data"]

DATASETS = {
    "cifar10": "edgeprune.data.cifar10:load",  # 60,000 photographs, 10 classes, 32 x 32
    "cifar100": "edgeprune.data.cifar100:load",  # the same with 100 classes
    "digits": "edgeprune.data.digits:load",  # scikit-learn's 1,797 written digits, 8 x 8; needs no network
    "imagefolder": "edgeprune.data.imagefolder:load",  # any folder of one folder of images per class
    "npz": "edgeprune.data.npz:load",  # any arrays train_x train_y test_x test_y classes
    "synthetic": "edgeprune.data.synthetic:load",  # made up, learnable in seconds; for tests
    "tiny-imagenet": "edgeprune.data.tiny_imagenet:load",  # 110,000 photographs, 200 classes, 64 x 64
}


def load_data(
    name: str,
    folder: Path | None,
    *,
    validation: float,
    split_seed: int,
    image_size: int | None,
    download: bool = True,
) -> Dataset:
    """Read the data set `name` from `folder` and hold a stratified share `validation` of its training images out.

    The test split is the data set's own and stays as it is. `image_size` (pixels) is for data sets of image files;
    None is the data set's own size. What is missing, damaged or of another size is a `UserError`.
    """
    if not 0 <= validation < 1:
        raise UserError(f"a validation share of {validation} is not in [0, 1)", "0.1 holds out a tenth of the images")
    load = resolve(pick(DATASETS, name, "data set"))
    source: Source = load(Request(folder, split_seed, image_size, download))
    train, held = _with_validation(source, validation, split_seed)
    _, height, width, channels = source.train.images(np.arange(1)).shape
    if image_size not in (None, height) or image_size not in (None, width):
        raise UserError(
            f"{name} has images of {height} x {width} pixels, not {image_size}",
            "leave the image size out; only data sets of image files can be resized",
        )
    shape = (channels, height, width)
    return Dataset(name, source.classes, train, held, source.test, source.preprocess, source.augment, shape)


def _with_validation(source: Source, share: float, seed: int) -> tuple[Split, Split]:
    if source.validation is not None:
        return source.train, source.validation
    kept, held = hold_out(source.train.labels, share, seed)
    return source.train.take(kept), source.train.take(held)
