"""Any folder of images: `train/` and `test/` (or `val/`) with one folder per class, or just one folder per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune.data.image_files import FileSplit
from edgeprune.data.records import IMAGENET, Augment, Request, Source
from edgeprune.data.stratify import hold_out
from edgeprune.reason import reason
from runtimes.errors import UserError

SIZE = 224
TEST_SHARE = 0.2
_EXPECTED = "it should hold train/<class>/*.jpg and test/<class>/*.jpg, or <class>/*.jpg"


def load(request: Request) -> Source:
    """Images under `folder`, squares of `image_size` (224 if None).

    With `test/` and `val/` both there, `val/` is the validation split; alone, it is the test split. With neither, a
    stratified fifth by `split_seed` is the test split.
    """
    folder, size = request.folder, request.image_size or SIZE
    if folder is None:
        raise UserError("the imagefolder data set needs a folder", f"give --data-dir; {_EXPECTED}")
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", _EXPECTED)
    root = folder / "train" if (folder / "train").is_dir() else folder
    classes, train = _listed(root, size)
    others = [_listed_as(classes, folder / name, size) for name in ("test", "val") if (folder / name).is_dir()]
    if root == folder or not others:
        kept, held = hold_out(train.labels, TEST_SHARE, request.split_seed)
        train, others = train.take(kept), [train.take(held)]
    augment = Augment(crop_padding=size // 8, flip=True)
    return Source(classes, train, others[0], IMAGENET, augment, *others[1:])


def _listed(root: Path, size: int) -> tuple[tuple[str, ...], FileSplit]:
    """The classes under `root`, sorted by name, and its images."""
    from torchvision.datasets import ImageFolder

    try:
        listing = ImageFolder(root)
    except FileNotFoundError as error:  # no class folder at all, or one without an image
        raise UserError(f"{root}: {reason(error)}", _EXPECTED) from error
    paths = [Path(path) for path, _ in listing.samples]
    return tuple(listing.classes), FileSplit(paths, np.asarray(listing.targets, np.int64), size)


def _listed_as(classes: tuple[str, ...], root: Path, size: int) -> FileSplit:
    found, split = _listed(root, size)
    if found != classes:
        odd = sorted(set(found) ^ set(classes))
        raise UserError(f"{root} has other classes than the training images: {', '.join(odd[:5])}", _EXPECTED)
    return split
