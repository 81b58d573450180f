"""The loader in C: it reads of a program what Python's json, zipfile and numpy read, whatever way it was written."""

import struct
import zipfile
import zlib

import numpy as np
import pytest
from loader import expected, watched_loader
from made_up import Made, as_python_reads, changed, everything, npy, of_everything
from program_reference import program_of

from export.program.format import OPERATIONS
from export.program.write import read_program, write_program


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


def affine_program(n: int, channels: int):
    """`n` affine operations on `channels` channels: their arrays are whatever floats one likes."""
    made = Made([(channels, 1, 1)])
    for at in range(n):
        made.add("affine", [at], (channels, 1, 1), {"scale": made.floats(channels), "shift": made.floats(channels)})
    return program_of(made.operations, made.shapes, 0, n)


def test_a_program_of_everything_is_read_as_python_reads_it(loader, tmp_path):
    path = write_program(of_everything(), tmp_path / "all.program.json").json
    assert loader.load(path) == expected(read_program(path))


def test_the_made_up_program_has_every_operation_and_gaps_that_need_two_bytes():
    program = of_everything()
    assert {one.op for one in program.operations} == set(OPERATIONS)
    assert any((one.arrays["gaps"] == 255).any() for one in program.operations if "gaps" in one.arrays)
    assert any((one.arrays["counts"] == 0).any() for one in program.operations if "counts" in one.arrays)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_stored_and_compressed_entries_are_read(loader, tmp_path, save):
    content = everything()
    path = content.write(tmp_path / "all.program.json")
    save(path.with_suffix(".npz"), **content.arrays)
    assert loader.load(path) == expected(as_python_reads(path))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_numpys_header_is_read(loader, tmp_path, version):
    content = everything()
    content.entries = {f"{key}.npy": npy(value, version) for key, value in content.arrays.items()}
    path = content.write(tmp_path / "all.program.json")
    assert loader.load(path) == expected(as_python_reads(path))


def test_weights_that_are_no_numbers_are_data(loader, tmp_path):
    odd = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3], np.float32)
    path = changed(lambda made: made.arrays.update({"10.scale": odd}), tmp_path / "all.program.json")
    assert loader.load(path) == expected(as_python_reads(path))


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("columns", [1, 255, 256, 257, 1021])
def test_sparse_rows_of_any_length_are_read(loader, tmp_path, sparsity, columns):
    made = Made([(columns, 1, 1)])
    made.add("linear", [0], (7, 1, 1), made.weights(7, columns, sparsity), activation=None)
    path = write_program(program_of(made.operations, made.shapes, 0, 1), tmp_path / "one.program.json").json
    assert loader.load(path) == expected(read_program(path))


def test_a_gap_of_many_bytes_reaches_the_last_column(loader, tmp_path):
    arrays = {
        "counts": np.array([1, 2], np.uint32),
        "gaps": np.array([255, 255, 255, 0, 255, 254, 255, 0], np.uint8),  # columns 765; 509 and 765
        "values": np.ones(3, np.float32),
        "bias": np.zeros(2, np.float32),
    }
    made = Made([(766, 1, 1)])
    made.add("linear", [0], (2, 1, 1), arrays, activation=None)
    path = write_program(program_of(made.operations, made.shapes, 0, 1), tmp_path / "one.program.json").json
    assert loader.load(path)["operations"][0]["nonzeros"] == 3


def test_names_are_cut_between_characters_and_kept_on_one_line(loader, tmp_path):
    def rename(made):
        made.json["name"] = "x" + "ä" * 100
        made.json["operations"][0]["name"] = 'a\tb\n"\\é漢🙂'

    path = changed(rename, tmp_path / "all.program.json")
    read = loader.load(path)
    assert read["name"] == "x" + "ä" * 63
    assert read["operations"][0]["name"] == 'a?b?"\\é漢🙂'
    assert read == expected(as_python_reads(path))


def deflated(data: bytes, level: int, strategy: int, window: int = 15, memory: int = 8) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -window, memory, strategy)
    return packer.compress(data) + packer.flush()


