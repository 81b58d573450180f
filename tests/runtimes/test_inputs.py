import numpy as np
import pytest

from runtimes.errors import UserError
from runtimes.inputs import batches, preprocess, timed_batches

HOW = {"scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}


@pytest.fixture
def chunks(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (10, 4, 5, 3), dtype=np.uint8)
    paths = [tmp_path / "0000.npy", tmp_path / "0001.npy"]
    np.save(paths[0], images[:7])
    np.save(paths[1], images[7:])
    return images, paths


def test_preprocess_equals_the_formula_pixel_by_pixel(chunks):
    images, _ = chunks
    x = preprocess(images, HOW)
    assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (10, 3, 4, 5), True)
    for n, h, w, c in [(0, 0, 0, 0), (9, 3, 4, 2), (4, 1, 2, 1)]:
        expected = (int(images[n, h, w, c]) * HOW["scale"] - HOW["mean"][c]) / HOW["std"][c]
        assert x[n, c, h, w] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_batches_are_all_images_in_order(chunks, size):
    images, paths = chunks
    found = list(batches(paths, size, HOW))
    assert max(map(len, found)) <= size
    np.testing.assert_array_equal(np.concatenate(found), preprocess(images, HOW))


@pytest.mark.parametrize("size", [1, 2, 16])
def test_timed_batches_are_full_and_go_around(chunks, size):
    images, paths = chunks
    found = timed_batches(paths, size, HOW)
    assert {len(batch) for batch in found} == {size}
    expected = preprocess(images[:7], HOW)
    for row, image in enumerate(np.concatenate(found)):
        np.testing.assert_array_equal(image, expected[row % 7])


def test_a_file_of_something_else_is_a_user_error(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY truncated")
    np.save(tmp_path / "b.npy", np.zeros((2, 4, 4, 3), dtype=np.float32))
    for name, message in [("a.npy", "cannot be read"), ("b.npy", "float32 of shape")]:
        with pytest.raises(UserError, match=message):
            timed_batches([tmp_path / name], 1, HOW)
