"""The sparse network beside the dense one under the same conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeprune.report import sentences
from edgeprune.report.records import Comparison, Row
from edgeprune.report.uncertainty import LEVEL, Ratio, ratio, verdict
from runtimes.records import PRECISIONS


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


def compare(sparse: Row, dense: Row) -> Comparison:
    """Latency ratio with its interval and verdict, difference of top-1 with its error, ratio of compressed sizes.

    The two share their `conditions` and their `session`.
    """
    timed = _latency_ratio(sparse, dense)
    difference, error, images = _top1_difference(sparse, dense)
    sizes = sparse.size_bytes.get("compressed"), dense.size_bytes.get("compressed")
    found = Comparison(
        device=sparse.device,
        runtime=sparse.runtime,
        batch=sparse.batch,
        threads=sparse.threads,
        precision=sparse.precision,
        name=sparse.name,
        baseline=dense.name,
        latency_ratio=timed.value if timed else None,
        latency_ratio_interval=timed.interval if timed else None,
        level=LEVEL,
        rounds=timed.rounds if timed else 0,
        verdict=verdict(timed.interval if timed else None),
        uses_zeros=uses_zeros(sparse),
        reason=timed.reason if timed else "there are no latencies of both in every round",
        top1_difference=difference,
        top1_difference_standard_error=error,
        images=images,
        compressed_ratio=sizes[0] / sizes[1] if sizes[0] is not None and sizes[1] else None,
        sentence="",
    )
    return replace(found, sentence=sentences.comparison_sentence(sparse, dense, found))


def uses_zeros(row: Row) -> str:
    """Whether the runtime computed a layer of this network by its zeros: yes, no, or unknown."""
    if row.runtime in sentences.BLIND_TO_ZEROS:
        return "no"
    return str(row.receipt["verdict"]) if row.receipt else "unknown"


def _latency_ratio(sparse: Row, dense: Row) -> Ratio | None:
    top, bottom = ([timed["median"] for timed in row.rounds] for row in (sparse, dense))
    return ratio(top, bottom) if top and len(top) == len(bottom) and min(bottom) > 0 else None


def _top1_difference(sparse: Row, dense: Row) -> tuple[float | None, float | None, int | None]:
    """Sparse minus dense in points, and its standard error as if the images were drawn twice.

    Both networks see the same images, so their errors are positively correlated and the true standard error is smaller:
    this one is an upper bound.
    """
    if sparse.top1 is None or dense.top1 is None or not sparse.images or sparse.images != dense.images:
        return None, None, None
    error = math.hypot(sparse.top1_standard_error or 0.0, dense.top1_standard_error or 0.0)
    return sparse.top1 - dense.top1, error, sparse.images
