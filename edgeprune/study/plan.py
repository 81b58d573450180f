"""STUDY.toml: which methods, sparsities and seeds are compared under which budget, and the recipe of each cell."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from edgeprune.methods import method
from edgeprune.recipe import (
    Export,
    Fraction,
    Measure,
    NonNegative,
    Part,
    Prune,
    Recipe,
    Retrain,
    complete,
    flat,
    merge,
    stated_in,
)
from edgeprune.rundir import PLACES
from runtimes.errors import UserError
from runtimes.tables import pick

_HINT = "docs/studies.md shows the form"
_AXES = ("name", "method", "seed", "prune.sparsity")  # what the cells differ in, or what names them
_OWN = ("prune", "retrain")  # the tables in which a method may have values of its own
_OF_ROUNDS = ("iterative", "colt")  # schedules with trainings of their own, among which the scoring is shared out
_UNSEEN = ("name", "export", "measure")  # tables and values of a recipe that no cell looks at


class Published(Part):
    """A number that somebody else published, shown beside the study's own and not mixed with them."""

    what: str  # the method, and whose number it is
    source: str  # where it stands
    sparsity: Fraction | None = None  # as the source counts
    test_top1: NonNegative | None = None  # percent
    minutes: NonNegative | None = None  # wall-clock


class Study(Part):
    """What STUDY.toml states, checked."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    recipe: str  # a shipped recipe's name, or a .toml file relative to the study's
    methods: Annotated[tuple[str, ...], Field(min_length=1)]
    sparsities: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(min_length=1)]
    set: dict[str, Any] = Field(default_factory=dict)  # values of the recipe that all cells share
    epochs: NonNegative | None = None  # the budget: of scoring and retraining together; None: as the recipes say
    at: dict[str, dict[str, Any]] = Field(default_factory=dict)  # the same at one sparsity, which is the key: "0.9"
    method: dict[str, dict[str, Any]] = Field(default_factory=dict)  # values that a method prescribes for itself
    ours: str = ""  # the method whose differences to every other one are told
    baseline: str = ""  # the method to which every other one's differences are told
    compare: tuple[tuple[str, str], ...] = ()  # further pairs of methods whose differences are told
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"  # cells at once
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    method: str
    sparsity: float
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.method}-{self.sparsity:g}-s{self.seed}"


@dataclass(frozen=True)
class Plan:
    """A study, the folder it lies in, and the recipe of each of its cells."""

    study: Study
    folder: Path
    recipes: Mapping[Cell, Recipe]

    def result(self, cell: Cell) -> Path:
        """The file that keeps the result of a cell."""
        return self.folder / "cells" / f"{cell.name}.json"


def read_plan(where: str, places: Mapping[str, Any] | None = None) -> Plan:
    """Read and check a study: a file, its folder, or the name of one in `studies/`.

    `places` are recipe values that say where data and weights lie here. Whatever is wrong in any cell's recipe is a
    `UserError` now, before anything is computed.
    """
    path = _find(where)
    study = _check(_read(path))
    shared = merge(_recipe(study, path), study.set)
    return Plan(study, path.parent, {cell: _of(cell, study, shared, places or {}) for cell in cells(study)})


def cells(study: Study) -> Iterator[Cell]:
    """The cells in the order in which they are run: all methods at one sparsity and seed stand together."""
    for sparsity in study.sparsities:
        for seed in study.seeds:
            yield from (Cell(name, sparsity, seed) for name in study.methods)


def shared_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the run that provides teacher and dense start for a cell with `recipe` and all that share them.

    Whatever does not concern those two has its default. Where both come from checkpoints, one run serves all seeds.
    """
    given = recipe.student.checkpoint and (recipe.teacher.checkpoint or not recipe.teacher.model)
    changes = {
        "name": "shared",
        "method": "default",
        "seed": 0 if given else recipe.seed,
        "prune": Prune(),
        "retrain": Retrain(),
        "export": Export(),
        "measure": Measure(),
    }
    return recipe.model_copy(update=changes)


def shared_name(recipe: Recipe) -> str:
    """The run folder of `shared_recipe(recipe)`: other data, networks or trainings get another folder."""
    shared = shared_recipe(recipe)
    told = {key: value for key, value in settings(shared).items() if key.partition(".")[0] not in (*_OWN, "method")}
    return f"shared-s{shared.seed}-{_hash(told)[:8]}"


def settings(recipe: Recipe) -> dict[str, Any]:
    """Every value that a cell's result depends on, by dotted key: neither where things lie nor what comes after it.

    A checkpoint is told by its file's name alone.
    """
    values = flat(json.loads(recipe.model_dump_json()))
    seen = {key: value for key, value in values.items() if key not in PLACES and key.partition(".")[0] not in _UNSEEN}
    return {key: Path(value).name if key.endswith(".checkpoint") else value for key, value in seen.items()}


def fingerprint(recipe: Recipe) -> str:
    """The SHA-256 of `settings(recipe)`: a result with another one is of another study."""
    return _hash(settings(recipe))


