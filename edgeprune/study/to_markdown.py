"""study.md: a table for each sparsity and the differences below it, in words that claim no more than the cells show."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune.recipe import flat
from edgeprune.report.wording import MINUS, NONE, plural
from edgeprune.study.plan import Plan, Published
from edgeprune.study.results import Finished, Row
from edgeprune.study.summary import Spread
from edgeprune.study.to_json import Contrast, Line, Table, differing_starts, finished, shared_top1, tables

COLUMNS = (
    "method",
    "test top-1, %",
    "deviation",
    "seeds",
    "before retraining, %",
    "wall-clock, s",
    "epochs-equivalent",
)
NOTE = (
    "Mean over seeds; test images were scored once, at the end, with the weights that were best on the validation "
    "split. *Deviation* is the standard deviation over seeds. *Before retraining* is the validation top-1 of the "
    "pruned network with re-estimated batch norm. *Wall-clock* is pruning and retraining of one cell, "
    "*epochs-equivalent* the images that went forward and backward through the student, over the training images."
)
ALONE = "Each interval stands for itself: one in twenty misses the true difference by chance."


def render(plan: Plan, rows: Sequence[Row]) -> str:
    """The study as GitHub-flavoured Markdown; every number in it comes from the cells."""
    parts = [f"# {plan.study.name}", _state(plan, rows), _start(finished(rows))]
    parts += ["![test accuracy over sparsity](accuracy.svg)", NOTE]
    for table in tables(plan.study, rows):
        parts += [_heading(table), _lines(table), _contrasts(table.contrasts)]
    parts += [
        _published(plan.study.published),
        _failures(rows),
        _warnings(rows),
        _budget(plan),
        _machines(finished(rows)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _state(plan: Plan, rows: Sequence[Row]) -> str:
    count = {state: sum(row.state == state for row in rows) for state in ("done", "failed", "outdated", "not run")}
    told = f"{count['done']} of {plural(len(rows), 'cell')} done, {count['failed']} failed"
    told += f", {count['not run'] + count['outdated']} not run"
    outdated = (
        f" ({count['outdated']} have a result of another recipe, which is not shown)" if count["outdated"] else ""
    )
    budget = "" if plan.study.epochs is None else f", {plan.study.epochs:g} epochs of scoring and retraining together"
    return f"{told}{outdated}. Recipe `{plan.study.recipe}`{budget}."


def _start(results: Sequence[Finished]) -> str:
    """The networks that cells share, one value a seed."""
    dense, teacher = shared_top1(results)
    if dense is None:
        return ""
    told = f"test top-1 {_mean(teacher)} %" if teacher else "the dense student"
    return f"Dense start: test top-1 {_mean(dense)} %. Teacher: {told}."


def _heading(table: Table) -> str:
    heading = f"## {_share(table.sparsity)} of the prunable weights zero"
    if table.achieved is None or table.paper is None:
        return heading
    told = (
        f"Achieved: {_between(table.achieved)} of the prunable weights; {_between(table.paper)} of the weights of all "
    )
    return f"{heading}\n\n{told}convolutions, linear layers and batch norms, as the paper counts."


def _lines(table: Table) -> str:
    head = [_row(COLUMNS), "| --- |" + " ---: |" * (len(COLUMNS) - 1)]
    return "\n".join([*head, *(_row(_cells(line)) for line in table.lines)])


def _cells(line: Line) -> tuple[str, ...]:
    seeds = str(line.test_top1.n if line.test_top1 else 0)
    seeds += f", {line.failed} failed" if line.failed else ""
    seeds += f", {line.missing} not run" if line.missing and line.test_top1 else ""
    name = f"`{line.method}`"
    if line.test_top1 is None:
        return name, "failed" if line.failed and not line.missing else "not run", NONE, seeds, NONE, NONE, NONE
    numbers = (_mean(line.before), _mean(line.wall_clock_s, 0), _mean(line.epochs))
    deviation = NONE if line.test_top1.deviation is None else f"{line.test_top1.deviation:.2f}"
    return name, _mean(line.test_top1), deviation, seeds, *numbers


def _contrasts(contrasts: Sequence[Contrast]) -> str:
    if not contrasts:
        return ""
    head = [
        _row(("difference of test top-1, points", "mean", "95 % interval", "pairs")),
        "| --- | ---: | ---: | ---: |",
    ]
    told = "\n".join([*head, *(_row(_contrast(one)) for one in contrasts)])
    many = sum(one.difference is not None and one.difference.interval is not None for one in contrasts) > 1
    return f"{told}\n\n{ALONE}" if many else told


def _contrast(contrast: Contrast) -> tuple[str, ...]:
    name, found = f"`{contrast.one}` {MINUS} `{contrast.other}`", contrast.difference
    if found is None:
        return name, "not run", NONE, "0"
    if found.interval is None:
        return name, _signed(found.mean), "none: one seed has no spread", "1"
    return name, _signed(found.mean), " to ".join(_signed(edge) for edge in found.interval), str(found.n)


def _published(published: Sequence[Published]) -> str:
    """Other people's numbers, apart from ours."""
    if not published:
        return ""
    head = ["## Published elsewhere", "", _row(("what", "sparsity, %", "test top-1, %", "minutes", "source"))]
    lines = [
        _row((one.what, _plain(one.sparsity, 100), _plain(one.test_top1), _plain(one.minutes), one.source))
        for one in published
    ]
    return "\n".join([*head, "| --- | ---: | ---: | ---: | --- |", *lines])


