"""The loader's reader of JSON takes what Python's takes and reads the same from it, but for what is listed here."""

import json
import math
import random
import shutil
import subprocess

import pytest
from damage import bytes_changed
from loader import watched_loader

NULL, FALSE, TRUE, NUMBER, STRING, ARRAY, OBJECT = range(7)
DEEPEST, LONGEST_NUMBER = 16, 63


@pytest.fixture(scope="module")
def loader():
    return watched_loader()


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class Object(list):
    """The members of an object, in their order."""


def python_reads(data: bytes):
    """What Python's json makes of a text, with numbers as they are written; ValueError where it is none."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise ValueError("a byte order mark")
    return json.loads(
        data.decode("utf-8"),
        object_pairs_hook=Object,
        parse_int=Number,
        parse_float=Number,
        parse_constant=refuse,
    )


def refuse(word):
    raise ValueError(f"{word} is not JSON")


def lines(value, depth=0) -> list[str]:
    """A value as the test program prints it; ValueError for what ours refuses beside."""
    if isinstance(value, Number):
        return [number_line(value)]
    if isinstance(value, str):
        if "\0" in value:
            raise ValueError("a zero byte")
        text = value.encode("utf-8")  # a lone surrogate raises UnicodeEncodeError, a ValueError
        return [f"{STRING} {len(text)} 1 {text.hex()}"]
    if not isinstance(value, list):
        return [f"{ {None: NULL, False: FALSE, True: TRUE}[value] } 0 1"]
    if depth == DEEPEST:
        raise ValueError("too deep")
    parts = [part for pair in value for part in pair] if isinstance(value, Object) else value
    below = [line for part in parts for line in lines(part, depth + 1)]
    return [f"{OBJECT if isinstance(value, Object) else ARRAY} {len(value)} {len(below) + 1}", *below]


def number_line(text: Number) -> str:
    number = float(text)
    if not math.isfinite(number) or len(text) > LONGEST_NUMBER:
        raise ValueError("a number that is too large or too long")
    return f"{NUMBER} 0 1 {int(not set(text) & set('.eE'))} {number.hex()}"


def awaited(data: bytes) -> list[str] | None:
    """The lines for a text, or None where it must be refused."""
    try:
        return lines(python_reads(data))
    except (ValueError, RecursionError):
        return None


def same_hex(line: str) -> str:
    """C and Python write the same float differently: through Python's for both."""
    kind, *rest = line.split(" ")
    return " ".join([kind, *rest[:-1], float.fromhex(rest[-1]).hex()]) if kind == str(NUMBER) else line


def compare(loader, folder, texts: list[bytes]) -> int:
    """Hold the two readers against each other; how many texts both take."""
    paths = [folder / str(index) for index in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    taken = 0
    for text, read in zip(texts, loader.json_values(paths), strict=True):
        wanted = awaited(text)
        if wanted is None:
            assert read[0].startswith("no it: it is not valid JSON at byte "), text
            continue
        taken += 1
        assert [same_hex(line) for line in read] == wanted, text
    return taken


def text(value) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def anything(dice: random.Random, depth: int = 0):
    """A value of JSON's, of any shape."""
    way = dice.randrange(9 if depth < 5 else 7)
    if way >= 7:
        inner = [anything(dice, depth + 1) for _ in range(dice.randrange(5))]
        return inner if way == 7 else {word(dice): value for value in inner}
    return [None, True, False, dice.randrange(-(10**18), 10**18), any_float(dice), word(dice), word(dice)][way]


def any_float(dice: random.Random) -> float:
    return dice.choice([dice.uniform(-10, 10), 10 ** dice.uniform(-320, 308), 5e-324, -0.0, 1.7976931348623157e308])


def word(dice: random.Random) -> str:
    return "".join(dice.choice('aZ0 "\\/\b\f\n\r\t\x7f\x1fé߿ࠀ漢￿🙂\U0010ffff') for _ in range(dice.randrange(6)))


def test_any_value_is_read_as_python_reads_it(loader, tmp_path):
    dice = random.Random(5)  # noqa: S311
    values = [anything(dice) for _ in range(400)]
    texts = [json.dumps(value, ensure_ascii=dice.random() < 0.5, indent=dice.choice([None, 1])) for value in values]
    assert compare(loader, tmp_path, [part.encode() for part in texts]) == 400


EDGES = [
    *(b"0", b"-0", b"1", b"0.1", b"1e5", b"1E+05", b"-1.5e-7", b"123456789012345678901234567890", b"1e-400", b"0e999"),
    *(b"1" * 63, b"1" * 64, b"1e308", b"1e309", b"-", b".5", b"5.", b"00", b"--1", b"1e", b"0x1", b"1_0", b"1,"),
    *(b"\xd9\xa1", b'"\\ud83d\\ude42"', b'"\\ud83d"', b'"\\ude42"', b'"\\ud83dx"', b'"\\ud83d\\n"', b'"\\u00e9"'),
    *(b'"\\ud83d\\ud83d"', b'"\\uD7FF\\uE000"', b'"\\u 123"', b'"\\u+123"', b'"\\U0041"', b'"\\\'"', b'"\\/"'),
    *(b'"\x7f"', b'"\x1f"', b'"\xff"', b'"\xc2\x80"', b'"\xc1\xbf"', b'"\xe0\x9f\xbf"', b'"\xe0\xa0\x80"'),
    *(b'"\xf0\x8f\xbf\xbf"', b'"\xf4\x8f\xbf\xbf"', b'"\xc3"', b'"\xe2\x82"', b'"\xf0\x9f\x99"', b'"\x80"', b'"'),
    *(b'"\\', b'"\\u', b"'a'", b"nul", b"nulll", b"True", b"[]", b"{}", b"[[]]", b"[{}]", b"[,]", b"[1 2]", b"{,}"),
    *(b'{"a"}', b'{"a":}', b'{"a":1 "b":2}', b"[}", b"{]", b"]", b"[" * 16 + b"]" * 16, b"[" * 17 + b"]" * 17),
    *(b'{"":' * 16 + b"1" + b"}" * 16, b"[1]\x0b", b"\xc2\xa0[1]", b" \t\r\n1 \n"),
]


def test_the_edges_of_the_grammar_are_where_python_has_them(loader, tmp_path):
    taken = compare(loader, tmp_path, EDGES)
    assert 25 < taken < len(EDGES) - 25


def test_damaged_texts_are_taken_where_python_takes_them(loader, tmp_path):
    dice = random.Random(8)  # noqa: S311
    sound = [json.dumps(anything(dice)).encode() for _ in range(60)] + EDGES
    texts = [bytes_changed(dice.choice(sound), dice) for _ in range(1500)]
    assert 100 < compare(loader, tmp_path, texts) < 1250


def test_numbers_are_read_the_same_where_a_comma_is_the_point(loader, tmp_path, monkeypatch):
    maker = shutil.which("localedef")
    if maker is None:
        pytest.skip("no localedef here to make a locale with")
    command = [maker, "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "de_DE.UTF-8")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"localedef makes no locale: {made.stderr[:200]}")
    monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    assert "1,5" in subprocess.run(["printf", "%.1f", "1,5"], capture_output=True, text=True, check=True).stdout
    assert compare(loader, tmp_path, [b"[0.5, 1.25e-3, 16777217.5]"]) == 1
