"""From a split to the batches a network sees: order, augmentation and normalisation, on the device that trains.

All that is random in an epoch is drawn before it begins, from its own generator, so epoch 7 is the same whether or not
epochs 1 to 6 ran before it in this process: that is what makes a resumed run end like an uninterrupted one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from edgeprune.data.augment import cropped_and_flipped, rotated
from edgeprune.data.records import ArraySplit, Augment, Indices, Preprocess, Split

_AHEAD = 3  # batches decoded before they are asked for


@dataclass(frozen=True)
class _Draws:
    """One epoch's chance: `order` (n,) on the host; `top`, `left`, `flip`, `angle` (n,) by place in that order."""

    order: Indices
    top: Tensor
    left: Tensor
    flip: Tensor
    angle: Tensor


class Batches:
    """The batches of a split, epoch by epoch: `(images (b, C, H, W) dtype, labels (b,) int64)` on `device`.

    With `seed` None the images come in order, all of them and as they are. With a seed they come shuffled and
    augmented, and a last batch that is not full is left out, unless it is the only one.
    """

    def __init__(
        self,
        split: Split,
        preprocess: Preprocess,
        *,
        batch_size: int,
        device: torch.device | str,
        augment: Augment | None = None,
        seed: int | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        if augment is not None and seed is None:
            raise ValueError("augmentation is random: it needs a seed")
        self.split, self.batch_size, self.device = split, batch_size, torch.device(device)
        self.augment, self.seed = augment or Augment(), seed
        self._dtype, self._channels_last = dtype, channels_last
        self._scale = preprocess.scale
        self._mean = torch.tensor(preprocess.mean, device=self.device).view(-1, 1, 1)
        self._std = torch.tensor(preprocess.std, device=self.device).view(-1, 1, 1)
        self._labels = torch.from_numpy(split.labels).to(self.device)
        self._resident = _resident(split, self.device)

    def __len__(self) -> int:
        """Steps per epoch."""
        n = len(self.split)
        return -(-n // self.batch_size) if self.seed is None else max(n // self.batch_size, min(n, 1))

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of epoch `number`: the same bits for one (seed, number), whatever ran before."""
        draws = self._draw(number)
        chunks = [slice(step * self.batch_size, (step + 1) * self.batch_size) for step in range(len(self))]
        pixels = self._pixels(draws.order[chunk] for chunk in chunks)
        for chunk, raw in zip(chunks, pixels, strict=True):
            yield self._prepare(raw, draws, chunk), self._labels[torch.from_numpy(draws.order[chunk]).to(self.device)]

    def sample(self, n: int) -> Tensor:
        """The first `n` images (or all, if there are fewer), in order and as they are, as one batch."""
        indices = np.arange(min(n, len(self.split)))
        return self._normalise(_channels_first(torch.from_numpy(self.split.images(indices)).to(self.device)))

    def _draw(self, number: int) -> _Draws:
        n, augment = len(self.split), self.augment
        if self.seed is None:
            zeros = torch.zeros(n, dtype=torch.int64, device=self.device)
            return _Draws(np.arange(n), zeros, zeros, zeros.bool(), zeros.float())
        state = np.random.SeedSequence((self.seed, number)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))  # on the CPU: the same draws for every device
        order = torch.randperm(n, generator=generator).numpy()
        top, left = torch.randint(0, 2 * augment.crop_padding + 1, (2, n), generator=generator)
        flip = (torch.rand(n, generator=generator) < 0.5) & augment.flip
        angle = (2 * torch.rand(n, generator=generator) - 1) * augment.rotation_degrees
        return _Draws(order, *(drawn.to(self.device) for drawn in (top, left, flip, angle)))

    def _pixels(self, chunks: Iterable[Indices]) -> Iterator[Tensor]:
        """The stored images of each chunk, uint8 (b, H, W, C) on the device."""
        if self._resident is not None:
            resident = self._resident
            return (resident[torch.from_numpy(chunk).to(self.device)] for chunk in chunks)
        return (raw.to(self.device, non_blocking=True) for raw in _read_ahead(self.split, chunks, self.device))

    def _prepare(self, raw: Tensor, draws: _Draws, chunk: slice) -> Tensor:
        augment = self.augment
        if augment.crop_padding or augment.flip:
            padding = augment.crop_padding
            raw = cropped_and_flipped(raw, draws.top[chunk], draws.left[chunk], draws.flip[chunk], padding)
        images = _channels_first(raw)
        return self._normalise(rotated(images, draws.angle[chunk]) if augment.rotation_degrees else images)

    def _normalise(self, images: Tensor) -> Tensor:
        """x = (uint8 * scale - mean) / std in float32 and in this order, which is how a device computes it, too."""
        form = torch.channels_last if self._channels_last else torch.contiguous_format
        images = images.contiguous(memory_format=form).float()
        return images.mul_(self._scale).sub_(self._mean).div_(self._std).to(self._dtype)


def _resident(split: Split, device: torch.device) -> Tensor | None:
    """All images as one uint8 tensor on `device`; None if they are in files, or take more than half of what is free."""
    if not isinstance(split, ArraySplit):
        return None
    if device.type == "cuda" and split.array.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return None
    return torch.from_numpy(split.array).to(device)


def _channels_first(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2)


def _read_ahead(split: Split, chunks: Iterable[Indices], device: torch.device) -> Iterator[Tensor]:
    """Read chunk after chunk in a thread, a few ahead of the one in use."""

    def read(chunk: Indices) -> Tensor:
        images = torch.from_numpy(split.images(chunk))
        return images.pin_memory() if device.type == "cuda" else images

    waiting: deque[Future[Tensor]] = deque()
    pool = ThreadPoolExecutor(1, "read-ahead")
    try:
        for chunk in chunks:
            waiting.append(pool.submit(read, chunk))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)  # also when the epoch is left early
