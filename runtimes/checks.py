"""What a JSON value has to be: predicates for content that somebody else wrote."""

import re
from typing import Callable, Mapping, Optional

Check = Callable[[object], bool]

LARGEST = 10**18  # nothing that is measured is larger: 30 years have fewer nanoseconds; it fits into 64 bits
_SHORT = 200  # characters
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,199}")


def is_int(value: object) -> bool:
    """A whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """A number of a size that something has: JSON's whole numbers have no end, and its others may be infinite."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_short(value: object) -> bool:
    """A string of at most 200 characters: an identifier, a version, a moment."""
    return isinstance(value, str) and len(value) <= _SHORT


def is_plain_name(value: object) -> bool:
    """A name that is safe as a part of a file's name: letters, digits, `_`, `.`, `+`, `-`, and no dot at its begin."""
    return isinstance(value, str) and _PLAIN_NAME.fullmatch(value) is not None


def is_flag(value: object) -> bool:
    """True or False."""
    return isinstance(value, bool)


def is_table(value: object) -> bool:
    """A JSON object."""
    return isinstance(value, Mapping)


def is_rounds(value: object) -> bool:
    """A list of lists of whole numbers from 0. There may be a million, so nothing of ours is called for each."""
    return isinstance(value, list) and all(map(_are_counts, value))


def _are_counts(value: object) -> bool:
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        return False
    return not value or (min(value) >= 0 and max(value) <= LARGEST)


def at_least(least: float) -> Check:
    """A finite number of at least `least`."""
    return within(least, LARGEST)


def within(least: float, most: float) -> Check:
    """A finite number from `least` to `most`."""
    return lambda value: isinstance(value, (int, float)) and is_number(value) and least <= value <= most


def whole(least: int) -> Check:
    """A whole number of at least `least`."""
    return lambda value: is_int(value) and at_least(least)(value)


def or_none(check: Check) -> Check:
    """None, or what `check` accepts."""
    return lambda value: value is None or check(value)


def one_of(*known: str) -> Check:
    """One of these strings."""
    return lambda value: isinstance(value, str) and value in known


def list_of(check: Check) -> Check:
    """A list, each entry of which `check` accepts."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def table_of(check: Check) -> Check:
    """An object with string keys, each value of which `check` accepts."""
    return lambda value: isinstance(value, Mapping) and all(map(is_text, value)) and all(map(check, value.values()))


def table_with(checks: Mapping[str, Check], may: Optional[Mapping[str, Check]] = None) -> Check:
    """An object that has each of the keys of `checks`, and perhaps those of `may`, with a value that its check accepts.

    It may have others.
    """
    return lambda value: (
        isinstance(value, Mapping)
        and all(key in value and check(value[key]) for key, check in checks.items())
        and all(check(value[key]) for key, check in (may or {}).items() if key in value)
    )
