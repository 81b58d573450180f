"""The sparse network beside the dense one under the same conditions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.report import sentences
from edgeprune.report.agreement import Agreement, agreement
from edgeprune.report.bootstrap import RESAMPLES, SEED
from edgeprune.report.judging import together
from edgeprune.report.records import Comparison, Row
from edgeprune.report.uncertainty import LEVEL


def compare(sparse: Row, dense: Row, rows: Sequence[Row], run: Path) -> Comparison:
    """Latency ratio with its interval and verdict, difference of top-1 with its error, ratio of compressed sizes.

    The two took turns (`pairing.in_turns`). `rows` are all of the folder `run`: where the dense engine
    did not run twice, another one of the session tells the noise floor.
    """
    judged = together(sparse, dense, rows)
    timed, floor = judged.timed, judged.floor
    known = agreement(sparse, run, dense, run)
    difference, error, images = top1_difference(sparse, dense, known)
    sizes = sparse.size_bytes.get("compressed"), dense.size_bytes.get("compressed")
    found = Comparison(
        source=sparse.source,
        baseline_source=dense.source,
        setting=sparse.setting,
        headline=sparse.headline,
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
        noise_floor_of=next(iter(judged.floor_of), None),
        noise_floor_reason=floor.reason,
        twin_ratio=floor.ratio.value if floor.ratio else None,
        twin_ratio_interval=floor.ratio.interval if floor.ratio else None,
        verdict=judged.verdict,
        uses_zeros=uses_zeros(sparse),
        reason=judged.reason,
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
    """Whether the runtime computed a layer of this network by its zeros: yes, no, or unknown, as of any stand-in."""
    if row.stand_in:
        return "unknown"
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
