"""Ways to damage the two files of a program, all from given dice; and folders full of damaged ones."""

import json
import os
import struct

import numpy as np
from made_up import everything, npy

NUMBERS = (0, 1, -1, 2, 255, 65_536, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 2**63, 10**40, 0.5, 1e38, 1e300, -0.0)
OTHERS = (None, True, False, "", "x", "clip", "conv", [], {}, [0], [[]], [1, 1], [1, 1, 1], [0] * 4, {"kind": "silu"})
EXTREMES = {
    "f": (0.0, -0.0, np.nan, np.inf, 1e38),
    "u1": (0, 1, 254, 255),
    "u4": (0, 1, 10, 2**31, 2**32 - 1),
    "i4": (0, 1, -1, 17, 18, 2**31 - 1, -(2**31)),
}
FIELDS = ("<B", "<H", "<I")
VALUES = (0, 1, 2, 8, 20, 44, 255, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)


# Mutations of the JSON ------------------------------------------------------------------------------------------------


def places(value):
    """Every (container, key) below `value`."""
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from places(value[key])


def another_value(content, dice):
    container, key = dice.choice(list(places(content)))
    held = container[key]
    near = [held + step for step in (-2, -1, 1, 2)] if isinstance(held, int) else []
    container[key] = dice.choice([*near * 3, *NUMBERS, *OTHERS])


def removed(content, dice):
    container, key = dice.choice(list(places(content)))
    del container[key]


def added_key(content, dice):
    chosen = [container for container, _ in places(content) if isinstance(container, dict)]
    dice.choice(chosen)[dice.choice(["groups", "add", "kernel", "x", "value", "factor"])] = dice.choice(NUMBERS)


def swapped(content, dice):
    chosen = list(places(content))
    (one, key), (other, other_key) = dice.choice(chosen), dice.choice(chosen)
    if "tensors" not in (key, other_key) and "operations" not in (key, other_key):
        one[key], other[other_key] = json.loads(json.dumps([other[other_key], one[key]]))


def another_buffer(content, dice):
    dice.choice(content["tensors"])["buffer"] = dice.randrange(content["buffers"] + 1)


def another_tensor(content, dice):
    one = dice.choice(content["operations"])
    key = dice.choice(["output", "add", "inputs"])
    at = dice.randrange(len(content["tensors"]))
    if key == "inputs":
        one["inputs"][dice.randrange(len(one["inputs"]))] = at
    else:
        one[key] = at


def moved_operation(content, dice):
    operations = content["operations"]
    operations.insert(dice.randrange(len(operations)), operations.pop(dice.randrange(len(operations))))


def another_window(content, dice):
    one = dice.choice([one for one in content["operations"] if "kernel" in one])
    key = dice.choice(["kernel", "stride", "padding", "dilation"])
    one[key][dice.randrange(len(one[key]))] = dice.choice([0, 1, 2, 3, 8, 2**31 - 1])


TYPED = (another_buffer, another_tensor, moved_operation, another_window)  # the form stays a program's
ANY = (another_value, another_value, added_key, removed, swapped)


