"""Part of 3-export: beside each fp32 file for a CPU the program that the runtime sparse_cpu reads in its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from export.program import to_program
from export.targets import Target
from runtimes.errors import UserError

SPARSE_CPU = "sparse_cpu"


class Programs(NamedTuple):
    """The manifest's entries, those that have a program with its files' names, and what is to be warned of."""

    entries: dict[str, dict[str, Any]]
    warnings: list[str]


def with_programs(folder: Path, entries: Mapping[str, dict[str, Any]], target: Target, *, needed: bool) -> Programs:
    """Write `<stem>.program.json` and `.program.npz` beside the files in `folder` that `entries` list in fp32.

    Where sparse_cpu is `needed`, because the recipe measures on it, a network that it cannot run is a `UserError` with
    the operator and the node. Else there is a warning and no program, and for a target that is no CPU nothing at all.
    Programs of an earlier export go.
    """
    told: list[str] = []
    found: dict[str, dict[str, Any]] = {}
    for name, entry in entries.items():
        files: list[str] = []
        if entry["precision"] == "fp32" and (needed or target.runtime == "ort"):
            files, doubts = _written(folder / str(entry["file"]), name, needed=needed)
            told += doubts
        rest = {key: value for key, value in entry.items() if key != "program"}
        found[name] = {**rest, "program": files} if files else rest
    kept = {file for entry in found.values() for file in entry.get("program", ())}
    for path in folder.glob("*.program.*"):
        if path.name not in kept:
            path.unlink()
    return Programs(found, list(dict.fromkeys(told)))


def _written(source: Path, name: str, *, needed: bool) -> tuple[list[str], list[str]]:
    """The program's files and what is doubtful of it; no files where it cannot be one."""
    try:
        written = to_program(source)
    except UserError as error:
        if needed:
            raise
        return [], [f"{name} has no program for sparse_cpu: {error.message}"]
    return [written.json.name, written.npz.name], [f"{name}: {doubt}" for doubt in written.doubts]
