"""Tiny ImageNet: 100,000 training and 10,000 validation photographs of 64 x 64 pixels in 200 classes.

Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, 2015. The labels of its test images were never published,
so its validation images are the test split here, as in the papers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeprune.data.image_files import FileSplit
from edgeprune.data.records import IMAGENET, Augment, Request, Source
from runtimes.errors import UserError

SIZE = 64
FOLDER = "tiny-imagenet-200"
_EXPECTED = f"unpack the official {FOLDER}.zip there: {FOLDER}/train/<wnid>/images/*.JPEG, {FOLDER}/val/"


def load(request: Request) -> Source:
    """The official layout in `folder` (which is `tiny-imagenet-200` or holds it); classes are named by WordNet id."""
    root, size = _find(request.folder), request.image_size or SIZE
    classes = tuple(sorted(path.name for path in (root / "train").iterdir() if path.is_dir()))
    if not classes:
        raise UserError(f"{root / 'train'} holds no class folder", _EXPECTED)
    augment = Augment(crop_padding=size // 8, flip=True)
    return Source(classes, _train(root, classes, size), _test(root, classes, size), IMAGENET, augment)


def _find(folder: Path | None) -> Path:
    if folder is None:
        raise UserError("Tiny ImageNet needs a folder: it is not downloaded", f"give --data-dir; {_EXPECTED}")
    for root in (folder / FOLDER, folder):
        if (root / "train").is_dir() and (root / "val").is_dir():
            return root
    raise UserError(f"{folder} does not hold Tiny ImageNet", _EXPECTED)


def _train(root: Path, classes: tuple[str, ...], size: int) -> FileSplit:
    files = [sorted((root / "train" / wnid / "images").glob("*.JPEG")) for wnid in classes]
    for wnid, paths in zip(classes, files, strict=True):
        if not paths:
            raise UserError(f"{root / 'train' / wnid / 'images'} holds no image", _EXPECTED)
    labels = np.repeat(np.arange(len(classes)), [len(paths) for paths in files])
    return FileSplit([path for paths in files for path in paths], labels, size)


def _test(root: Path, classes: tuple[str, ...], size: int) -> FileSplit:
    """The images of `val/`, labelled by `val_annotations.txt`: file name, WordNet id, then a box, tab-separated."""
    path = root / "val" / "val_annotations.txt"
    if not path.is_file():
        raise UserError(f"{path} is missing: it holds the labels", _EXPECTED)
    number = {wnid: label for label, wnid in enumerate(classes)}
    rows = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for row in rows:
        if len(row) != 2 or row[1] not in number:
            raise UserError(f"{path}: '{' '.join(row)}' names no class of train/", _EXPECTED)
    if not rows:
        raise UserError(f"{path} is empty", _EXPECTED)
    labels = np.asarray([number[wnid] for _, wnid in rows], np.int64)
    return FileSplit([root / "val" / "images" / name for name, _ in rows], labels, size)
