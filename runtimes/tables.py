"""Choosing by name: every table of edgeprune is a plain dictionary, and `pick` is how a name becomes its entry."""

import difflib
import importlib
from typing import Any, Mapping, TypeVar

from runtimes.errors import UserError

Entry = TypeVar("Entry")
_LONG = 40  # names; a longer list is not an answer


def pick(table: Mapping[str, Entry], name: str, kind: str) -> Entry:
    """Return `table[name]`; an unknown name raises `UserError` with the nearest name and the whole list."""
    if name in table:
        return table[name]
    near = difflib.get_close_matches(name, list(table), n=5, cutoff=0.4)
    guess = "did you mean '{}'? ".format(near[0]) if near else ""
    shown = ", ".join(sorted(table))
    if len(table) > _LONG:
        shown = "{}, among {} that `edgeprune list` shows".format(", ".join(near) or "none like it", len(table))
    raise UserError("unknown {} '{}'".format(kind, name), "{}known: {}".format(guess, shown))


def resolve(address: str) -> Any:
    """Import what a table's string names: `package.module` is the module, `package.module:name` something in it."""
    module, _, attribute = address.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found
