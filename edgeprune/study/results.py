"""What a study keeps: one small JSON file for each cell, written when the cell ends and read by everything after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from edgeprune.recipe import Part
from edgeprune.study.plan import Cell, Plan, fingerprint, settings
from runtimes.errors import UserError
from runtimes.files import read_json, write_json

State = Literal["done", "failed", "outdated", "not run"]


class Seconds(Part):
    """Wall-clock of a cell's own two steps."""

    prune: float
    retrain: float


class Machine(Part):
    """What a cell was computed with."""

    torch: str  # version
    device: str  # the GPU's name, or the processor's
    threads: int
    workers: int  # cells at once


class _Result(Part):
    schema_version: Literal[1] = 1
    method: str
    sparsity: float
    seed: int
    recipe_sha256: str  # of `recipe`
    recipe: dict[str, Any]  # see `plan.settings`
    machine: Machine


class Finished(_Result):
    """A cell that came to its end. Accuracies in percent; test images were looked at once, at the end."""

    state: Literal["done"] = "done"
    test_top1: float
    dense_test_top1: float
    teacher_test_top1: float | None  # None: the dense student is the teacher
    validation_top1_before: float  # pruned, batch norm re-estimated, not retrained
    validation_top1_after: float
    sparsity_achieved: float  # zeros in the prunable weights
    sparsity_paper: float  # zeros in the weights of all convolutions, linear layers and batch norms
    mask_sha256: str
    wall_clock_s: Seconds
    epochs_equivalent: float  # images that went forward and backward through the student / training images
    start: dict[str, str]  # hashes of the networks it shares: dense, and teacher where there is one
    warnings: tuple[str, ...]


class Failed(_Result):
    """A cell that ended with a `UserError`, such as a training that diverged."""

    state: Literal["failed"] = "failed"
    message: str


Result = Finished | Failed
_RESULT: TypeAdapter[Result] = TypeAdapter(Annotated[Result, Field(discriminator="state")])


@dataclass(frozen=True)
class Row:
    """A cell, how it stands, its result if it has one of the present recipe, and a word where there is one to say."""

    cell: Cell
    state: State
    result: Result | None = None
    note: str = ""


def write_result(path: Path, result: Result) -> None:
    """Write the file of a cell, whole or not at all."""
    write_json(path, result.model_dump(mode="json"))


def rows(plan: Plan) -> list[Row]:
    """How every cell of the study stands; a result of another recipe counts as none and says in what it differs."""
    return [_row(plan, cell) for cell in plan.recipes]


def _row(plan: Plan, cell: Cell) -> Row:
    path, recipe = plan.result(cell), plan.recipes[cell]
    if not path.is_file():
        return Row(cell, "not run")
    result = _read(path)
    if (result.method, result.sparsity, result.seed) != (cell.method, cell.sparsity, cell.seed):
        raise UserError(f"{path} is the result of another cell", "give it the name it had, or delete it")
    if result.recipe_sha256 != fingerprint(recipe):
        return Row(cell, "outdated", note=_difference(result.recipe, settings(recipe)))
    return Row(cell, result.state, result, result.message if isinstance(result, Failed) else "")


def _read(path: Path) -> Result:
    try:
        return _RESULT.validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{path} is not the result of a cell: {where}: {first['msg']}", "delete it, and run it again"
        ) from None


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    keys = sorted(key for key in {*there, *here} if there.get(key) != here.get(key))
    told = [f"{key} was {there.get(key)!r}, is {here.get(key)!r}" for key in keys[:3]]
    return "; ".join(told) + ("; ..." if len(keys) > 3 else "") or "its file was changed"
