"""`edgeprune compare A B`: network B relative to network A, on every device and in every setting that measured both.

Measured in one session they are compared round by round, else apart and far more cautiously: see `report.judging`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from edgeprune.report import compare, pairing
from edgeprune.report.agreement import Agreement, agreement
from edgeprune.report.bootstrap import RESAMPLES, SEED
from edgeprune.report.collect import DAMAGED, collect
from edgeprune.report.facts import identity
from edgeprune.report.judging import judge
from edgeprune.report.records import Figure, Remark, Report, Row
from edgeprune.report.side_by_side import figures
from edgeprune.report.uncertainty import LEVEL
from runtimes.errors import UserError
from runtimes.files import read_json


@dataclass(frozen=True)
class Pair:
    """B relative to A on one device in one setting. Field names are the JSON's."""

    device: str
    runtime: str
    batch: int
    threads: int
    protocol: str
    precision: str  # of B
    stand_in: str | None  # what stood in for the device: then no times are compared
    a: str  # the network's name
    b: str
    setting: str  # in words
    together: bool  # measured in turns in one call; else apart
    differences: tuple[str, ...]  # between the two measurements, beside the networks
    headline: str  # the percentile that is quoted
    latency_ratio: float | None  # B / A: below 1 is faster
    latency_ratio_interval: tuple[float, float] | None
    level: float
    resamples: int
    seed: int
    passes: int
    rounds: int
    noise_floor: float | None  # a share
    noise_floor_of: tuple[str, ...]  # the networks that tell it
    noise_floor_reason: str | None  # why there is none
    verdict: str  # faster, slower, within noise or not known
    reason: str | None  # why the verdict is not known
    uses_zeros: str  # whether B's runtime computed any layer by its zeros
    top1_difference: float | None  # points, B - A
    top1_difference_standard_error: float | None  # an upper bound
    images: int | None
    differing_answers: int | None
    top1_p_value_at_most: float | None  # McNemar, exact
    figures: tuple[Figure, ...]  # `value` is B's, `baseline` A's
    row: Row  # B's measurement
    baseline: Row  # A's


@dataclass(frozen=True)
class Compared:
    """Two networks, each from a run folder, in every setting that measured both."""

    a: str  # as they were named
    b: str
    pairs: tuple[Pair, ...]
    alone: tuple[str, ...]  # settings that measured only one of them
    left_out: tuple[Remark, ...] = ()  # damaged measurements of either


@dataclass(frozen=True)
class _Side:
    """One of the two: the run folder, what it tells, and the rows of the named network."""

    asked: str
    run: Path
    report: Report
    rows: tuple[Row, ...]


def compare_runs(a: str, b: str) -> Compared:
    """Compare network `b` with network `a`; each is a run folder or `RUN:NETWORK`, without a network the sparse one.

    NETWORK is one of a run's networks in all its precisions (`dense`), or one precision of it (`dense-int8`); where no
    measurement has that name, the ones of that role. A folder
    that is no run, a network that it has not measured, and two that share no device and setting are `UserError`s.
    """
    first, second = _side(a), _side(b)
    matched = [
        (row, other)
        for other in second.rows
        if (row := pairing.counterpart(other, first.rows, second.rows)) is not None
    ]
    if not matched:
        raise _nothing_shared(first, second)
    used = {id(row) for pair in matched for row in pair}
    alone = [f"{side.asked}: {_where(row)}" for side in (first, second) for row in side.rows if id(row) not in used]
    left_out = dict.fromkeys(remark for side in (first, second) for remark in _left_out(side.report, side.asked))
    pairs = tuple(_pair(row, first, other, second) for row, other in matched)
    return Compared(a, b, pairs, tuple(alone), tuple(left_out))


def _left_out(report: Report, asked: str) -> list[Remark]:
    """The damaged measurements of the network that was asked for, by their files' names."""
    network = named(asked)[1]
    damaged = [remark for remark in report.warnings if remark.code == DAMAGED]
    return [remark for remark in damaged if f"-{network}" in PurePosixPath(remark.source).name]


def _nothing_shared(first: _Side, second: _Side) -> UserError:
    there = "; ".join(f"{side.asked}: {', '.join(map(_where, side.rows))}" for side in (first, second))
    near = [(a, b) for a in first.rows for b in second.rows if (a.device, a.runtime) == (b.device, b.runtime)]
    for a, b in near[:1]:
        keys = [key for key in {**a.workload, **b.workload} if a.workload.get(key) != b.workload.get(key)]
        there += f"; not the same in the workload on {a.device}: {', '.join(keys) or 'nothing, but several fit'}"
    return UserError(
        f"{first.asked} and {second.asked} share no device, runtime and workload ({there})",
        "measure both with the same --device, --batch, --threads and --protocol",
    )


