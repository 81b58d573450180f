"""Archives and JSON texts that are damaged, ambiguous or lie about their sizes: the loader in C refuses each."""

import json
import re
import struct
import zlib

import numpy as np
import pytest
from loader import LARGEST_MB, watched_loader
from made_up import changed, everything, npy

JSON, NPZ = "all.program.json", "all.program.npz"


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


@pytest.fixture
def path(tmp_path):
    """A sound program, to be damaged."""
    return changed(lambda content: None, tmp_path / JSON)


def rewrite(path, change):
    """Change the bytes of the archive beside `path`."""
    npz = path.with_suffix(".npz")
    data = bytearray(npz.read_bytes())
    npz.write_bytes(bytes(change(data) or data))
    return path


def directory(data: bytearray) -> int:
    """Where the directory begins."""
    return struct.unpack("<I", data[-6:-2])[0]


def patch(offset, form, value, of="directory"):
    """Overwrite a field of the first entry of the directory, of the first local header or of the end."""

    def change(data):
        begin = {"directory": directory(data), "local": 0, "end": len(data) - 22}[of]
        struct.pack_into(form, data, begin + offset, value)

    return change


def listed(more):
    """Say that the directory has so many entries more than it has."""
    return lambda data: struct.pack_into("<H", data, len(data) - 12, struct.unpack("<H", data[-12:-10])[0] + more)


def again(data: bytearray) -> bytearray:
    """The first entry listed twice."""
    at = directory(data)
    n, size = struct.unpack("<HI", data[-12:-6])
    first = data[at : at + 46 + struct.unpack_from("<H", data, at + 28)[0]]
    end = struct.pack("<HHIIH", n + 1, n + 1, size + len(first), at, 0)
    return data[:at] + first + data[at:-22] + data[-22:-14] + end


WRONG_ARCHIVES = {
    "a byte too few": (lambda data: data[:-1], "it is not a zip archive, or it is cut"),
    "a byte too many": (lambda data: data + b"x", "it is not a zip archive, or it is cut"),
    "nothing": (lambda data: b"PK", "it is not a zip archive, or it is cut"),
    "something before it": (lambda data: b"MZ" + data, "its directory is broken"),
    "a comment": (patch(20, "<H", 1, of="end"), "it is not a zip archive, or it is cut"),
    "a second volume": (patch(4, "<H", 1, of="end"), "it is one volume of several"),
    "an entry too few": (listed(-1), "its directory is broken"),
    "an entry too many": (listed(1), "its directory is broken"),
    "entries without end": (patch(10, "<H", 65535, of="end"), "its directory says 65535 entries"),
    "a directory elsewhere": (patch(16, "<I", 5, of="end"), "its directory is broken"),
    "a directory beyond the file": (patch(16, "<I", 2**32 - 1, of="end"), "its directory is broken"),
    "an entry that is none": (patch(0, "<I", 7), "its directory is broken"),
    "a name without end": (patch(28, "<H", 65535), "its directory is broken"),
    "another name": (patch(46, "<B", ord("7")), "operation 0 (/conv_0): array "),
    "encryption": (patch(8, "<H", 1), "an entry is encrypted, or in a form that is not known"),
    "a later version": (patch(6, "<H", 64), "an entry is encrypted, or in a form that is not known"),
    "an unknown compression": (patch(10, "<H", 12), "is compressed in way 12, which is not known"),
    "a checksum": (patch(16, "<I", 1), "is damaged: its checksum differs"),
    "fewer bytes compressed": (patch(20, "<I", 20), "cannot hold them|is damaged: its compressed data end early"),
    "more bytes compressed": (patch(20, "<I", 2**31), "two of its entries overlap, or one is cut"),
    "one byte less": (patch(24, "<I", 100), "is damaged: it is longer than its entry says"),
    "one byte more": (patch(24, "<I", 600), "is damaged: it is shorter than its entry says"),
    "an entry as large as it gets": (patch(24, "<I", 2**32 - 2), "declares 4294967294 bytes, and it may have "),
    "an offset of another": (
        patch(42, "<I", 40),
        "two of its entries overlap|differs from the directory",
    ),
    "an offset beyond": (patch(42, "<I", 2**32 - 2), "its directory is broken"),
    "an entry twice": (again, "two of its entries overlap, or one is cut"),
    "a local header of another name": (patch(30, "<B", ord("7"), of="local"), "differs from the directory"),
    "a local header that is none": (patch(0, "<I", 7, of="local"), "differs from the directory"),
    "another compression": (patch(8, "<H", 0, of="local"), "differs from the directory"),
    "a field without end": (patch(28, "<H", 65535, of="local"), "two of its entries overlap, or one is cut"),
}


