"""The loader's decompressor takes and refuses the streams that zlib takes and refuses."""

import random
import struct
import zlib

import numpy as np
import pytest
from damage import Cases, bytes_changed
from loader import watched_loader
from made_up import npy


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


def streams(count, dice):
    """(Compressed bytes, damaged, or not always; what they hold undamaged)."""
    numbers = np.random.default_rng(dice.randrange(1000))
    made = []
    for level in (0, 1, 6, 9):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED):
            values = numbers.choice(numbers.standard_normal(40), 300).astype(np.float32)
            packer = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
            made.append(packer.compress(npy(values)) + packer.flush())
    for _ in range(count):
        packed = dice.choice(made)
        way = dice.randrange(4)
        if way == 0:
            yield packed[: dice.randrange(len(packed))]
        elif way == 1:
            yield bytes(dice.randrange(256) for _ in range(dice.randrange(1, 80)))
        else:  # the codes stand in the first bytes: most of the damage goes there
            head = dice.choice([12, 60, len(packed)])
            yield bytes_changed(packed[:head], dice) + packed[head:]


def unpacked(packed):
    """What zlib makes of a stream; None where it is not whole, or not a stream, or does not end where it ends."""
    stream = zlib.decompressobj(-15)
    try:
        data = stream.decompress(packed)
    except zlib.error:
        return None
    return data if stream.eof and not stream.unused_data else None


def archive_of(packed, data):
    """An archive of one entry, `0.bias.npy`, with sizes and checksum as if `packed` gave `data`."""
    name = b"0.bias.npy"
    fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 33, zlib.crc32(data), len(packed), len(data), len(name), 0)
    local, entry = b"PK\3\4" + fields + name + packed, b"PK\1\2\x14\0" + fields + bytes(14) + name
    return local + entry + b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def compare_with_zlib(loader, folder, count, seed):
    """(Streams that both take, streams that both refuse); they must agree on each."""
    dice, cases, whole = random.Random(seed), Cases(folder), []  # noqa: S311
    for packed in streams(count, dice):
        data = unpacked(packed)
        if data is not None and not 0 < len(data) < 16_000:
            continue  # refused for its size, before it is decompressed
        given = data if data is not None else bytes(min(1000, 1032 * len(packed)))
        cases.add(archive=archive_of(packed, given))
        whole.append(data is not None)
    for line, fine in zip(loader.try_all(cases.paths), whole, strict=True):
        assert ("damaged" not in line) == fine, line
        assert "array bias" in line, line
    return sum(whole), len(whole) - sum(whole)


def test_a_damaged_stream_is_one_where_zlib_says_so(loader, tmp_path):
    taken, refused = compare_with_zlib(loader, tmp_path, 1500, seed=1)
    assert taken > 100
    assert refused > 500


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 8))
def test_many_more_streams_are_held_to_zlib(loader, tmp_path, seed):
    assert min(compare_with_zlib(loader, tmp_path, 10_000, seed)) > 500
