import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import export.bundle
import runtimes
from export.bundle import NetworkFile, write_bundle
from runtimes.bundle import read_bundle, verify
from runtimes.errors import UserError
from runtimes.records import Workload

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)


@pytest.fixture
def write(tmp_path):
    """Write a bundle of two networks, with some arguments replaced."""
    for name in ("dense.onnx", "model.onnx"):
        (tmp_path / name).write_bytes(name.encode() * 100)

    def run(folder="bundle", **changes):
        arguments = {
            "name": "tiny",
            "networks": {
                "dense": NetworkFile(tmp_path / "dense.onnx"),
                "sparse": NetworkFile(tmp_path / "model.onnx", "int8"),
            },
            "images": [IMAGES],
            "preprocess": {"scale": 1 / 255, "mean": [0.1, 0.2, 0.3], "std": [1.0, 1.0, 1.0]},
            "runtimes": ["ort"],
            "workload": Workload(batch=2),
        }
        return write_bundle(tmp_path / folder, **{**arguments, **changes})

    return run


def test_it_is_read_back_as_it_was_written(write, tmp_path):
    bundle_id = write()
    bundle = read_bundle(tmp_path / "bundle")
    verify(bundle)
    assert bundle.id == bundle_id
    assert len(bundle_id) == 6
    assert [(network.name, network.file, network.precision) for network in bundle.networks.values()] == [
        ("dense", "dense.onnx", "fp32"),
        ("sparse", "model.onnx", "int8"),
    ]
    assert bundle.workload == Workload(batch=2)
    np.testing.assert_array_equal(np.concatenate([np.load(path) for path in bundle.image_files]), IMAGES)


def test_every_file_but_the_manifest_is_listed_and_all_of_runtimes_is_there(write, tmp_path):
    write()
    folder = tmp_path / "bundle"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == {"manifest.json", *json.loads((folder / "manifest.json").read_text())["files"]}
    source = Path(runtimes.__file__).parent
    assert {f"runtimes/{path.relative_to(source)}" for path in source.rglob("*.py")} <= there
    assert not [path for path in there if "__pycache__" in path]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 30), max_size=5))
def test_files_depend_on_the_images_and_not_on_how_they_come(cuts):
    """Chunks of 7 rows, cut by brute force, whatever arrays the images come in."""
    rows = 7
    limit = export.bundle._CHUNK_BYTES
    try:
        export.bundle._CHUNK_BYTES = rows * IMAGES[0].size + export.bundle._HEADER_BYTES
        chunks = list(export.bundle._chunks(iter(np.split(IMAGES, sorted(cuts))), 3))
    finally:
        export.bundle._CHUNK_BYTES = limit
    assert [chunk.tolist() for chunk in chunks] == [IMAGES[i : i + rows].tolist() for i in range(0, 30, rows)]


def test_no_file_is_larger_than_32_mib(write, tmp_path):
    large = np.zeros((45, 512, 512, 3), dtype=np.uint8)  # 33.75 MiB
    write(images=[large])
    files = sorted((tmp_path / "bundle/inputs").iterdir())
    assert [path.name for path in files] == ["0000.npy", "0001.npy"]
    assert all(path.stat().st_size <= 32 << 20 for path in files)
    assert sum(len(np.load(path, mmap_mode="r")) for path in files) == 45


def test_equal_content_gives_an_equal_bundle(write, tmp_path):
    assert write("one") == write("two", images=np.split(IMAGES, 3))
    assert (tmp_path / "one/manifest.json").read_bytes() == (tmp_path / "two/manifest.json").read_bytes()
    assert write("three", images=[IMAGES[::-1]]) != write("one")


def test_a_bundle_is_replaced_and_nothing_is_left_beside_it(write, tmp_path):
    write()
    (tmp_path / "bundle/results").mkdir()
    (tmp_path / ".bundle.partial").mkdir()  # of a run that was killed
    write(images=[IMAGES[:3]])
    assert read_bundle(tmp_path / "bundle").images == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "dense.onnx", "model.onnx"]
    assert not (tmp_path / "bundle/results").exists()


def test_a_failure_keeps_the_bundle_that_was_there(write, tmp_path):
    before = write()

    def images():
        yield IMAGES
        raise OSError("the data set is gone")

    with pytest.raises(OSError, match="gone"):
        write(images=images())
    assert read_bundle(tmp_path / "bundle").id == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "dense.onnx", "model.onnx"]


def test_a_network_in_a_bundle_is_a_copy(write, tmp_path):
    write()
    assert not (tmp_path / "model.onnx").samefile(tmp_path / "bundle/model.onnx")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "without images"),
        ({"images": [IMAGES[:0]]}, "without images"),
        ({"images": [IMAGES.astype(np.float32)]}, "images of float32"),
        ({"images": [IMAGES[..., :1]]}, r"shape \(30, 4, 4, 1\)"),
        ({"images": [IMAGES, IMAGES[:, :2]]}, "follow images of"),
        ({"networks": {}}, "without networks"),
        ({"networks": {"dense": NetworkFile(Path("gone.onnx"))}}, r"gone\.onnx is missing"),
        ({"runtimes": ["ortt"]}, "did you mean 'ort'"),
        ({"preprocess": {"scale": 1, "mean": [0]}}, "has no std"),
    ],
)
def test_what_cannot_travel_is_a_user_error(write, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        write(**changes)
    assert not (tmp_path / "bundle").exists()


def test_two_networks_of_one_file_name_are_refused(write, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/model.onnx").write_bytes(b"x")
    same = {name: NetworkFile(tmp_path / name / "model.onnx") for name in (".", "other")}
    with pytest.raises(UserError, match="same file name"):
        write(networks=same)
