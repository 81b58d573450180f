"""Any data set as one `.npz` of arrays: train_x train_y test_x test_y classes.

Images are uint8 (n, H, W) or (n, H, W, C) with C of 1 or 3; labels are integers 0 .. len(classes) - 1. Nothing in the
file is unpickled.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeprune.data.records import IMAGENET, ArraySplit, Augment, Images, Preprocess, Request, Source
from edgeprune.reason import reason
from runtimes.errors import UserError

ARRAYS = ("train_x", "train_y", "test_x", "test_y", "classes")
_GREY = Preprocess(scale=1 / 255, mean=(0.5,), std=(0.25,))


def load(request: Request) -> Source:
    """The arrays of the file that `folder` is, or of the only `.npz` in it."""
    return source_from_npz(_find(request.folder), Augment(crop_padding=2))


def source_from_npz(path: Path, augment: Augment) -> Source:
    """Read and check one file of arrays; anything amiss is a `UserError` that names the file and the array."""
    arrays = _read(path)
    classes = tuple(str(name) for name in arrays["classes"].ravel())
    train = _split(path, "train", arrays, len(classes))
    test = _split(path, "test", arrays, len(classes))
    if train.array.shape[1:] != test.array.shape[1:]:
        raise _unfit(path, f"train_x has images of {train.array.shape[1:]}, test_x of {test.array.shape[1:]}")
    grey = train.array.shape[-1] == 1
    return Source(classes, train, test, _GREY if grey else IMAGENET, replace(augment, flip=augment.flip and not grey))


def _find(folder: Path | None) -> Path:
    if folder is None:
        raise UserError("the npz data set needs a file", f"give --data-dir a .npz of {' '.join(ARRAYS)}")
    if folder.is_file():
        return folder
    files = sorted(folder.glob("*.npz"))
    if len(files) == 1:
        return files[0]
    found = ", ".join(file.name for file in files) if files else "none"
    raise UserError(f"{folder} should hold one .npz of arrays; found: {found}", "give --data-dir the file itself")


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = [name for name in ARRAYS if name not in file]
            if not missing:
                return {name: file[name] for name in ARRAYS}
    except Exception as error:  # whatever a damaged archive makes zipfile, zlib and numpy raise
        raise _unfit(path, f"cannot be read: {reason(error)}") from error
    raise _unfit(path, f"lacks {', '.join(missing)}")


def _split(path: Path, name: str, arrays: dict[str, np.ndarray], classes: int) -> ArraySplit:
    labels = arrays[f"{name}_y"]
    images = _images(path, f"{name}_x", arrays[f"{name}_x"])
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise _unfit(path, f"{name}_y is {labels.dtype} {labels.shape}, not integers (n,)")
    if len(labels) != len(images) or not len(labels):
        raise _unfit(path, f"{name}_x has {len(images)} images for {len(labels)} labels in {name}_y")
    if labels.min() < 0 or labels.max() >= classes:
        raise _unfit(path, f"{name}_y goes from {labels.min()} to {labels.max()}, but there are {classes} classes")
    return ArraySplit(images, labels.astype(np.int64))


def _images(path: Path, name: str, array: np.ndarray) -> Images:
    images = array[..., None] if array.ndim == 3 else array
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3) or 0 in images.shape[1:]:
        raise _unfit(path, f"{name} is {array.dtype} {array.shape}, not uint8 (n, H, W) or (n, H, W, 1 or 3)")
    return np.ascontiguousarray(images)


def _unfit(path: Path, what: str) -> UserError:
    hint = "it should hold uint8 images train_x test_x (n, H, W, C), integer labels train_y test_y and names classes"
    return UserError(f"{path}: {what}", hint)
