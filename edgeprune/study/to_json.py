"""study.json: every cell, and what the cells of each method and sparsity come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edgeprune.study.plan import Plan, Study
from edgeprune.study.results import Finished, Row
from edgeprune.study.summary import Difference, Spread, paired, spread


@dataclass(frozen=True)
class Line:
    """A method at one sparsity, over its finished seeds; `epochs` is epochs-equivalent, `before` of the validation."""

    method: str
    test_top1: Spread | None
    before: Spread | None
    wall_clock_s: Spread | None
    epochs: Spread | None
    failed: int
    missing: int  # not run, or of another recipe


@dataclass(frozen=True)
class Contrast:
    """Test accuracy of `one` minus that of `other`, in points, paired by seed."""

    one: str
    other: str
    difference: Difference | None


@dataclass(frozen=True)
class Table:
    """All methods at one sparsity."""

    sparsity: float
    achieved: tuple[float, float] | None  # the least and the most zeros in the prunable weights
    paper: tuple[float, float] | None  # the same as the paper counts
    lines: tuple[Line, ...]
    contrasts: tuple[Contrast, ...]


def tables(study: Study, rows: Sequence[Row]) -> list[Table]:
    """One table a sparsity, in the study's order."""
    return [
        _table(study, sparsity, [row for row in rows if row.cell.sparsity == sparsity]) for sparsity in study.sparsities
    ]


def render(plan: Plan, rows: Sequence[Row]) -> dict[str, Any]:
    """What study.json holds."""
    stated = plan.study.model_dump(mode="json", exclude={"workers"})
    aggregates = [asdict(table) for table in tables(plan.study, rows)]
    return {"schema_version": 1, **stated, "aggregates": aggregates, "cells": [_cell(row) for row in rows]}


def finished(rows: Sequence[Row]) -> list[Finished]:
    """The results of the cells that came to their end."""
    return [row.result for row in rows if isinstance(row.result, Finished)]


def shared_top1(results: Sequence[Finished]) -> tuple[Spread | None, Spread | None]:
    """Test accuracy of the dense start and of the teacher, one value a seed; None where there is none."""
    dense = {one.seed: one.dense_test_top1 for one in results}
    teacher = {one.seed: one.teacher_test_top1 for one in results if one.teacher_test_top1 is not None}
    return spread([*dense.values()]), spread([*teacher.values()])


def differing_starts(results: Sequence[Finished]) -> list[int]:
    """Seeds whose cells did not begin from the same networks: trained anew on another machine, these differ."""
    starts: dict[int, set[str]] = {}
    for one in results:
        starts.setdefault(one.seed, set()).add(str(sorted(one.start.items())))
    return sorted(seed for seed, found in starts.items() if len(found) > 1)


def _cell(row: Row) -> dict[str, Any]:
    told = row.result.model_dump(mode="json", exclude={"schema_version", "recipe"}) if row.result else {}
    return {**asdict(row.cell), **told, "state": row.state, **({"note": row.note} if row.note else {})}


def _table(study: Study, sparsity: float, rows: Sequence[Row]) -> Table:
    results = finished(rows)
    of = {name: [row for row in rows if row.cell.method == name] for name in study.methods}
    top1 = {name: {one.seed: one.test_top1 for one in finished(of[name])} for name in study.methods}
    return Table(
        sparsity,
        _range([one.sparsity_achieved for one in results]),
        _range([one.sparsity_paper for one in results]),
        tuple(_line(name, of[name]) for name in study.methods),
        tuple(_contrasts(study, top1)),
    )


def _line(method: str, rows: Sequence[Row]) -> Line:
    results = finished(rows)

    def over(value: Callable[[Finished], float]) -> Spread | None:
        return spread([value(one) for one in results])

    failed = sum(row.state == "failed" for row in rows)
    return Line(
        method,
        over(lambda one: one.test_top1),
        over(lambda one: one.validation_top1_before),
        over(lambda one: one.wall_clock_s.prune + one.wall_clock_s.retrain),
        over(lambda one: one.epochs_equivalent),
        failed,
        len(rows) - len(results) - failed,
    )


def _contrasts(study: Study, top1: Mapping[str, Mapping[int, float]]) -> list[Contrast]:
    """`ours` minus every other method, every other method minus `baseline`, then the pairs asked for; no pair twice."""
    pairs = [(study.ours, other) for other in study.methods if study.ours not in ("", other)]
    pairs += [(one, study.baseline) for one in study.methods if study.baseline not in ("", one) and one != study.ours]
    pairs += study.compare
    return [Contrast(one, other, paired(top1[one], top1[other])) for one, other in dict.fromkeys(pairs)]


def _range(values: Sequence[float]) -> tuple[float, float] | None:
    return (min(values), max(values)) if values else None
