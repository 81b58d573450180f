"""What `edgeprune list` shows: each table's names, and of each its own first sentence."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from devices.known import known_devices
from edgeprune import models, recipe
from edgeprune.methods import ALIASES
from edgeprune.tables import TABLES
from export.targets import TARGETS, Target
from runtimes.tables import pick, resolve

Listing = dict[str, dict[str, Any]]  # table -> name -> one line, or all fields of a target


def listing(table: str | None = None) -> Listing:
    """All tables, or the one named; `recipes` are the files that ship. An unknown table is a `UserError`.

    A line each; but targets that are asked for alone are told with all that is known of them.
    """
    if table == "targets":
        return {table: {name: asdict(target) for name, target in TARGETS.items()}}
    known: Mapping[str, object] = {**TABLES, "recipes": None}
    names = [pick({name: name for name in known}, table, "table")] if table else sorted(known)
    return {name: _rows(name) for name in names}


def as_text(found: Listing) -> str:
    """For people: a heading a table, a line a name; of targets alone, a block each."""
    if list(found) == ["targets"]:
        return "\n\n".join(_block(TARGETS[name]) for name in found["targets"])
    blocks = []
    for table, rows in found.items():
        width = max(map(len, rows), default=0)
        blocks.append("\n".join([table, *(f"  {name:{width}}  {line}".rstrip() for name, line in rows.items())]))
    return "\n\n".join(blocks)


def facts(target: Target) -> dict[str, str]:
    """What is known of a target, in words with units, by the name of the field that says it."""
    told = {
        "runtime": target.runtime,
        "tensorrt": " to ".join(dict.fromkeys(target.tensorrt or ())),
        "architecture": target.architecture,
        "compute_capability": target.compute_capability or "",
        "sparse_tensor_cores": "yes, 2:4" if target.sparse_tensor_cores else "no",
        "precisions": ", ".join(target.precisions),
        "writes": ", ".join(target.writes),
        "memory_gb": _each(target.memory_gb, "GB"),
        "bandwidth_gbs": _each(target.bandwidth_gbs, "GB/s"),
        "power_modes": ", ".join(target.power_modes),
        "opset": str(target.opset),
        "ir_version": str(target.ir_version),
        "prunes": target.prunes,
    }
    return {field: words for field, words in told.items() if words}


TITLES = {
    "tensorrt": "TensorRT",
    "compute_capability": "compute capability",
    "sparse_tensor_cores": "sparse tensor cores",
    "memory_gb": "memory",
    "bandwidth_gbs": "bandwidth",
    "power_modes": "power modes",
    "opset": "ONNX opset",
    "ir_version": "IR version",
    "prunes": "prune",
}
"""What a reader calls a field, where that is not the field's name."""


def _block(target: Target) -> str:
    """Everything about one target, and where each number comes from."""
    told = {TITLES.get(field, field): words for field, words in facts(target).items()}
    width = max(map(len, [*told, *(TITLES.get(field, field) for field in target.sources)]))
    lines = [target.name, f"  {target.device}", f"  {target.note}"]
    lines += [f"  {title:{width}}  {words}" for title, words in told.items()]
    if target.alias_of:
        return "\n".join([*lines, f"  another name of {target.alias_of}, with the same sources"])
    lines += ["  sources"]
    return "\n".join(
        lines + [f"    {TITLES.get(field, field):{width}}  {said}" for field, said in target.sources.items()]
    )


def _each(values: tuple[float, ...], unit: str) -> str:
    """`8, 16 GB`; equal values of several variants once."""
    told = list(dict.fromkeys(f"{value:g}" for value in values))
    return f"{', '.join(told)} {unit}" if told else ""


def _rows(table: str) -> dict[str, str]:
    if table == "recipes":
        return {name: _first_comment(path.read_text(encoding="utf-8")) for name, path in recipe.shipped().items()}
    if table == "models":
        return {name: _summary(models.MODELS.get(name, "a classifier of torchvision")) for name in models.names()}
    rows = {name: _summary(entry) for name, entry in sorted(TABLES[table].items())}
    if table == "devices":
        rows |= {name: f"{known.url}, in your devices.toml" for name, known in known_devices().items()}
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
