"""Engines of a fixed batch, fed with other numbers of images."""

import numpy as np
import pytest

from runtimes.fixed_batch import in_batches


def sums(batch: np.ndarray) -> np.ndarray:
    """The sum of each image, for exactly three images at once; the array is written over by the next call."""
    assert batch.shape[0] == 3
    assert batch.flags.c_contiguous
    _KEPT[:] = batch.sum(axis=(1, 2, 3))[:, None]
    return _KEPT


_KEPT = np.empty((3, 1), dtype=np.float32)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6, 7])
def test_each_image_gets_its_own_answer_whatever_the_batch(n):
    images = np.random.default_rng(n).normal(size=(n, 2, 4, 4)).astype(np.float32)
    expected = [[float(image.sum(dtype=np.float64))] for image in images]
    np.testing.assert_allclose(in_batches(sums, 3, images), expected, atol=1e-5)


def test_a_batch_that_fits_is_handed_on_as_it_is():
    images = np.zeros((3, 1, 2, 2), dtype=np.float32)
    given = []
    in_batches(lambda batch: given.append(batch) or batch[:, 0, 0], 3, images)
    assert given[0] is images
