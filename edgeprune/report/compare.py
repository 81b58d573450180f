"""The sparse network beside the dense one under the same conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from edgeprune.report import sentences
from edgeprune.report.agreement import Agreement, agreement
from edgeprune.report.bootstrap import RESAMPLES, SEED, Floor, Ratio, noise_floor, ratio
from edgeprune.report.records import Comparison, Row
from edgeprune.report.uncertainty import LEVEL, verdict
from runtimes.records import PRECISIONS

NO_TWIN = "no second process of the same engine was timed beside it"


def conditions(row: Row) -> tuple[str, str, Mapping[str, Any]]:
    """What two rows must share before their latencies may be compared."""
    return row.device, row.runtime, row.workload


def setting(row: Row) -> tuple[str, str, int, int, str, int, str]:
    """The conditions in short, in the order in which a report lists them: what tells one table from the next."""
    protocol, precision = str(row.workload.get("protocol", "")), row.precision
    exact_first = PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)
    return row.device, row.runtime, row.batch, row.threads, protocol, exact_first, precision


def session(row: Row) -> tuple[str, str]:
    """The call that measured it: only within one did the engines take turns, so that their rounds pair."""
    return row.bundle, row.started_at


def by_pass(row: Row, values: Sequence[float]) -> list[list[float]]:
    """`values`, one for each round of the row, as a list for each pass."""
    ends = list(accumulate(int(each["rounds"]) for each in row.passes))
    return [list(values[start:end]) for start, end in zip([0, *ends], ends, strict=False) if end > start]


def medians(row: Row) -> list[list[float]]:
    """For each pass the medians of its rounds, in ms."""
    return by_pass(row, [timed["median"] for timed in row.rounds])


def floor_of(row: Row) -> Floor:
    """How far the row's engine lies from a second process of itself."""
    twin = by_pass(row, row.twin_ms) if row.twin_ms else None
    return noise_floor(twin, medians(row), row.reasons.get("twin_ns", NO_TWIN))


def paired(row: Row, baseline: Row) -> Ratio | None:
    """The ratio of two rows of one session; None where their rounds do not pair."""
    top, bottom = medians(row), medians(baseline)
    alike = [len(rounds) for rounds in top] == [len(rounds) for rounds in bottom]
    timed = [value for rounds in (*top, *bottom) for value in rounds]
    return ratio(top, bottom) if timed and alike and min(timed) > 0 else None


def witness(baseline: Row, rows: Sequence[Row]) -> Row:
    """The row whose engine ran twice: the baseline, or else another one of the same conditions and session."""
    beside = (conditions(baseline), session(baseline))
    twice = [row for row in (baseline, *rows) if row.twin_ms and (conditions(row), session(row)) == beside]
    return twice[0] if twice else baseline


def compare(sparse: Row, dense: Row, rows: Sequence[Row], run: Path) -> Comparison:
    """Latency ratio with its interval and verdict, difference of top-1 with its error, ratio of compressed sizes.

    The two share their `conditions` and their `session`. `rows` are all of the folder `run`: where the dense engine
    did not run twice, another one of the session tells the noise floor.
    """
    seen = witness(dense, rows)
    timed, floor = paired(sparse, dense), floor_of(seen)
    known = agreement(sparse, run, dense, run)
    difference, error, images = top1_difference(sparse, dense, known)
    sizes = sparse.size_bytes.get("compressed"), dense.size_bytes.get("compressed")
    found = Comparison(
        device=sparse.device,
        runtime=sparse.runtime,
        batch=sparse.batch,
        threads=sparse.threads,
        protocol=str(sparse.workload.get("protocol", "")),
        precision=sparse.precision,
        name=sparse.name,
        baseline=dense.name,
        latency_ratio=timed.value if timed else None,
        latency_ratio_interval=timed.interval if timed else None,
        level=LEVEL,
        resamples=RESAMPLES,
        seed=SEED,
        passes=timed.passes if timed else 0,
        rounds=timed.rounds if timed else 0,
        noise_floor=floor.value,
        noise_floor_of=seen.name if floor.value is not None else None,
        noise_floor_reason=floor.reason,
        twin_ratio=floor.ratio.value if floor.ratio else None,
        twin_ratio_interval=floor.ratio.interval if floor.ratio else None,
        verdict=verdict(timed.interval if timed else None, floor.value),
        uses_zeros=uses_zeros(sparse),
        reason=timed.reason if timed else "there are no latencies of both in every round",
        top1_difference=difference,
        top1_difference_standard_error=error,
        images=images,
        differing_answers=known.differing if known else None,
        top1_p_value_at_most=known.p_value_at_most if known else None,
        compressed_ratio=sizes[0] / sizes[1] if sizes[0] is not None and sizes[1] else None,
        sentence="",
    )
    return replace(found, sentence=sentences.comparison_sentence(sparse, dense, found))


def uses_zeros(row: Row) -> str:
    """Whether the runtime computed a layer of this network by its zeros: yes, no, or unknown."""
    if row.runtime in sentences.BLIND_TO_ZEROS:
        return "no"
    return str(row.receipt["verdict"]) if row.receipt else "unknown"


def top1_difference(row: Row, baseline: Row, known: Agreement | None) -> tuple[float | None, float | None, int | None]:
    """Row minus baseline in points, its standard error, and on how many images; None where they cannot be compared.

    The error is an upper bound. Where the answers are at hand it follows from how many differ. Else it is that of two
    independent draws: both networks see the same images, so that their errors are positively correlated and the true
    one is smaller.
    """
    if row.top1 is None or baseline.top1 is None or not row.images or row.images != baseline.images:
        return None, None, None
    error = math.hypot(row.top1_standard_error or 0.0, baseline.top1_standard_error or 0.0)
    return row.top1 - baseline.top1, min(error, known.standard_error) if known else error, row.images
