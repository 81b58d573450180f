"""What `edgeprune list` shows: each table's names, and of each its own first sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from edgeprune import models, recipe
from edgeprune.methods import ALIASES
from edgeprune.tables import TABLES
from runtimes.tables import pick, resolve

Listing = dict[str, dict[str, str]]  # table -> name -> one line


def listing(table: str | None = None) -> Listing:
    """All tables, or the one named; `recipes` are the files that ship. An unknown table is a `UserError`."""
    known: Mapping[str, object] = {**TABLES, "recipes": None}
    names = [pick({name: name for name in known}, table, "table")] if table else sorted(known)
    return {name: _rows(name) for name in names}


def as_text(found: Listing) -> str:
    """For people: a heading a table, a line a name."""
    blocks = []
    for table, rows in found.items():
        width = max(map(len, rows), default=0)
        blocks.append("\n".join([table, *(f"  {name:{width}}  {line}".rstrip() for name, line in rows.items())]))
    return "\n\n".join(blocks)


def _rows(table: str) -> dict[str, str]:
    if table == "recipes":
        return {name: _first_comment(path.read_text(encoding="utf-8")) for name, path in recipe.shipped().items()}
    if table == "models":
        return {name: _summary(models.MODELS.get(name, "a classifier of torchvision")) for name in models.names()}
    rows = {name: _summary(entry) for name, entry in sorted(TABLES[table].items())}
    if table == "methods":
        rows |= {alias: f"the same as {real}" for alias, real in ALIASES.items()}
    return rows


def _first_comment(text: str) -> str:
    line = text.splitlines()[0] if text else ""
    return line.removeprefix("#").strip()


def _summary(entry: object) -> str:
    """One line about a table's entry, whatever form it has: an address, a record with a note, or settings."""
    if isinstance(entry, Mapping):
        return str(entry["summary"])
    if not isinstance(entry, str):
        return str(getattr(entry, "note", "") or getattr(entry, "summary", ""))
    if "." not in entry:
        return entry
    found = resolve(entry)
    if isinstance(note := getattr(found, "note", None), str):
        return note
    documented = getattr(found, "score", found)  # a criterion wraps its formula
    return (inspect.getdoc(documented) or "").split("\n")[0]