def zip_of(entries: dict[str, tuple[bytes, bytes]]) -> bytes:
    """An archive of deflated entries: name -> (compressed, what it gives)."""
    data, directory = b"", b""
    for name, (packed, plain) in entries.items():
        sizes = struct.pack("<III", zlib.crc32(plain), len(packed), len(plain))
        fields = struct.pack("<HHHHH", 20, 0, 8, 0, 33) + sizes + struct.pack("<HH", len(name), 0)
        directory += b"PK\1\2" + struct.pack("<H", 20) + fields
        directory += struct.pack("<HHHII", 0, 0, 0, 0, len(data)) + name.encode()
        data += b"PK\3\4" + fields + name.encode() + packed
    n, at = len(entries), len(data)
    return data + directory + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, n, n, len(directory), at, 0)


WAYS = [
    *((level, way, 15, 8) for level in (1, 6, 9) for way in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE)),
    *((6, zlib.Z_FIXED, 15, 8), (6, zlib.Z_DEFAULT_STRATEGY, 9, 1), (0, zlib.Z_DEFAULT_STRATEGY, 15, 8)),
]


def contents(kind: str, channels: int, random: np.random.Generator) -> np.ndarray:
    """Floats that compress well, badly, not at all, or by copies from far back."""
    if kind == "zeros":
        return np.zeros(channels, np.float32)
    if kind == "bytes":
        return random.integers(0, 256, 4 * channels, dtype=np.uint8).view(np.float32)
    if kind == "few":
        return random.choice(random.standard_normal(7).astype(np.float32), channels)
    if kind == "far":
        return np.resize(random.standard_normal(8000).astype(np.float32), channels)
    return random.standard_normal(channels).astype(np.float32)


@pytest.mark.parametrize("kind", ["zeros", "bytes", "few", "far", "normal"])
@pytest.mark.parametrize("channels", [1, 1000, 20_000])
def test_whatever_zlib_compresses_is_read(loader, tmp_path, kind, channels):
    random, program = np.random.default_rng(3), affine_program(len(WAYS), channels)
    path = write_program(program, tmp_path / "affine.program.json").json
    entries = {}
    for index, way in enumerate(WAYS):
        for key in ("scale", "shift"):
            plain = npy(contents(kind, channels, random))
            entries[f"{index}.{key}.npy"] = (deflated(plain, *way), plain)
    path.with_suffix(".npz").write_bytes(zip_of(entries))
    assert loader.load(path) == expected(as_python_reads(path))


def with_zip64(data: bytes) -> bytes:
    """The same archive with the end records of zip64, as one of more than 65,535 entries has them."""
    n, size, at = struct.unpack("<HII", data[-12:-2])
    record = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, n, n, size, at)
    locator = b"PK\6\7" + struct.pack("<IQI", 0, len(data) - 22, 1)
    return (
        data[:-22] + record + locator + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    )


def with_zip64_entries(data: bytes) -> bytes:
    """The same archive with the sizes and the offset of each entry in its zip64 field, as for one of 4 GiB."""
    n, at = struct.unpack("<H4xI", data[-12:-2])
    directory, rest = b"", data[at:-22]
    for _ in range(n):
        packed, plain, name = struct.unpack("<IIH", rest[20:30])
        offset = struct.unpack("<I", rest[42:46])[0]
        extra = struct.pack("<HHQQQ", 1, 24, plain, packed, offset)
        directory += rest[:20] + struct.pack("<IIHH", *[0xFFFFFFFF] * 2, name, len(extra)) + rest[32:42]
        directory += struct.pack("<I", 0xFFFFFFFF) + rest[46 : 46 + name] + extra
        rest = rest[46 + name :]
    return data[:at] + directory + data[-22:-10] + struct.pack("<II", len(directory), at) + data[-2:]


def with_both(data: bytes) -> bytes:
    """Both at once."""
    return with_zip64(with_zip64_entries(data))


@pytest.mark.parametrize("rewritten", [with_zip64, with_zip64_entries, with_both])
def test_the_records_of_zip64_are_read(loader, tmp_path, rewritten):
    path = changed(lambda made: None, tmp_path / "all.program.json")
    npz = path.with_suffix(".npz")
    npz.write_bytes(rewritten(npz.read_bytes()))
    with zipfile.ZipFile(npz) as archive:
        assert archive.testzip() is None
    assert loader.load(path) == expected(as_python_reads(path))


@pytest.mark.slow
def test_an_archive_of_so_many_entries_that_it_needs_zip64_is_read(loader, tmp_path):
    path = write_program(affine_program(33_000, 1), tmp_path / "many.program.json").json
    with zipfile.ZipFile(path.with_suffix(".npz")) as archive:
        assert len(archive.namelist()) == 66_000
    assert loader.load(path) == expected(as_python_reads(path))
