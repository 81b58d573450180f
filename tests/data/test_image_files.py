"""Image files with more than 8 bits a channel, or with an alpha channel: real files, and pixels worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.data.image_files import FileSplit, decode
from runtimes.errors import UserError

# 2 x 2 values of 16 bits, and the nearest of 256 steps between black and white.
DEEP = np.array([[0, 128], [32768, 65535]], np.uint16)
SHALLOW = np.array([[0, 0], [128, 255]], np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_become_8_by_scaling(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(DEEP).save(path)
    with Image.open(path) as image:
        assert image.mode == "I;16"
    assert (decode(path, 2) == SHALLOW[..., None]).all()


def test_big_endian_16_bits_become_8_by_scaling(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.frombytes("I;16B", (2, 2), DEEP.astype(">u2").tobytes()).save(path)
    with Image.open(path) as image:
        assert image.mode == "I;16B"
    assert (decode(path, 2) == SHALLOW[..., None]).all()


def test_every_16_bit_value_becomes_the_nearest_of_8_bits(tmp_path: Path) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(every).save(tmp_path / "every.png")
    expected = np.round(every.astype(np.float64) / 257).astype(np.uint8)
    assert (decode(tmp_path / "every.png", 256) == expected[..., None]).all()


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_pixels_without_a_known_white_are_refused(dtype: type, mode: str, tmp_path: Path) -> None:
    path = tmp_path / "depth.tif"
    Image.fromarray(np.full((4, 4), 70000, dtype)).save(path)
    with pytest.raises(UserError, match=f"depth.tif .*mode {mode}\\)") as caught:
        FileSplit([path], np.zeros(1, np.int64), 4).images(np.arange(1))
    assert "8 bits" in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "pixel", "shown"),
    [
        ("RGBA", (200, 100, 50, 0), (0, 0, 0)),
        ("RGBA", (200, 100, 50, 255), (200, 100, 50)),
        ("RGBA", (200, 100, 50, 51), (40, 20, 10)),
        ("LA", (200, 0), (0, 0, 0)),
        ("LA", (200, 51), (40, 40, 40)),
    ],
)
def test_what_is_transparent_shows_black(
    mode: str, pixel: tuple[int, ...], shown: tuple[int, int, int], tmp_path: Path
) -> None:
    Image.new(mode, (4, 4), pixel).save(tmp_path / "clear.png")
    assert (decode(tmp_path / "clear.png", 2) == np.array(shown, np.uint8)).all()


def test_a_transparent_colour_of_a_palette_shows_black(tmp_path: Path) -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 250, 250, 250])
    image.save(tmp_path / "clear.png", transparency=1)
    assert (decode(tmp_path / "clear.png", 4) == 0).all()
    image.save(tmp_path / "opaque.png")
    assert (decode(tmp_path / "opaque.png", 4) == 250).all()