@pytest.mark.parametrize("case", WRONG_ARCHIVES)
def test_a_damaged_archive_is_refused(loader, path, case):
    change, complaints = WRONG_ARCHIVES[case]
    said = loader.refusal(rewrite(path, change))
    assert said.startswith(f"{NPZ}: ")
    assert any(complaint in said for complaint in complaints.split("|")), said


# Bombs ---------------------------------------------------------------------------------------------------------------


def test_the_size_that_an_array_unpacks_to_is_bounded_by_the_shapes(loader, tmp_path):
    """70 MB of zeros in 68 kB: refused by its declared size, before so much is allocated."""
    bomb = npy(np.zeros(70 * 2**18, np.float32))
    assert len(bomb) > LARGEST_MB * 2**20
    path = changed(lambda content: content.entries.update({"0.bias.npy": bomb}), tmp_path / JSON)
    assert path.with_suffix(".npz").stat().st_size < 100_000
    assert "array bias declares 73400448 bytes, and it may have 16400" in loader.refusal(path)


def test_an_archive_that_hides_how_much_it_unpacks_to_is_cut_off(loader, tmp_path):
    bomb = npy(np.zeros(2**20, np.float32))
    path = changed(lambda content: content.entries.update({"0.bias.npy": bomb}), tmp_path / JSON)

    def lie(data):
        at = data.index(b"0.bias.npy", directory(data)) - 46
        struct.pack_into("<I", data, at + 24, 144)

    assert "array bias is damaged: it is longer than its entry says" in loader.refusal(rewrite(path, lie))


def test_shapes_that_allow_much_do_not_make_a_small_archive_large(loader, tmp_path):
    """The program may have 4 GiB of weights, the entry says that it has; its 100 bytes cannot hold so many."""
    content = everything()
    content.json["operations"] = [{"op": "linear", "name": "", "inputs": [0], "output": 1, "activation": None}]
    shapes = [[2**15, 1, 1], [2**15 - 1, 1, 1]]
    content.json["tensors"] = [{"shape": shape, "buffer": index} for index, shape in enumerate(shapes)]
    content.json.update(output=1, buffers=2, peak_floats=2**16 - 1)
    content.arrays = {"0.bias": np.zeros(2**15 - 1, np.float32), "0.weight": np.zeros(3, np.float32)}
    path = content.write(tmp_path / JSON)

    def lie(data):
        at = data.index(b"0.weight.npy", directory(data)) - 46
        struct.pack_into("<I", data, at + 24, 4 * 2**15 * (2**15 - 1) + 128)

    said = loader.refusal(rewrite(path, lie))
    assert re.search(r"array weight declares 4294836352 bytes, and \d\d cannot hold them$", said), said


# JSON ----------------------------------------------------------------------------------------------------------------

