"""Batches: the right images with the right labels, the same bits for one (seed, epoch), however they are read."""

import hashlib
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from edgeprune.data import ArraySplit, Augment, Preprocess, Split, load_data
from edgeprune.data.batches import Batches

PLAIN = Preprocess(scale=1.0, mean=(0.0,), std=(1.0,))
ALL = Augment(crop_padding=1, flip=True, rotation_degrees=15)


@dataclass(frozen=True, eq=False)
class Lazy:
    """A split that is not held in memory as far as `Batches` can know."""

    inside: ArraySplit

    @property
    def labels(self) -> np.ndarray:
        return self.inside.labels

    def __len__(self) -> int:
        return len(self.inside)

    def images(self, indices: np.ndarray) -> np.ndarray:
        return self.inside.images(indices)

    def take(self, indices: np.ndarray) -> "Lazy":
        return Lazy(self.inside.take(indices))


def numbered(n: int) -> ArraySplit:
    """Image i is filled with i, and so is its label."""
    values = np.arange(n)
    array = np.broadcast_to(values[:, None, None, None], (n, 4, 5, 1)).astype(np.uint8)
    return ArraySplit(array, values.astype(np.int64))


def collected(batches: Batches, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*batches.epoch(number), strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
def test_in_order_and_complete_without_a_seed(wrap: type[Lazy]) -> None:
    batches = Batches(wrap(numbered(10)), PLAIN, batch_size=4, device="cpu")
    sizes = [len(labels) for _, labels in batches.epoch(0)]
    images, labels = collected(batches, 0)
    assert sizes == [4, 4, 2]
    assert len(batches) == 3
    assert labels.tolist() == list(range(10))
    assert torch.equal(images[:, 0, 0, 0].long(), labels)


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
def test_a_seeded_epoch_is_a_permutation_with_images_and_labels_together(wrap: type[Lazy]) -> None:
    batches = Batches(wrap(numbered(12)), PLAIN, batch_size=4, device="cpu", seed=3)
    orders = []
    for number in (1, 2):
        images, labels = collected(batches, number)
        assert sorted(labels.tolist()) == list(range(12))
        assert torch.equal(images[:, 0, 0, 0].long(), labels)
        orders.append(labels.tolist())
    assert orders[0] != orders[1]


@pytest.mark.parametrize(("n", "batch_size", "steps"), [(10, 4, 2), (8, 4, 2), (3, 4, 1), (0, 4, 0)])
def test_training_drops_the_last_batch_unless_it_is_the_only_one(n: int, batch_size: int, steps: int) -> None:
    batches = Batches(numbered(n), PLAIN, batch_size=batch_size, device="cpu", seed=0)
    assert len(batches) == len(list(batches.epoch(1))) == steps


def test_an_epoch_is_the_same_bits_whatever_ran_before() -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    first = Batches(data.train, data.preprocess, batch_size=32, device="cpu", augment=ALL, seed=5)
    second = Batches(Lazy(data.train), data.preprocess, batch_size=32, device="cpu", augment=ALL, seed=5)
    state = torch.random.get_rng_state()
    expected = collected(first, 7)
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was used"
    next(second.epoch(3))  # begun and left
    torch.rand(5)
    found = collected(second, 7)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert not torch.equal(collected(first, 8)[0], expected[0])


HASHED = """
import hashlib
from edgeprune.data import Augment, load_data
from edgeprune.data.batches import Batches
data = load_data("digits", None, validation=0.1, split_seed=0, image_size=None)
augment = Augment(crop_padding=1, flip=True, rotation_degrees=15)
batches = Batches(data.train, data.preprocess, batch_size=64, device="cpu", augment=augment, seed=1)
digest = hashlib.sha256()
for images, labels in batches.epoch(2):
    digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
print(digest.hexdigest())
"""


def test_an_epoch_is_the_same_bits_in_another_process() -> None:
    data = load_data("digits", None, validation=0.1, split_seed=0, image_size=None)
    batches = Batches(data.train, data.preprocess, batch_size=64, device="cpu", augment=ALL, seed=1)
    digest = hashlib.sha256()
    for images, labels in batches.epoch(2):
        digest.update(images.numpy().tobytes() + labels.numpy().tobytes())
    other = subprocess.run([sys.executable, "-c", HASHED], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest.hexdigest()


def test_preprocessing_equals_numpy_float32_to_the_bit() -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    pre = data.preprocess
    raw = data.test.images(np.arange(len(data.test))).astype(np.float32)
    mean, std = np.asarray(pre.mean, np.float32), np.asarray(pre.std, np.float32)
    expected = ((raw * np.float32(pre.scale) - mean) / std).transpose(0, 3, 1, 2)
    batches = Batches(data.test, pre, batch_size=50, device="cpu")
    assert np.array_equal(collected(batches, 0)[0], expected)
    assert np.array_equal(batches.sample(9), expected[:9])


def test_augmentation_moves_images_and_shares_of_them_are_flipped() -> None:
    ramp = np.broadcast_to(np.arange(1, 9, dtype=np.uint8)[:, None], (400, 8, 8, 1))
    split: Split = ArraySplit(ramp.copy(), np.zeros(400, np.int64))
    augment = Augment(crop_padding=1, flip=True)
    images, _ = collected(Batches(split, PLAIN, batch_size=100, device="cpu", augment=augment, seed=0), 1)
    middle = images[:, 0, 4, :]
    flipped = (middle[:, 2] > middle[:, 5]).float().mean()
    assert 0.4 < flipped < 0.6
    assert {tuple(row) for row in middle.int().tolist()} >= {(1, 2, 3, 4, 5, 6, 7, 8), (0, 1, 2, 3, 4, 5, 6, 7)}


def test_channels_last_and_dtype_change_the_form_and_not_the_values() -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    plain = Batches(data.train, data.preprocess, batch_size=32, device="cpu").sample(32)
    last = Batches(data.train, data.preprocess, batch_size=32, device="cpu", channels_last=True).sample(32)
    half = Batches(data.train, data.preprocess, batch_size=32, device="cpu", dtype=torch.bfloat16).sample(32)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(plain, last)
    assert torch.equal(half, plain.bfloat16())


def test_augmentation_without_a_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="seed"):
        Batches(numbered(4), PLAIN, batch_size=2, device="cpu", augment=ALL)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cuda_device_sees_what_the_cpu_sees() -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    augment = Augment(crop_padding=1, flip=True)
    on = {
        (device, wrap.__name__): collected(
            Batches(wrap(data.train), data.preprocess, batch_size=32, device=device, augment=augment, seed=1), 4
        )
        for device in ("cpu", "cuda")
        for wrap in (Lazy, _same)
    }
    expected = on["cpu", "Lazy"]
    for images, labels in on.values():
        assert torch.allclose(images.cpu(), expected[0], atol=1e-6)
        assert torch.equal(labels.cpu(), expected[1])


def _same(split: ArraySplit) -> ArraySplit:
    return split