def _failures(rows: Sequence[Row]) -> str:
    told = [f"- `{row.cell.name}`: {_quiet(row.note)}" for row in rows if row.state == "failed"]
    return "\n".join(["## Failed", "", *told]) if told else ""


def _warnings(rows: Sequence[Row]) -> str:
    told = [
        f"- `{one.cell.name}`: {_quiet(said)}" for one in rows for result in finished([one]) for said in result.warnings
    ]
    seeds = differing_starts(finished(rows))
    if seeds:
        whose = f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
        told.insert(
            0, f"- The cells of {whose} did not all begin from the same networks: their differences hold that, too."
        )
    return "\n".join(["## Warnings", "", *told]) if told else ""


def _budget(plan: Plan) -> str:
    """What all cells share, and what a method has of its own."""
    told = {"all cells": plan.study.set}
    told |= {f"at {_share(float(text))}": values for text, values in plan.study.at.items()}
    told |= {f"`{name}`": values for name, values in plan.study.method.items()}
    lines = [f"- {whose}: {', '.join(_stated(values))}" for whose, values in told.items() if values]
    return "\n".join(["## Settings above the recipe's", "", *lines]) if lines else ""


def _stated(values: Mapping[str, Any]) -> list[str]:
    return [f"`{key} = {json.dumps(value, ensure_ascii=False)}`" for key, value in flat(values).items()]


def _machines(results: Sequence[Finished]) -> str:
    machines = sorted({(m.device, m.torch, m.threads, m.workers) for m in (one.machine for one in results)})
    told = [
        f"- {device}, torch {torch}, {plural(threads, 'thread')} a cell, {plural(workers, 'cell')} at once"
        for device, torch, threads, workers in machines
    ]
    if len(told) > 1:
        told.append("- The cells were not all computed alike: wall-clocks of different machines do not compare.")
    return "\n".join(["## Computed on", "", *told]) if told else ""


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def _mean(found: Spread | None, digits: int = 2) -> str:
    return NONE if found is None else f"{found.mean:.{digits}f}"


def _signed(value: float) -> str:
    text = f"{abs(value):.2f}"
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def _share(fraction: float) -> str:
    return f"{100 * fraction:.6g} %"


def _between(edges: tuple[float, float]) -> str:
    low, high = (f"{100 * edge:.2f}" for edge in edges)
    return f"{low} %" if low == high else f"{low} to {high} %"


def _plain(value: float | None, factor: float = 1.0) -> str:
    return NONE if value is None else f"{factor * value:.6g}"


def _quiet(text: str) -> str:
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