def text_mutations(count, dice):
    """JSON texts: cut, with bytes changed, repeated or removed, and with one or two changes of what they say."""
    plain = json.dumps(everything().json, indent=1).encode()
    for _ in range(count // 5):
        yield plain[: dice.randrange(len(plain))]
        yield bytes_changed(plain, dice)
        lines = plain.split(b"\n")
        at, much = dice.randrange(len(lines)), dice.choice([0, 2])
        yield b"\n".join(lines[:at] + [lines[at]] * much + lines[at + 1 :])
    for _ in range(count - 3 * (count // 5)):
        content = everything().json
        typed = dice.choice([0, 0, 1, 1, 2])
        for _ in range(typed):
            dice.choice(TYPED)(content, dice)
        for _ in range(1 if typed == 0 else dice.choice([0, 0, 1])):
            dice.choice(ANY)(content, dice)
        yield json.dumps(content).encode()


def bytes_changed(data, dice):
    """A few bytes flipped, overwritten, left out or put in."""
    changed = bytearray(data)
    for _ in range(dice.choice([1, 1, 2, 8])):
        at, way = dice.randrange(len(changed)), dice.randrange(4) if len(changed) > 1 else 3
        if way == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif way == 1:
            changed[at] = dice.choice(b'0129-.eE"\\{}[],: \0\xff')
        elif way == 2:
            del changed[at]
        else:
            changed.insert(at, dice.randrange(256))
    return bytes(changed)


# Mutations of the archive ---------------------------------------------------------------------------------------------


def archive_mutations(count, dice, sound):
    """The bytes of archives: cut, changed, and with fields of their headers overwritten."""
    marks = [at for at in range(len(sound)) if sound[at : at + 2] == b"PK"]
    for index in range(count):
        if index % 4 == 0:
            yield sound[: dice.choice([dice.randrange(len(sound)), dice.choice(marks) + dice.randrange(60)])]
        elif index % 4 == 1:
            yield bytes_changed(sound, dice)
        else:
            data = bytearray(sound)
            form = dice.choice(FIELDS)
            at = min(dice.choice(marks) + dice.randrange(60), len(data) - 4)
            struct.pack_into(form, data, at, dice.choice(VALUES) % 256 ** struct.calcsize(form))
            yield bytes(data)


def array_mutations(count, dice):
    """Contents whose archive is sound, and one of whose arrays is not: elements, types, shapes, names, headers."""
    for _ in range(count):
        content = everything()
        key = dice.choice(list(content.arrays))
        way = dice.choice([an_element, an_element, an_element, another_form, another_name, another_header])
        way(content, key, dice)
        yield content


def an_element(content, key, dice):
    array = content.arrays[key] = content.arrays[key].copy()
    extremes = EXTREMES["f" if array.dtype.kind == "f" else array.dtype.str[1:]]
    if array.size:
        array.reshape(-1)[dice.randrange(array.size)] = dice.choice(extremes)


def another_form(content, key, dice):
    array = content.arrays[key]
    ways = [
        array.astype(dice.choice(["<f4", "<f8", "u1", "<u4", "<i4", "<f2", ">f4", "?"])),
        array.reshape(-1)[:-1],
        np.append(array.reshape(-1), array.reshape(-1)[:1]),
        array.reshape(dice.choice([(-1,), (1, -1), (-1, 1), (1, 1, -1), (1, 1, 1, -1), (1, 1, 1, 1, -1)])),
        np.asfortranarray(array),
        array[::-1],
    ]
    content.arrays[key] = dice.choice(ways)


def another_name(content, key, dice):
    other = dice.choice(list(content.arrays))
    way = dice.randrange(3)
    if way == 0:
        del content.arrays[key]
    elif way == 1:
        content.arrays[key], content.arrays[other] = content.arrays[other], content.arrays[key]
    else:
        content.arrays[dice.choice(["99.bias", "0", "", ".", "-1.bias", "00.bias"])] = content.arrays.pop(key)


def another_header(content, key, dice):
    whole = npy(content.arrays[key])
    content.entries[f"{key}.npy"] = bytes_changed(whole[:128], dice) + whole[128:]


# Cases ----------------------------------------------------------------------------------------------------------------


class Cases:
    """Pairs of files in a folder; a half that is sound is a link to the one sound file."""

    def __init__(self, folder):
        self.folder, self.paths = folder, []
        self.sound = everything().write(folder / "sound.program.json")

    def add(self, text=None, archive=None, content=None):
        path = self.folder / f"{len(self.paths)}.program.json"
        self.paths.append(path)
        if content is not None:
            content.write(path)
            return
        for suffix, data in ((".json", text), (".npz", archive)):
            if data is None:
                os.link(self.sound.with_suffix(suffix), path.with_suffix(suffix))
            else:
                path.with_suffix(suffix).write_bytes(data)
