"""From a split to the batches a network sees: order, augmentation and normalisation, on the device that trains.

All that is random in an epoch is drawn before it begins, from its own generator, so epoch 7 is the same whether or not
epochs 1 to 6 ran before it in this process: that is what makes a resumed run end like an uninterrupted one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from edgeprune.data.augment import cropped_and_flipped, rotated
from edgeprune.data.records import ArraySplit, Augment, Indices, Preprocess, Split

_AHEAD = 3  # batches decoded before they are asked for
_AGAIN, _PARTNERS = 1, 2  # what a draw beside the epoch's own is for; not 0, which a shorter seed would be filled with
_FILLED_IN = torch.empty(0)


@dataclass(frozen=True, eq=False)
class Batch:
    """What a network sees in one step; all tensors lie on the same device.

    images: (b, C, H, W), normalised. labels: (b,) int64. indices: (b,) int64, which images of the split they are; 0 ..
    b - 1 where not given. mirrored: (b,) bool, which of them are mirror images; none where not given. `origin` is where
    further images come from; a batch that is made by hand has none.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor = _FILLED_IN
    mirrored: Tensor = _FILLED_IN
    origin: Origin | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.indices is _FILLED_IN:
            object.__setattr__(self, "indices", torch.arange(len(self.labels), device=self.labels.device))
        if self.mirrored is _FILLED_IN:
            object.__setattr__(self, "mirrored", torch.zeros_like(self.labels, dtype=torch.bool))

    def __len__(self) -> int:
        """How many images."""
        return len(self.labels)

    def again(self) -> Tensor:
        """The same images, augmented a second time by chance of their own: (b, C, H, W).

        Without an origin, the images as they are.
        """
        return self.images if self.origin is None else self.origin.again()

    def partners(self) -> Tensor:
        """For each image another one of its class, drawn at random and augmented: (b, C, H, W).

        An image that is alone in its class is its own partner. Without an origin, the partner is the next image of the
        class in this batch.
        """
        return self.images[_next_of_class(self.labels)] if self.origin is None else self.origin.partners()


@dataclass(frozen=True, eq=False)
class Origin:
    """One step of one epoch, at which further images can be drawn without moving any other chance.

    `indices` (b,) are those of the step's images, on the host.
    """

    batches: Batches
    indices: Indices
    epoch: int
    step: int

    def again(self) -> Tensor:
        """The images of the step, augmented by a second chance."""
        generator = self.batches.chance(self.epoch, self.step, _AGAIN)
        return self.batches.augmented(self.indices, generator)

    def partners(self) -> Tensor:
        """Other images of their classes, augmented."""
        generator = self.batches.chance(self.epoch, self.step, _PARTNERS)
        return self.batches.augmented(self.batches.same_class(self.indices, generator), generator)


@dataclass(frozen=True)
class _Augmentation:
    """What chance does to each of b images: `top`, `left` (b,) int64, `flip` (b,) bool, `angle` (b,) degrees."""

    top: Tensor
    left: Tensor
    flip: Tensor
    angle: Tensor

    def __getitem__(self, chunk: slice) -> _Augmentation:
        return _Augmentation(self.top[chunk], self.left[chunk], self.flip[chunk], self.angle[chunk])


