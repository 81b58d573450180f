"""Where each row's numbers come from: the file, the command, the moment, and the state of the machine then."""

from __future__ import annotations

import shlex

from edgeprune.report import wording
from edgeprune.report.facts import conditions
from edgeprune.report.records import Origin, Row
from runtimes.records import Measurement


def origin(row: Row, measurement: Measurement) -> Origin:
    """What the `measurement` behind a row says about how it came about."""
    return Origin(
        name=row.name,
        device=row.device,
        runtime=wording.runtime(row.runtime, row.runtime_version),
        stand_in=row.stand_in,
        file=row.source,
        network_sha256=row.network_sha256,
        bundle=row.bundle,
        command=shlex.join(measurement.argv),
        started_at=row.started_at,
        passes=len(row.passes),
        rounds=sum(int(each["rounds"]) for each in row.passes),
        samples=row.n,
        conditions=(*conditions(measurement.facts, row.settings), *_sampled(row)),
    )


def _sampled(row: Row) -> list[tuple[str, str]]:
    """What was read beside the rounds: by what, how often, at what cost, and the range of each quantity."""
    if row.watch is None:
        return []
    rate, cost = row.watch.get("rate_hz"), row.watch.get("overhead_cores")
    by = str(row.watch.get("source") or "")
    speed = f"{rate:.1f} times a second" if rate is not None else ""
    price = f"{100 * cost:.1f}{wording.SPACE}% of a core" if cost is not None else ""
    told = [("Watched by", ", ".join(part for part in (by, speed, price) if part) or wording.NONE)]
    ranges = {key: span for key, span in row.watch["ranges"].items() if span}
    return told + [(_column(key), _range(span)) for key, span in ranges.items()]


def _column(key: str) -> str:
    names = {"gpu": "GPU", "emc": "memory", "cpu": "processor", "mhz": "MHz", "mw": "mW", "c": "\N{DEGREE SIGN}C"}
    words = [names.get(word, word) for word in key.replace("percent", "%").replace("mb", "MiB").split("_")]
    return f"In its rounds: {' '.join(words)}"


def _range(span: dict[str, float]) -> str:
    low, middle, high = (f"{span[key]:.5g}" for key in ("min", "median", "max"))
    return middle if low == high else f"{low} to {high}, median {middle}"