def _hash(told: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _find(where: str) -> Path:
    path = Path(where)
    if path.suffix == ".toml" or path.is_dir():
        path = path / "study.toml" if path.is_dir() else path
        if not path.is_file():
            raise UserError(f"no study at {path}", f"write one ({_HINT}), or name one of: {', '.join(shipped())}")
        return path
    return pick(shipped(), where, "study")


def shipped() -> dict[str, Path]:
    """The studies in `studies/`, by their folder's path there: in this folder, and beside the package in a checkout."""
    roots = [Path(__file__).resolve().parents[2] / "studies", Path("studies")]
    return {path.parent.relative_to(root).as_posix(): path for root in roots for path in root.rglob("study.toml")}


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}", f"correct that line; {_HINT}") from None


def _recipe(study: Study, path: Path) -> dict[str, Any]:
    return stated_in(str(path.parent / study.recipe) if study.recipe.endswith(".toml") else study.recipe)


def _of(cell: Cell, study: Study, shared: Mapping[str, Any], places: Mapping[str, Any]) -> Recipe:
    """Recipe and `set`; above them what the method prescribes, above that the study's own word on the method.

    The shared budget is stated like a recipe's values: a method that prescribes no scoring keeps none under it.
    """
    asked = {"name": cell.name, "method": cell.method, "seed": cell.seed, "prune": {"sparsity": cell.sparsity}}
    here = study.at.get(f"{cell.sparsity:g}", {})
    shared = merge(shared, {table: values for table, values in here.items() if table != "method"})
    own = merge(study.method.get(cell.method, {}), here.get("method", {}).get(cell.method, {}))
    extra = merge(merge(own, asked), places)
    recipe = complete(shared, extra=extra)
    if recipe.prune.repair == "none":
        raise UserError(f'{cell.name} has prune.repair = "none"', "accuracy before retraining would say nothing then")
    if study.epochs is not None:
        recipe = complete(shared, extra=merge(extra, {"retrain": {"epochs": _left(study.epochs, recipe, cell)}}))
    if recipe.student.holds != "dense":
        raise UserError(f"a study prunes dense networks, not student.holds = '{recipe.student.holds}'", _HINT)
    return recipe


def _left(epochs: float, recipe: Recipe, cell: Cell) -> float:
    """What scoring or gradual pruning leaves of the budget for the retraining, or for each of several rounds of it."""
    scoring = recipe.prune.epochs / (recipe.prune.rounds if recipe.prune.schedule in _OF_ROUNDS else 1)
    if scoring > epochs:
        raise UserError(f"{cell.name} scores for {scoring:g} epochs, the study has {epochs:g} in all", _HINT)
    return epochs - scoring


def _check(values: Mapping[str, Any]) -> Study:
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        raise _explain(error) from None
    for name in study.methods:
        method(name)
    axes: dict[str, Sequence[object]] = {
        "methods": study.methods,
        "sparsities": study.sparsities,
        "seeds": study.seeds,
    }
    for what, values_of in axes.items():
        if len(set(values_of)) < len(values_of):
            raise UserError(f"{what} = {list(values_of)}: one of them stands there twice", "leave one of the two out")
    known = dict.fromkeys(study.methods)
    named = [name for values in study.at.values() for name in values.get("method", {})]
    named += [name for pair in study.compare for name in pair]
    for name in (*study.method, *named, *(name for name in (study.ours, study.baseline) if name)):
        pick(known, name, "method of the study")
    _check_tables(study)
    return study


def _check_tables(study: Study) -> None:
    given = flat(study.set)
    for key in _AXES:
        if key in given:
            raise UserError(f"set.{key}: that is what the cells differ in", "use methods, sparsities and seeds")
    for text in study.at:
        pick({f"{sparsity:g}": sparsity for sparsity in study.sparsities}, text, "sparsity of the study")
    own = {f"method.{name}": values for name, values in study.method.items()}
    for text, values in study.at.items():
        own[f'at."{text}"'] = {table: value for table, value in values.items() if table != "method"}
        own |= {f'at."{text}".method.{name}': mine for name, mine in values.get("method", {}).items()}
    if study.epochs is not None:
        for name, values in {"set": study.set, **own}.items():
            if "epochs" in values.get("retrain", {}):
                raise UserError(f"{name}: retrain.epochs follows from the study's epochs", "leave one of the two out")
    for name, values in own.items():
        strange = [table for table in values if table not in _OWN]
        if strange or "sparsity" in values.get("prune", {}):
            what = strange[0] if strange else "prune.sparsity"
            hint = "only values in prune and retrain may differ between cells; what is for all belongs into set"
            raise UserError(f"{name}.{what}: all cells share that", hint)


def _explain(error: ValidationError) -> UserError:
    first = error.errors()[0]
    where = [str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-", "tuple["))]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = Published if where[0] == "published" else Study
        try:
            pick(dict.fromkeys(known.model_fields), where[-1], "study key")
        except UserError as unknown:
            return UserError(f"unknown study key '{key}'", unknown.hint)
    if first["type"] == "missing":
        return UserError(f"the study states no {key}", _HINT)
    return UserError(f"{key} = {first['input']!r}: {first['msg']}", f"correct it in the study; {_HINT}")
