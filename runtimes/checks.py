"""What a JSON value has to be: predicates for content that somebody else wrote."""

from typing import Callable, Mapping

Check = Callable[[object], bool]


def is_int(value: object) -> bool:
    """A whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """A finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def is_text(value: object) -> bool:
    """A string."""
    return isinstance(value, str)


def is_flag(value: object) -> bool:
    """True or False."""
    return isinstance(value, bool)


def is_table(value: object) -> bool:
    """A JSON object."""
    return isinstance(value, Mapping)


def at_least(least: float) -> Check:
    """A finite number of at least `least`."""
    return lambda value: isinstance(value, (int, float)) and is_number(value) and value >= least


def whole(least: int) -> Check:
    """A whole number of at least `least`."""
    return lambda value: is_int(value) and at_least(least)(value)


def or_none(check: Check) -> Check:
    """None, or what `check` accepts."""
    return lambda value: value is None or check(value)


def list_of(check: Check) -> Check:
    """A list, each entry of which `check` accepts."""
    return lambda value: isinstance(value, list) and all(map(check, value))


def table_of(check: Check) -> Check:
    """An object with string keys, each value of which `check` accepts."""
    return lambda value: isinstance(value, Mapping) and all(map(is_text, value)) and all(map(check, value.values()))


def table_with(checks: Mapping[str, Check]) -> Check:
    """An object that has each of the keys, with a value that its check accepts; it may have others."""
    return lambda value: (
        isinstance(value, Mapping) and all(key in value and check(value[key]) for key, check in checks.items())
    )