class Batches:
    """The batches of a split, epoch by epoch; images of `dtype`, everything on `device`.

    With `seed` None the images come in order, all of them and as they are. With a seed they come shuffled and
    augmented, and a last batch that is not full is left out, unless it is the only one. `only` restricts them to some
    images of the split, whose indices stay those of the whole split.
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
        only: Indices | None = None,
        dtype: torch.dtype = torch.float32,
        channels_last: bool = False,
    ) -> None:
        if augment is not None and seed is None:
            raise ValueError("augmentation is random: it needs a seed")
        self.split, self.batch_size, self.device = split, batch_size, torch.device(device)
        self.augment, self.seed = augment or Augment(), seed
        self._members = np.arange(len(split)) if only is None else only
        self._dtype, self._channels_last = dtype, channels_last
        self._scale = preprocess.scale
        self._mean = torch.tensor(preprocess.mean, device=self.device).view(-1, 1, 1)
        self._std = torch.tensor(preprocess.std, device=self.device).view(-1, 1, 1)
        self._labels = torch.from_numpy(split.labels).to(self.device)
        self._resident = _resident(split, self.device)

    def __len__(self) -> int:
        """Steps per epoch."""
        n = len(self._members)
        return -(-n // self.batch_size) if self.seed is None else max(n // self.batch_size, min(n, 1))

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch `number`: the same bits for one (seed, number), whatever ran before."""
        order, chance = self._draw(number)
        chunks = [slice(step * self.batch_size, (step + 1) * self.batch_size) for step in range(len(self))]
        pixels = self._pixels(order[chunk] for chunk in chunks)
        for step, (chunk, raw) in enumerate(zip(chunks, pixels, strict=True)):
            indices = torch.from_numpy(order[chunk]).to(self.device)
            images = self._prepare(raw, chance[chunk])
            origin = Origin(self, order[chunk], number, step)
            yield Batch(images, self._labels[indices], indices, chance.flip[chunk], origin)

    def sample(self, n: int) -> Tensor:
        """The first `n` images (or all, if there are fewer), in order and as they are, as one batch."""
        return self._normalise(_channels_first(torch.from_numpy(self.split.images(self._members[:n])).to(self.device)))

    def chance(self, *numbers: int) -> torch.Generator:
        """A generator of its own for these numbers and the seed; on the CPU: the same draws for every device."""
        state = np.random.SeedSequence((self.seed or 0, *numbers)).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0]))

    def augmented(self, indices: Indices, generator: torch.Generator) -> Tensor:
        """The images at `indices`, augmented by chance from `generator`."""
        if self._resident is not None:
            raw = self._resident[torch.from_numpy(indices).to(self.device)]
        else:
            raw = torch.from_numpy(self.split.images(indices)).to(self.device)
        return self._prepare(raw, self._draw_augmentation(len(indices), generator))

    def same_class(self, indices: Indices, generator: torch.Generator) -> Indices:
        """For each image another one of its class, uniformly; itself where there is no other."""
        first, size, place, sorted_members = self._classes
        labels = self.split.labels[indices]
        drawn = torch.rand(len(indices), generator=generator, dtype=torch.float64).numpy()
        others = size[labels] - 1
        other = (drawn * others).astype(np.int64)
        other += (other >= place[indices]) & (others > 0)  # passes over the image itself
        partners: Indices = sorted_members[first[labels] + other]
        return partners

    @cached_property
    def _classes(self) -> tuple[Indices, Indices, Indices, Indices]:
        """By class: where its images begin among the sorted ones, and how many; by image: its place in its class.

        The last of the four is the images themselves, sorted by class.
        """
        labels = self.split.labels[self._members]
        sorted_members = self._members[np.argsort(labels, kind="stable")]
        size = np.bincount(labels)
        first = np.cumsum(size) - size
        place = np.zeros(len(self.split), np.int64)
        place[sorted_members] = np.arange(len(sorted_members)) - np.repeat(first, size)
        return first, size, place, sorted_members

    def _draw(self, number: int) -> tuple[Indices, _Augmentation]:
        n = len(self._members)
        if self.seed is None:
            zeros = torch.zeros(n, dtype=torch.int64, device=self.device)
            return self._members, _Augmentation(zeros, zeros, zeros.bool(), zeros.float())
        generator = self.chance(number)
        order = self._members[torch.randperm(n, generator=generator).numpy()]
        return order, self._draw_augmentation(n, generator)

    def _draw_augmentation(self, n: int, generator: torch.Generator) -> _Augmentation:
        augment = self.augment
        top, left = torch.randint(0, 2 * augment.crop_padding + 1, (2, n), generator=generator)
        flip = (torch.rand(n, generator=generator) < 0.5) & augment.flip
        angle = (2 * torch.rand(n, generator=generator) - 1) * augment.rotation_degrees
        return _Augmentation(*(drawn.to(self.device) for drawn in (top, left, flip, angle)))

    def _pixels(self, chunks: Iterable[Indices]) -> Iterator[Tensor]:
        """The stored images of each chunk, uint8 (b, H, W, C) on the device."""
        if self._resident is not None:
            resident = self._resident
            return (resident[torch.from_numpy(chunk).to(self.device)] for chunk in chunks)
        return (raw.to(self.device, non_blocking=True) for raw in _read_ahead(self.split, chunks, self.device))

    def _prepare(self, raw: Tensor, chance: _Augmentation) -> Tensor:
        augment = self.augment
        if augment.crop_padding or augment.flip:
            raw = cropped_and_flipped(raw, chance.top, chance.left, chance.flip, augment.crop_padding)
        images = _channels_first(raw)
        return self._normalise(rotated(images, chance.angle) if augment.rotation_degrees else images)

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


def _next_of_class(labels: Tensor) -> Tensor:
    """For each of the labels (b,) the place of the next one equal to it, coming round at the end: (b,) int64."""
    places = torch.arange(len(labels), device=labels.device)
    ahead = (places[None, :] - places[:, None] - 1) % max(1, len(labels))  # 0: the next place, b - 1: its own
    return ahead.masked_fill(labels[:, None] != labels[None, :], len(labels)).argmin(dim=1)


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