WRONG_TEXTS = {
    "nothing": (b"", "byte 0: a value is missing"),
    "blanks": (b" \n", "byte 2: a value is missing"),
    "two": (b"{} {}", "byte 3: there is something after its end"),
    "a zero byte at the end": (b"{}\0", "byte 2: there is something after its end"),
    "a list": (b"[]", "an object is missing"),
    "an open list": (b"[1", "byte 2: a comma or a closing bracket is missing"),
    "the other bracket": (b"[1}", "byte 2: a comma or a closing bracket is missing"),
    "a comma at the end": (b"[1,]", "byte 3: a value is missing"),
    "a key that is none": (b"{1: 2}", "byte 1: a key is missing"),
    "no colon": (b'{"a" 1}', "byte 5: a colon is missing"),
    "a comma in an object's end": (b'{"a": 1,}', "byte 8: a key is missing"),
    "not a number": (b"[NaN]", "byte 1: a value is missing"),
    "infinity": (b"[-Infinity]", "byte 1: a number is not well formed"),
    "a leading zero": (b"[01]", "byte 2: a comma or a closing bracket is missing"),
    "a plus": (b"[+1]", "byte 1: a value is missing"),
    "no digit after the point": (b"[1.]", "byte 1: a number is not well formed"),
    "no digit in the exponent": (b"[1e+]", "byte 1: a number is not well formed"),
    "hexadecimal": (b"[0x10]", "byte 2: a comma or a closing bracket is missing"),
    "too large": (b"[1e309]", "byte 1: a number is too large"),
    "too long": (b"[" + b"1" * 64 + b"]", "byte 1: a number is too long"),
    "a word cut": (b"[tru]", "byte 1: a value is missing"),
    "a string without end": (b'["a', "byte 3: a string has no end"),
    "a line in a string": (b'["a\n"]', "byte 3: a string holds a control character"),
    "an unknown escape": (b'["\\x41"]', "byte 3: an escape is not valid"),
    "half an escape": (b'["\\u12', "byte 3: an escape is not valid"),
    "half a pair": (b'["\\ud83d"]', "byte 3: an escape is not valid"),
    "the second half of a pair": (b'["\\udc00"]', "byte 3: an escape is not valid"),
    "an escaped zero": (b'["\\u0000"]', "byte 3: an escape is not valid"),
    "Latin 1": (b'["\xe4"]', "byte 2: a string is not valid UTF-8"),
    "a long form of UTF-8": (b'["\xc0\xaf"]', "byte 2: a string is not valid UTF-8"),
    "a surrogate in UTF-8": (b'["\xed\xa0\x80"]', "byte 2: a string is not valid UTF-8"),
    "beyond Unicode": (b'["\xf4\x90\x80\x80"]', "byte 2: a string is not valid UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte 0: a value is missing"),
    "a comment": (b"{} // ", "byte 3: there is something after its end"),
    "17 levels": (b"[" * 17 + b"]" * 17, "byte 16: it is nested too deeply"),
    "a million levels": (b'{"a":' * 1_000_000, "byte 80: it is nested too deeply"),
    "a key twice": (b'{"name": "a", "name": "b"}', 'the key "name" comes twice'),
}


@pytest.mark.parametrize("case", WRONG_TEXTS)
def test_a_text_that_is_no_program_is_refused(loader, path, case):
    text, complaint = WRONG_TEXTS[case]
    path.write_bytes(text)
    said = loader.refusal(path)
    assert said == f"{JSON}: {complaint}" or said == f"{JSON}: it is not valid JSON at {complaint}"


def test_more_values_than_a_program_can_have_are_refused(loader, path):
    path.write_bytes(b"[" + b"1," * 2**22 + b"1]")
    assert loader.refusal(path, largest_mb=1000).endswith("it holds too many values")


def test_files_that_are_missing_or_no_files_are_refused(loader, path, tmp_path):
    npz = path.with_suffix(".npz")
    npz.unlink()
    assert loader.refusal(path) == f"{NPZ}: there is no such file, or it may not be read"
    npz.mkdir()
    assert loader.refusal(path) == f"{NPZ}: it is not a regular file"
    assert loader.refusal(tmp_path / "none.program.json") == (
        "none.program.json: there is no such file, or it may not be read"
    )
    assert loader.refusal(tmp_path / "model.onnx") == "model.onnx: there is no such file, or it may not be read"
    renamed = path.rename(tmp_path / "all.json")
    assert loader.refusal(renamed) == "all.json: its name does not end in .program.json"


def test_a_file_larger_than_any_program_is_refused_unread(loader, path):
    with path.open("r+b") as file:
        file.truncate(64 * 2**20 + 1)
    assert loader.refusal(path) == f"{JSON}: it has 67108865 bytes and may have 67108864"
    with path.with_suffix(".npz").open("r+b") as file:
        file.truncate(2**31 + 1)
    path.write_text(json.dumps(everything().json))
    assert loader.refusal(path) == f"{NPZ}: it has 2147483649 bytes and may have 2147483648"


def test_a_name_of_any_length_leaves_the_complaint_one_line(loader, path):
    content = everything()
    content.json["operations"][0].update(name="\n" + "漢" * 1000, groups=0)
    content.write(path)
    said = loader.refusal(path)
    assert said == f"{JSON}: operation 0 (?{'漢' * 42}): groups is 0 and must be 1 to 2147483647"


def test_the_checksum_is_that_of_zlib(loader, path):
    """Stored entries pass by the decompressor: only the checksum guards them."""
    content = everything()
    np.savez(path.with_suffix(".npz"), **content.arrays)
    assert loader.load(path)["operations"][0]["bias"][1] == zlib.crc32(content.arrays["0.bias"].tobytes())

    def flip(data):
        data[data.index(content.arrays["0.bias"].tobytes())] ^= 1

    assert loader.refusal(rewrite(path, flip)).endswith("array bias is damaged: its checksum differs")
