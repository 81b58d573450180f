"""What a batch can be asked for beside its images: who they are, a second view of them, partners of their class."""

from itertools import combinations

import numpy as np
import pytest
import torch
from splits import ALL, PLAIN, Lazy, numbered

from edgeprune.data import ArraySplit, Augment, Split, load_data
from edgeprune.data.batches import Batch, Batches


def classes(*sizes: int) -> ArraySplit:
    """Image i is filled with i; that many of each class, shuffled."""
    n = sum(sizes)
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return ArraySplit(numbered(n).array, labels.astype(np.int64))


def identities(images: torch.Tensor) -> torch.Tensor:
    return images[:, 0, 2, 2].long()


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
@pytest.mark.parametrize("seed", [None, 3])
def test_indices_say_which_images_of_the_split_they_are(wrap: type[Lazy], seed: int | None) -> None:
    split = classes(7, 8)
    for batch in Batches(wrap(split), PLAIN, batch_size=5, device="cpu", seed=seed).epoch(2):
        assert torch.equal(identities(batch.images), batch.indices)
        assert torch.equal(torch.from_numpy(split.labels)[batch.indices], batch.labels)
        assert not batch.mirrored.any()


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
def test_a_part_of_a_split_keeps_the_indices_of_the_whole(wrap: type[Lazy]) -> None:
    split = classes(7, 8, 9)
    only = np.flatnonzero(split.labels != 1)
    batches = Batches(wrap(split), PLAIN, batch_size=16, device="cpu", seed=1, only=only)
    (batch,) = batches.epoch(0)
    assert len(set(batch.indices.tolist())) == 16
    assert set(batch.indices.tolist()) == set(only.tolist())
    assert torch.equal(identities(batch.images), batch.indices)
    assert set(split.labels[batch.indices].tolist()) == {0, 2}
    partners = identities(batch.partners())
    assert torch.equal(torch.from_numpy(split.labels)[partners], batch.labels)
    assert identities(batches.sample(3)).tolist() == only[:3].tolist()


@pytest.mark.parametrize("wrap", [lambda split: split, Lazy])
@pytest.mark.parametrize("seed", [None, 3])
def test_partners_are_other_images_of_the_same_class_each_as_often(wrap: type[Lazy], seed: int | None) -> None:
    split = classes(1, 2, 5)
    batches = Batches(wrap(split), PLAIN, batch_size=8, device="cpu", seed=seed)
    counts = np.zeros((8, 8), int)
    for number in range(200):
        for batch in batches.epoch(number):
            np.add.at(counts, (batch.indices.numpy(), identities(batch.partners()).numpy()), 1)
    (alone,) = np.flatnonzero(split.labels == 0)
    pair = np.flatnonzero(split.labels == 1)
    five = np.flatnonzero(split.labels == 2)
    assert counts[alone, alone] == 200
    assert counts[pair[0], pair[1]] == counts[pair[1], pair[0]] == 200
    assert (np.diag(counts)[five] == 0).all()
    among = counts[np.ix_(five, five)] + 50 * np.eye(5)
    assert counts.sum() == 8 * 200
    assert (abs(among - 50) < 31).all(), "5 standard deviations of 200 draws at 1/4"


def test_a_second_view_is_the_same_image_under_another_chance() -> None:
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)
    ramp = ArraySplit(np.arange(12 * 20, dtype=np.uint8).reshape(12, 4, 5, 1), np.zeros(12, np.int64))
    (batch,) = Batches(ramp, PLAIN, batch_size=12, device="cpu", augment=Augment(flip=True), seed=3).epoch(0)
    again = batch.again()
    same = (again == batch.images).flatten(1).all(1)
    mirror = (again == batch.images.flip(3)).flatten(1).all(1)
    assert (same ^ mirror).all()
    assert 0 < same.sum() < 12
    alike = ArraySplit(np.repeat(ramp.array[:1], 30, axis=0), np.zeros(30, np.int64))
    train = Batches(alike, PLAIN, batch_size=10, device="cpu", augment=ALL, seed=3)
    shown = [batch for number in (0, 1) for batch in train.epoch(number)]
    views = [view for batch in shown for view in (batch.images, batch.again(), batch.partners())]
    assert not any(torch.equal(one, other) for one, other in combinations(views, 2)), "two steps share their chance"
    for plain in Batches(data.train, data.preprocess, batch_size=32, device="cpu").epoch(0):
        assert torch.equal(plain.again(), plain.images)


def test_what_else_is_asked_for_moves_no_chance() -> None:
    """Again and partners, asked for in any order, twice, late or never: the same bits, and the epoch's own, too."""
    data = load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)

    def fresh(split: Split = data.train) -> Batches:
        return Batches(split, data.preprocess, batch_size=32, device="cpu", augment=ALL, seed=5)

    asked = [(batch.images, batch.again(), batch.partners()) for batch in fresh().epoch(2)]
    backwards = reversed(list(fresh(Lazy(data.train)).epoch(2)))
    late = [(batch.partners(), batch.again(), batch.again()) for batch in backwards]
    silent = [batch.images for batch in fresh().epoch(2)]
    for (images, again, partners), (partners_late, first, second), plain in zip(asked, late[::-1], silent, strict=True):
        assert torch.equal(images, plain)
        assert torch.equal(again, first)
        assert torch.equal(again, second)
        assert torch.equal(partners, partners_late)
        assert not torch.equal(again, images)
        assert not torch.equal(again, partners)


class Counting(Lazy):
    """Notes what is read."""

    read: list[int]

    def images(self, indices: np.ndarray) -> np.ndarray:
        self.read.extend(indices.tolist())
        return super().images(indices)


def test_what_is_not_asked_for_is_not_read() -> None:
    split = Counting(numbered(12))
    object.__setattr__(split, "read", [])
    epoch = list(Batches(split, PLAIN, batch_size=4, device="cpu", seed=0).epoch(0))
    assert sorted(split.read) == list(range(12))
    epoch[0].again()
    assert len(split.read) == 16


def test_a_batch_made_by_hand_has_fallbacks() -> None:
    images = torch.arange(6.0)[:, None, None, None].expand(6, 1, 3, 3)
    batch = Batch(images, torch.tensor([0, 1, 0, 2, 1, 0]))
    assert batch.indices.tolist() == list(range(6))
    assert batch.mirrored.tolist() == [False] * 6
    assert torch.equal(batch.again(), images)
    assert identities(batch.partners()).tolist() == [2, 4, 5, 3, 1, 0]
    given = Batch(images, batch.labels, indices=torch.arange(6) + 9, mirrored=batch.labels > 0)
    assert given.indices.tolist() == [9, 10, 11, 12, 13, 14]
    assert given.mirrored.tolist() == [False, True, False, True, True, False]