def named(asked: str) -> tuple[Path, str]:
    """The folder and the network that `RUN` or `RUN:NETWORK` names; a folder that is there counts before a colon."""
    if not Path(asked).is_dir() and ":" in asked:
        folder, _, network = asked.rpartition(":")
        return Path(folder), network
    return Path(asked), "sparse"


def _side(asked: str) -> _Side:
    run, network = named(asked)
    report = collect(run)
    real = [row for row in report.rows if row.runtime != "null"]
    named_so = [row for row in real if row.name in (network, f"{network}-{row.precision}")]
    rows = tuple(named_so or [row for row in real if row.role == network])
    if not rows:
        known = ", ".join(dict.fromkeys(row.name for row in report.rows)) or "nothing"
        damaged = "".join(f"; {remark.source} was {remark.message}" for remark in _left_out(report, asked))
        what = f"{run} has no measurement of '{network}'{damaged}"
        raise UserError(what, f"it measured {known}: name one as RUN:NETWORK")
    return _Side(asked, run, report, rows)


def _where(row: Row) -> str:
    return f"{row.name} on {row.device} ({row.setting})"


def _pair(row_a: Row, side_a: _Side, row_b: Row, side_b: _Side) -> Pair:
    judged = judge(row_b, row_a, side_b.report.rows, side_a.report.rows)
    alike = _alike(row_a, side_a, row_b, side_b)
    difference, error, images = compare.top1_difference(row_b, row_a, alike)
    timed = judged.timed
    return Pair(
        device=row_b.device,
        runtime=row_b.runtime,
        batch=row_b.batch,
        threads=row_b.threads,
        protocol=str(row_b.workload.get("protocol", "")),
        precision=row_b.precision,
        stand_in=row_b.stand_in or row_a.stand_in,
        a=row_a.name,
        b=row_b.name,
        setting=row_b.setting,
        together=pairing.in_turns(row_a, row_b),
        differences=tuple(_differences(row_a, side_a, row_b, side_b)),
        headline=row_b.headline,
        latency_ratio=timed.value if timed else None,
        latency_ratio_interval=timed.interval if timed else None,
        level=LEVEL,
        resamples=RESAMPLES,
        seed=SEED,
        passes=timed.passes if timed else 0,
        rounds=timed.rounds if timed else 0,
        noise_floor=judged.floor.value,
        noise_floor_of=judged.floor_of,
        noise_floor_reason=judged.floor.reason,
        verdict=judged.verdict,
        reason=judged.reason,
        uses_zeros=compare.uses_zeros(row_b),
        top1_difference=difference,
        top1_difference_standard_error=error,
        images=images,
        differing_answers=alike.differing if alike else None,
        top1_p_value_at_most=alike.p_value_at_most if alike else None,
        figures=figures(row_b, row_a),
        row=row_b,
        baseline=row_a,
    )


def _differences(row_a: Row, side_a: _Side, row_b: Row, side_b: _Side) -> list[str]:
    """What is not the same in the two measurements, beside the network: A before B."""
    told_a, told_b = _told(row_a, side_a), _told(row_b, side_b)
    labels = [label for label in {**told_a, **told_b} if told_a.get(label) != told_b.get(label)]
    return [f"{label}: {told_a.get(label, 'not read')} against {told_b.get(label, 'not read')}" for label in labels]


def _told(row: Row, side: _Side) -> dict[str, str]:
    """The precision and the runtime's version, and what the device said it is and was set to."""
    facts = side.report.environment.get(row.machine, {})
    own = {"Precision": row.precision, "Runtime version": str(row.runtime_version)}
    return {**own, **dict(identity(facts, row.settings))}


def _alike(row_a: Row, side_a: _Side, row_b: Row, side_b: _Side) -> Agreement | None:
    """How many answers differ, where both are known to have seen the same images."""
    if row_a.bundle != row_b.bundle:
        images_a, images_b = _images(row_a, side_a.run), _images(row_b, side_b.run)
        if images_a is None or images_a != images_b:
            return None
    return agreement(row_b, side_b.run, row_a, side_a.run)


def _images(row: Row, run: Path) -> Mapping[str, Any] | None:
    """The hashes of the images in the bundle that the row measured, and how they are normalised; None: it is gone."""
    for path in sorted((run / "4-compile").glob("**/bundle/manifest.json")):
        manifest = read_json(path)
        if isinstance(manifest, dict) and manifest.get("id") == row.bundle:
            files = manifest.get("files", {})
            inputs = manifest.get("inputs", {})
            return {**inputs, "files": {name: files.get(name) for name in inputs.get("files", [])}}
    return None
