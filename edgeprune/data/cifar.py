"""CIFAR-10 and CIFAR-100: 50,000 training and 10,000 test photographs of 32 x 32 RGB pixels.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The official files are pickles: they are
opened only when their MD5 is the published one, which torchvision knows and checks before it unpickles. Any other
file in their place is refused unopened.
"""

from __future__ import annotations

import contextlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.data.npz import source_from_npz
from edgeprune.data.records import IMAGENET, ArraySplit, Augment, Request, Source
from edgeprune.reason import reason
from runtimes.errors import UserError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

AUGMENT = Augment(crop_padding=4, flip=True)
"""As in the ResNet paper (He et al., 2016, section 4.2)."""


def load_cifar(name: str, request: Request) -> Source:
    """Read `name` ("cifar10" or "cifar100") from `<name>.npz`, or else from the official files, in the folder.

    Without a folder they are looked for, and downloaded to, `edgeprune` in the user's cache.
    """
    import torchvision

    folder = request.folder or _cache()
    for arrays in (folder, folder / f"{name}.npz"):
        if arrays.suffix == ".npz" and arrays.is_file():
            return source_from_npz(arrays, AUGMENT)
    official = getattr(torchvision.datasets, name.upper())
    if not _complete(official, folder):
        with _downloading(name, official.base_folder, folder):
            if not request.download:
                raise OSError("downloading is switched off")
            official(folder, download=True)
    train, test = official(folder, train=True), official(folder, train=False)
    return Source(tuple(train.classes), _split(train), _split(test), IMAGENET, AUGMENT)


def _complete(official: type[CIFAR10], folder: Path) -> bool:
    """Whether all official files are there; one that is there with another MD5 is a `UserError`."""
    from torchvision.datasets.utils import check_integrity

    files = [*official.train_list, *official.test_list, (official.meta["filename"], official.meta["md5"])]
    paths = [(folder / official.base_folder / name, md5) for name, md5 in files]
    for path, md5 in paths:
        if path.is_file() and not check_integrity(path, md5):
            raise UserError(
                f"{path} is not the official file: its MD5 differs, so it was not opened",
                "it is damaged or altered; delete it, and run the same command again to download it",
            )
    return all(path.is_file() for path, _ in paths)


@contextlib.contextmanager
def _downloading(name: str, official: str, folder: Path) -> Iterator[None]:
    """What a failed download means to the user, leaving no empty folder behind."""
    new = not folder.exists()
    try:
        yield
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        if new:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise UserError(
            f"{folder} holds neither {official}/ nor {name}.npz, and downloading failed: {reason(error)}",
            f"put one of the two there, or give --data-dir the folder that holds {official}/",
        ) from error


def _split(official: CIFAR10) -> ArraySplit:
    return ArraySplit(np.ascontiguousarray(official.data), np.asarray(official.targets, np.int64))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeprune"
