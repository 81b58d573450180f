"""Every data set of the table, from a folder made here in its own format, and what each says about a bad one."""

import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.data import DATASETS, Dataset, load_data
from edgeprune.data.image_files import FileSplit, decode
from runtimes.errors import UserError

ARRAYS = {
    "train_x": np.random.RandomState(0).randint(0, 256, (40, 32, 32, 3)).astype(np.uint8),
    "train_y": np.arange(40) % 4,
    "test_x": np.random.RandomState(1).randint(0, 256, (12, 32, 32, 3)).astype(np.uint8),
    "test_y": np.arange(12) % 4,
    "classes": np.array(["a", "b", "c", "d"]),
}


def load(name: str, folder: Path | None, *, image_size: int | None = None, split_seed: int = 0) -> Dataset:
    return load_data(name, folder, validation=0.25, split_seed=split_seed, image_size=image_size, download=False)


def picture(path: Path, colour: int, size: tuple[int, int] = (20, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 100, 200)).save(path)


def image_tree(folder: Path, each: int = 4) -> Path:
    for label, name in enumerate(("cat", "dog")):
        for i in range(each):
            picture(folder / name / f"{i}.png", 10 * i + 100 * label)
    return folder


def tiny_imagenet(folder: Path) -> Path:
    root = folder / "tiny-imagenet-200"
    for label, wnid in enumerate(("n01", "n02")):
        for i in range(4):
            picture(root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", 10 * i + 100 * label, (64, 64))
    for i, _ in enumerate(("n02", "n01", "n02")):
        picture(root / "val" / "images" / f"val_{i}.JPEG", 50 * i, (64, 64))
    rows = [f"val_{i}.JPEG\t{wnid}\t0\t0\t62\t57" for i, wnid in enumerate(("n02", "n01", "n02"))]
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return folder


def arrays(folder: Path, name: str = "mine.npz", **changes: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    np.savez(folder / name, **(ARRAYS | changes))
    return folder


def nothing(folder: Path) -> None:
    return None


MAKERS: dict[str, Callable[[Path], Path | None]] = {
    "cifar10": lambda folder: arrays(folder, "cifar10.npz"),
    "cifar100": lambda folder: arrays(folder, "cifar100.npz"),
    "digits": nothing,
    "imagefolder": image_tree,
    "npz": arrays,
    "synthetic": nothing,
    "tiny-imagenet": tiny_imagenet,
}


@pytest.mark.parametrize("name", DATASETS)
def test_every_data_set_keeps_the_contract(name: str, tmp_path: Path) -> None:
    data = load(name, MAKERS[name](tmp_path))
    channels, height, width = data.image_shape
    assert len(data.preprocess.mean) == len(data.preprocess.std) == channels
    for split in (data.train, data.validation, data.test):
        images = split.images(np.array([len(split) - 1, 0]))
        assert images.shape == (2, height, width, channels)
        assert images.dtype == np.uint8
        assert split.labels.dtype == np.int64
        assert split.labels.shape == (len(split),)
        assert 0 <= split.labels.min() <= split.labels.max() < len(data.classes)
        taken = split.take(np.array([1, 0]))
        assert np.array_equal(taken.images(np.array([1])), split.images(np.array([0])))
        assert taken.labels.tolist() == split.labels[[1, 0]].tolist()


@pytest.mark.parametrize("name", DATASETS)
def test_the_split_seed_moves_the_validation_split_and_is_obeyed(name: str, tmp_path: Path) -> None:
    folder = MAKERS[name](tmp_path)
    splits = [load(name, folder, split_seed=seed).train for seed in (0, 0, 1)]
    pixels = [split.images(np.arange(len(split))).tobytes() for split in splits]
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder", "npz", "tiny-imagenet"])
def test_a_missing_folder_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(name, tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'cifar10'"):
        load("cifar-10", None)


def test_digits_are_scikit_learns_and_their_test_split_never_moves() -> None:
    from sklearn.datasets import load_digits

    one, other = load("digits", None, split_seed=0), load("digits", None, split_seed=9)
    assert len(one.test) == 359
    assert one.test.images(np.arange(359)).tobytes() == other.test.images(np.arange(359)).tobytes()
    found = [split.images(np.arange(len(split))) for split in (one.train, one.validation, one.test)]
    rows = np.concatenate(found).reshape(1797, 64)
    assert sorted(map(tuple, rows)) == sorted(map(tuple, load_digits().data.astype(int)))
    counts = np.bincount(one.test.labels)
    assert max(abs(counts - np.bincount(load_digits().target) * 0.2)) < 1


def test_sizes_that_cannot_be_had_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="8 x 8 pixels, not 32"):
        load("digits", None, image_size=32)
    assert load("imagefolder", image_tree(tmp_path), image_size=16).image_shape == (3, 16, 16)


# --- CIFAR: pickles are not opened unless they are the published ones


class Canary:
    """Unpickling it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


OFFICIAL = {
    "cifar10": ("cifar-10-batches-py", [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta"]),
    "cifar100": ("cifar-100-python", ["train", "test", "meta"]),
}


def fake_official(name: str, folder: Path, canary: Path) -> list[Path]:
    inside, files = OFFICIAL[name]
    (folder / inside).mkdir(parents=True)
    paths = [folder / inside / file for file in files]
    for path in paths:
        path.write_bytes(pickle.dumps(Canary(canary)))
    return paths


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("download", [True, False])
def test_official_files_of_another_md5_are_never_unpickled(name: str, download: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    paths = fake_official(name, tmp_path / "data", canary)
    with pytest.raises(UserError, match="MD5 differs, so it was not opened"):
        load_data(name, tmp_path / "data", validation=0.1, split_seed=0, image_size=None, download=download)
    assert not canary.exists()
    pickle.loads(paths[0].read_bytes())  # noqa: S301 - our own: the canary does sing
    assert canary.exists()


@pytest.mark.parametrize("name", OFFICIAL)
def test_torchvision_itself_checks_before_it_unpickles(name: str, tmp_path: Path) -> None:
    """The second lock: ours asks torchvision for the sums, and torchvision checks them again before it opens a file."""
    from torchvision import datasets

    canary = tmp_path / "canary"
    fake_official(name, tmp_path / "data", canary)
    for train in (True, False):
        with pytest.raises(RuntimeError, match="corrupted"):
            getattr(datasets, name.upper())(tmp_path / "data", train=train)
    assert not canary.exists()


@pytest.mark.parametrize("name", OFFICIAL)
def test_one_corrupted_file_is_named(name: str, tmp_path: Path) -> None:
    inside, files = OFFICIAL[name]
    (tmp_path / inside).mkdir()
    (tmp_path / inside / files[-1]).write_bytes(b"truncated")
    with pytest.raises(UserError, match=files[-1]):
        load(name, tmp_path)


def test_without_a_network_the_download_fails_in_two_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(UserError, match=r"downloading failed: .*not known") as caught:
        load_data("cifar10", tmp_path / "new", validation=0.1, split_seed=0, image_size=None)
    assert "cifar10.npz" in caught.value.message
    assert not (tmp_path / "new").exists()


# --- arrays


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_x": ARRAYS["train_x"].astype(np.float32)}, "train_x is float32"),
        ({"test_x": ARRAYS["test_x"][:, :16]}, "train_x has images of"),
        ({"train_y": ARRAYS["train_y"][:-1]}, "40 images for 39 labels"),
        ({"train_y": ARRAYS["train_y"] + 1}, "from 1 to 4, but there are 4 classes"),
        ({"test_y": ARRAYS["test_y"] - 1}, "from -1 to 2"),
        ({"test_y": ARRAYS["test_y"].astype(float)}, "test_y is float64"),
        ({"test_x": ARRAYS["test_x"][:0], "test_y": ARRAYS["test_y"][:0]}, "0 images"),
        ({"train_x": np.array([{"an": "object"}], dtype=object)}, "cannot be read.*allow_pickle"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes: dict[str, np.ndarray], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        load("npz", arrays(tmp_path, **changes))


def test_an_npz_may_be_the_file_itself_and_grey(tmp_path: Path) -> None:
    grey = {key: ARRAYS[key][..., 0] for key in ("train_x", "test_x")}
    data = load("npz", arrays(tmp_path, **grey) / "mine.npz")
    assert data.image_shape == (1, 32, 32)
    assert data.classes == ("a", "b", "c", "d")


def test_a_damaged_npz_and_a_missing_array_are_told(tmp_path: Path) -> None:
    path = arrays(tmp_path) / "mine.npz"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(UserError, match="cannot be read"):
        load("npz", path)
    np.savez(path, train_x=ARRAYS["train_x"])
    with pytest.raises(UserError, match="lacks train_y, test_x, test_y, classes"):
        load("npz", path)
    path.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    with pytest.raises(UserError, match="cannot be read"):
        load("npz", path)
    assert not (tmp_path / "canary").exists()


def test_a_folder_of_several_npz_is_not_guessed(tmp_path: Path) -> None:
    arrays(arrays(tmp_path), "other.npz")
    with pytest.raises(UserError, match=r"mine.npz, other.npz"):
        load("npz", tmp_path)


# --- folders of images


def test_image_folders_with_their_own_splits(tmp_path: Path) -> None:
    for name, each in (("train", 5), ("test", 3), ("val", 2)):
        image_tree(tmp_path / name, each)
    both = load("imagefolder", tmp_path, image_size=8)
    assert (len(both.train), len(both.validation), len(both.test)) == (10, 4, 6)
    for path in (tmp_path / "test").rglob("*.png"):
        path.unlink()
    for path in [*(tmp_path / "test").iterdir(), tmp_path / "test"]:
        path.rmdir()
    alone = load("imagefolder", tmp_path, image_size=8)
    assert (len(alone.train) + len(alone.validation), len(alone.test)) == (10, 4)


def test_one_folder_of_classes_is_split_by_the_seed(tmp_path: Path) -> None:
    image_tree(tmp_path, each=10)
    data = load("imagefolder", tmp_path, image_size=8)
    paths = [set(split.paths) for split in (data.train, data.validation, data.test)]  # type: ignore[attr-defined]
    assert [len(part) for part in paths] == [12, 4, 4]
    assert len(set.union(*paths)) == 20
    assert np.bincount(data.test.labels).tolist() == [2, 2]


def test_other_classes_in_the_test_folder_are_named(tmp_path: Path) -> None:
    image_tree(tmp_path / "train")
    picture(tmp_path / "test" / "bird" / "0.png", 1)
    with pytest.raises(UserError, match=r"other classes.*bird, cat, dog"):
        load("imagefolder", tmp_path)


@pytest.mark.parametrize("inside", ["", "cat"])
def test_an_empty_image_folder_is_named(inside: str, tmp_path: Path) -> None:
    (tmp_path / "photos" / inside).mkdir(parents=True)
    with pytest.raises(UserError, match="photos"):
        load("imagefolder", tmp_path / "photos")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "webp"])
def test_an_unreadable_image_is_named(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{suffix}"
    noise = np.random.RandomState(0).randint(0, 256, (40, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    for broken in (b"", b"not an image", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=f"broken.{suffix}") as caught:
            FileSplit([path], np.zeros(1, np.int64), 8).images(np.arange(1))
        assert "\n" not in caught.value.message


def test_decoding_scales_the_shorter_side_and_keeps_the_middle(tmp_path: Path) -> None:
    stripes = np.zeros((4, 12, 3), np.uint8)
    stripes[:, 4:8] = 200
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    assert (decode(tmp_path / "wide.png", 4) == 200).all()
    Image.fromarray(stripes[..., 0]).save(tmp_path / "grey.png")
    assert decode(tmp_path / "grey.png", 2).shape == (2, 2, 3)


@pytest.mark.parametrize("keep_bytes", [0, 1 << 20])
def test_files_kept_in_memory_and_not_kept_are_the_same(keep_bytes: int, tmp_path: Path) -> None:
    image_tree(tmp_path)
    paths = sorted(tmp_path.rglob("*.png"))
    split = FileSplit(paths, np.zeros(len(paths), np.int64), 8, keep_bytes)
    order = np.array([3, 0, 3, 5])
    expected = np.stack([decode(paths[i], 8) for i in order])
    assert np.array_equal(split.images(order), expected)
    assert np.array_equal(split.images(order[::-1]), expected[::-1])


def test_tiny_imagenets_labels_come_from_the_annotations(tmp_path: Path) -> None:
    data = load("tiny-imagenet", tiny_imagenet(tmp_path) / "tiny-imagenet-200")
    assert data.classes == ("n01", "n02")
    assert data.test.labels.tolist() == [1, 0, 1]
    assert data.image_shape == (3, 64, 64)
    notes = tmp_path / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    notes.write_text("val_0.JPEG\tn99\t0\t0\t1\t1\n")
    with pytest.raises(UserError, match=r"val_0\.JPEG n99"):
        load("tiny-imagenet", tmp_path)
    notes.unlink()
    with pytest.raises(UserError, match=r"val_annotations.txt is missing"):
        load("tiny-imagenet", tmp_path)


def test_importing_the_tables_needs_neither_torch_nor_sklearn() -> None:
    import subprocess
    import sys

    code = "import sys, edgeprune.data, edgeprune.models; print({'torch', 'torchvision', 'sklearn'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
