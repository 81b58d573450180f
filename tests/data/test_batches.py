"""Batches: the right images with the right labels, the same bits for one (seed, epoch), however they are read."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from splits import ALL, PLAIN, Lazy, numbered

from edgeprune.data import ArraySplit, Augment, Split, load_data
from edgeprune.data.batches import Batches


def collected(batches: Batches, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    epoch = list(batches.epoch(number))
    return torch.cat([batch.images for batch in epoch]), torch.cat([batch.labels for batch in epoch])


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
def test_in_order_and_complete_without_a_seed(wrap: type[Lazy]) -> None:
    batches = Batches(wrap(numbered(10)), PLAIN, batch_size=4, device="cpu")
    sizes = [len(batch) for batch in batches.epoch(0)]
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
from edgeprune.data.batches import Batch, Batches
data = load_data("digits", None, validation=0.1, split_seed=0, image_size=None)
augment = Augment(crop_padding=1, flip=True, rotation_degrees=15)
batches = Batches(data.train, data.preprocess, batch_size=64, device="cpu", augment=augment, seed=1)
digest = hashlib.sha256()
for batch in batches.epoch(2):
    digest.update(batch.images.numpy().tobytes() + batch.labels.numpy().tobytes())
print(digest.hexdigest())
"""


def test_an_epoch_is_the_same_bits_in_another_process() -> None:
    other = subprocess.Popen([sys.executable, "-c", HASHED], stdout=subprocess.PIPE, text=True)
    data = load_data("digits", None, validation=0.1, split_seed=0, image_size=None)
    batches = Batches(data.train, data.preprocess, batch_size=64, device="cpu", augment=ALL, seed=1)
    digest = hashlib.sha256()
    for batch in batches.epoch(2):
        digest.update(batch.images.numpy().tobytes() + batch.labels.numpy().tobytes())
    assert other.communicate()[0].strip() == digest.hexdigest()


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


def test_chance_is_drawn_as_it_always_was() -> None:
    """Order, corner, mirror image, angle, from the seed and the epoch: recorded runs must come out again."""
    draw = torch.Generator().manual_seed(int(np.random.SeedSequence((5, 3)).generate_state(1, np.uint64)[0]))
    n, data = 12, numbered(12)
    order = torch.randperm(n, generator=draw)
    top, left = torch.randint(0, 3, (2, n), generator=draw)
    flip = torch.rand(n, generator=draw) < 0.5
    ramp = ArraySplit(np.arange(1, n * 20 + 1, dtype=np.uint8).reshape(n, 4, 5, 1), data.labels)
    augment = Augment(crop_padding=1, flip=True)
    batches = Batches(ramp, PLAIN, batch_size=n, device="cpu", augment=augment, seed=5)
    (batch,) = batches.epoch(3)
    assert torch.equal(batch.indices, order)
    assert torch.equal(batch.mirrored, flip)
    for image, index, y, x, mirrored in zip(batch.images, order, top, left, flip, strict=True):
        padded = np.pad(ramp.array[index, :, :, 0], 1)
        expected = padded[y : y + 4, x : x + 5]
        assert np.array_equal(image[0].numpy(), expected[:, ::-1] if mirrored else expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("number", [0, 4])
def test_a_cuda_device_sees_what_the_cpu_sees(number: int) -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    augment = Augment(crop_padding=1, flip=True)
    expected, *others = (
        list(Batches(split, data.preprocess, batch_size=32, device=device, augment=augment, seed=1).epoch(number))
        for device in ("cpu", "cuda")
        for split in (Lazy(data.train), data.train)
    )
    for found in others:
        for one, other in zip(found, expected, strict=True):
            for image, same in ((one.images, other.images), (one.again(), other.again())):
                assert torch.allclose(image.cpu(), same, atol=1e-6)
            assert torch.allclose(one.partners().cpu(), other.partners(), atol=1e-6)
            assert torch.equal(one.labels.cpu(), other.labels)
            assert torch.equal(one.indices.cpu(), other.indices)
            assert torch.equal(one.mirrored.cpu(), other.mirrored)
            assert one.indices.device == one.mirrored.device == one.labels.device == one.images.device
