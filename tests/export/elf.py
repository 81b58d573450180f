"""What a shared object of 64-bit Linux says of itself: its symbols, the versions it needs, and its stack."""

import re
import struct
from pathlib import Path
from typing import NamedTuple

_EXECUTABLE, _STACK = 1, 0x6474E551
_DYNSYM, _VERNEED = 11, 0x6FFFFFFE
MACHINES = {62: "x86_64", 183: "aarch64"}


class Elf(NamedTuple):
    machine: str
    exported: set[str]
    needed: set[tuple[int, ...]]  # versions of glibc: (2, 17)
    executable_stack: bool


class _Section(NamedTuple):
    kind: int
    offset: int
    size: int
    link: int
    entries: int


def read_elf(path: Path) -> Elf:
    """By the System V ABI and its GNU extension for versions; little-endian files of 64 bits."""
    data = path.read_bytes()
    assert data[:6] == b"\x7fELF\x02\x01"
    (machine,), (program_at, section_at) = struct.unpack_from("<H", data, 18), struct.unpack_from("<2Q", data, 32)
    segment_size, segments, section_size, sections = struct.unpack_from("<4H", data, 54)
    stacks = []
    for number in range(segments):
        kind, flags = struct.unpack_from("<2I", data, program_at + number * segment_size)
        stacks += [bool(flags & _EXECUTABLE)] if kind == _STACK else []
    found = [_section(data, section_at + number * section_size) for number in range(sections)]
    symbols = {name for each in found if each.kind == _DYNSYM for name in _exported(data, each, found)}
    versions = {version for each in found if each.kind == _VERNEED for version in _versions(data, each, found)}
    return Elf(MACHINES[machine], symbols, versions, not stacks or any(stacks))  # without the segment it is executable


def _section(data: bytes, at: int) -> _Section:
    (kind,), (offset, size) = struct.unpack_from("<I", data, at + 4), struct.unpack_from("<2Q", data, at + 24)
    link, entries = struct.unpack_from("<2I", data, at + 40)
    return _Section(kind, offset, size, link, entries)


def _text(data: bytes, strings: _Section, at: int) -> str:
    begin = strings.offset + at
    return data[begin : data.index(b"\0", begin)].decode()


def _exported(data: bytes, section: _Section, sections: list[_Section]) -> set[str]:
    """Names of the symbols that are defined here, and not for this file alone."""
    found = set()
    for at in range(section.offset, section.offset + section.size, 24):
        name, info, _, where = struct.unpack_from("<IBBH", data, at)
        if where and info >> 4:
            found.add(_text(data, sections[section.link], name))
    return found


def _versions(data: bytes, section: _Section, sections: list[_Section]) -> set[tuple[int, ...]]:
    found, at = set(), section.offset
    for _ in range(section.entries):
        _, count, _, first, following = struct.unpack_from("<2H3I", data, at)
        each = at + first
        for _ in range(count):
            _, _, _, name, next_one = struct.unpack_from("<I2H2I", data, each)
            version = re.fullmatch(r"GLIBC_([\d.]+)", _text(data, sections[section.link], name))
            found |= {tuple(map(int, version[1].split(".")))} if version else set()
            each += next_one
        at += following
    return found
