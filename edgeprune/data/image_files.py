"""A split of image files: decoded when asked for, by threads, and kept while that fits in memory."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from edgeprune.data.records import Images, Indices, Labels
from edgeprune.reason import reason
from runtimes.errors import UserError

KEEP_BYTES = 2 << 30  # decoded images are kept up to this size of the whole split
_THREADS = min(8, os.cpu_count() or 1)  # Pillow lets go of the interpreter while it decodes


class FileSplit:
    """Images in files, as RGB squares of `size` pixels. A file that cannot be decoded is a `UserError` naming it."""

    def __init__(self, paths: Sequence[Path], labels: Labels, size: int, keep_bytes: int = KEEP_BYTES) -> None:
        self.paths = list(paths)
        self.labels = labels
        self.size = size
        self._keep_bytes = keep_bytes
        shape = (len(self.paths), size, size, 3)
        # Memory of `empty` is taken page by page as images come in, so a split of which little is read costs little.
        self._kept = np.empty(shape, np.uint8) if np.prod(shape, dtype=np.int64) <= keep_bytes else None
        self._have = np.zeros(len(self.paths), np.bool_)

    def __len__(self) -> int:
        return len(self.paths)

    def images(self, indices: Indices) -> Images:
        """The images at `indices`, uint8 (b, size, size, 3)."""
        if self._kept is None:
            return self._decode(indices)
        new = np.unique(indices[~self._have[indices]])
        self._kept[new] = self._decode(new)
        self._have[new] = True
        return self._kept[indices]

    def take(self, indices: Indices) -> FileSplit:
        """The split of these files only, in this order; it starts with nothing decoded."""
        return FileSplit([self.paths[i] for i in indices], self.labels[indices], self.size, self._keep_bytes)

    def _decode(self, indices: Indices) -> Images:
        out = np.empty((len(indices), self.size, self.size, 3), np.uint8)
        with ThreadPoolExecutor(_THREADS) as pool:
            for place, image in enumerate(pool.map(lambda i: decode(self.paths[i], self.size), indices)):
                out[place] = image
        return out


def decode(path: Path, size: int) -> Images:
    """One image as RGB (size, size, 3): scaled until its shorter side is `size`, the middle of the longer side kept.

    16 bits a pixel become 8, and what is transparent shows black. Pixels without a known white are a `UserError`.
    """
    try:
        with Image.open(path) as image:
            square = ImageOps.fit(_as_rgb(image, path), (size, size), Image.Resampling.BILINEAR)
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged bytes, SyntaxError included
        raise UserError(
            f"cannot read the image {path}: {reason(error)}",
            "replace the file or remove it",
        ) from error
    return np.asarray(square)


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Pillow's own conversion, but for the modes in which that clips at 255 or forgets the alpha channel."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257  # 65535 / 257 = 255; the nearest whole number
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise UserError(
            f"{path} is read as numbers of 32 bits (mode {image.mode}), and nothing says which of them is white",
            "store it with 8 bits a channel, or as PNG or TIFF with 16",
        )
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
