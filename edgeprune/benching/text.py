"""The table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgeprune.benching.asked import REFERENCE
from edgeprune.benching.judging import DIFFERENT, NOT_SHOWN, SAME, doubts, sameness, standings
from edgeprune.report import wording
from edgeprune.report.sentences import interval

ALONE = {
    SAME: "the same",
    DIFFERENT: "different: the benchmark disturbs what it measures",
    NOT_SHOWN: "not shown to be the same, nor to be different",
}
HEADS = ("zeros", "runtime", "median", "quartiles", "peak", "speed-up", "95 % interval", "answers")


def as_text(document: Mapping[str, Any]) -> str:
    """What was run on what, a line for each row, then what has to be known to read them."""
    lines = [_title(document), "", *_grid([HEADS, *(_cells(row) for row in document["rows"])]), ""]
    return "\n".join([*lines, *_remarks(document)])


def _title(document: Mapping[str, Any]) -> str:
    machine, work = document["machine"], document["settings"]["workload"]
    threads = f"{work['threads']} thread{'' if work['threads'] == 1 else 's'}"
    cpu = machine["cpu_model"] or "a processor without a name"
    return f"{document['settings']['network']}, {threads}, batch {work['batch']}, float32, on {cpu}"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    times, edges = row["latency_ms"], row["speedup_interval"]
    return (
        wording.share(row["sparsity"]),
        f"{row['runtime']} {row['runtime_version']}",
        wording.milliseconds(times["median"]),
        f"{wording.milliseconds(times['p25'])} to {wording.milliseconds(times['p75'])}",
        wording.NONE if row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f} MiB",
        f"{row['speedup']:.2f}",
        f"{edges[0]:.2f} to {edges[1]:.2f}" if edges else wording.NONE,
        _agreement(row["agreement"]),
    )


def _agreement(found: Mapping[str, Any]) -> str:
    if found["agrees"] is None:
        return wording.NONE
    told = "not finite" if found["difference"] is None else f"{found['difference']:.1e}"
    return told if found["agrees"] else f"WRONG: {told}"


def _grid(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        yield "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()


def _remarks(document: Mapping[str, Any]) -> Iterator[str]:
    yield f"The speed-up is over {REFERENCE} on the first row's network, in the same rounds."
    floor = document["noise_floor"]
    for told in standings(document["rows"], floor["value"]):
        yield _standing(told, document["rows"])
    known = floor["value"] is not None
    yield f"Noise floor: {wording.share(floor['value'])}." if known else f"Noise floor: not known ({floor['reason']})."
    yield from doubts(document)
    if document["alone"]:
        yield f"{REFERENCE} in the benchmark over {REFERENCE} alone: {beside_alone(document)}."
    for name, kept in document["denormals"].items():
        if kept is not None:
            yield f"Denormal numbers in {name}: {kept}."
    for name, why in document["absent"].items():
        yield f"Not measured: {name}. {why}"
    yield from _layers(document["layers"])


def beside_alone(document: Mapping[str, Any]) -> str:
    """The ratio of the reference in the benchmark to itself alone, its interval, and what they show."""
    found = document["alone"]
    told, edges = f"{found['ratio']:.3f}", found["interval"]
    verdict = sameness(edges, document["noise_floor"]["value"])
    if edges:
        told += f" ({edges[0]:.3f} to {edges[1]:.3f})"
    return f"{told}, " + ALONE.get(verdict, f"not known ({found['reason']})")


def _standing(told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    row = next(row for row in rows if (row["runtime"], row["sparsity"]) == (told["quickest"], told["sparsity"]))
    runtime = wording.runtime(told["quickest"])
    time = wording.milliseconds(row["latency_ms"]["median"])
    first = f"{runtime} is fastest ({time})"
    if told["fastest"] is None:
        first = f"{runtime} took least ({time}), not shown to be fastest"
    passes, rounds = len(row["round_medians_ms"]), row["latency_ms"]["rounds"]
    others = "; ".join(_relation(other, runtime, passes, rounds) for other in told["others"])
    return f"At {100 * told['sparsity']:.3g} % zeros {first}: {others}."


def _relation(other: Mapping[str, Any], to: str, passes: int, rounds: int) -> str:
    """In the words of `edgeprune.report.across`."""
    name = wording.runtime(other["runtime"])
    said = {"slower": "takes", "faster": "takes only", "within noise": "is within noise,"}.get(other["verdict"])
    if said is None:
        return f"{name} cannot be told from {to}, {other['reason']}"
    return f"{name} {said} {other['ratio']:.3f} times the time ({interval(other['interval'], passes, rounds)})"


def _layers(found: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for one in found:
        yield ""
        yield f"Layers at {100 * one['sparsity']:.3g} % zeros, kernels {one['kernels']}:"
        heads = ("layer", "kernel", "us", "million MAC", "GMAC/s", "of the load-bound limit")
        yield from _grid([heads, *(_layer(step) for step in one["steps"])])


def _layer(step: Mapping[str, Any]) -> tuple[str, ...]:
    rate, share = step["gmacs"], step["of_limit"]
    return (
        str(step["name"]),
        str(step["kernel"]),
        f"{step['ns'] / 1000:.1f}",
        f"{step['macs'] / 1e6:.2f}",
        wording.NONE if rate is None else f"{rate:.1f}",
        wording.share(share) if share is not None else wording.NONE,
    )
