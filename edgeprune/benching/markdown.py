"""Committed benchmarks as Markdown: a table for each setting, a line for each network and sparsity in it.

What is shown is judged anew by the numbers in the documents, so that those of older versions read alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from edgeprune.benching.asked import OURS, PEERS, REFERENCE
from edgeprune.benching.judging import doubts, standings
from edgeprune.benching.text import beside_alone
from edgeprune.report.wording import NONE, digits, plural, runtime
from runtimes.errors import UserError

NOT_RUN = "not run"
PUBLISHED = "standard"
"""The protocol of the tables that stand first; the others are for looking."""
RIVAL = "deepsparse"
"""The other runtime that skips zeros: ours is compared with it in a column of its own."""
MASKED = {
    "all": "zeros in all layers but the stem, the classifier and depthwise convolutions",
    "pointwise": "zeros in 1 x 1 convolutions only",
}
Row = Mapping[str, Any]
Document = Mapping[str, Any]


class Setting(NamedTuple):
    """What all benchmarks of one table share."""

    threads: int
    batch: int
    pattern: str  # "": networks as their files have them
    protocol: str
    kernels: str  # that were forced; "": none
    machine: str


class Line(NamedTuple):
    """One network at one sparsity: its rows by runtime."""

    network: str
    rows: Mapping[str, Row]
    fastest: str | None

    @property
    def first(self) -> Row:
        """Any of them: for what they share."""
        return next(iter(self.rows.values()))


def as_markdown(documents: Sequence[Document]) -> str:
    """The documents of `edgeprune bench`, a table for each setting; `NOT_RUN` where there are none.

    :raises UserError: the same network at the same sparsity twice in one setting: rows of two sessions do not mix.
    """
    groups: dict[Setting, list[Document]] = {}
    for document in documents:
        groups.setdefault(_setting(document), []).append(document)
    return "\n".join(_block(setting, groups[setting]) for setting in sorted(groups, key=_place)) or NOT_RUN + "\n"


def roofline(document: Mapping[str, Any]) -> str:
    """Each sparse layer of our runtime: multiply-adds a second, and its loads' share of the time, at every sparsity."""
    layers = document["layers"]
    lines: dict[str, dict[float, str]] = {}
    for one in layers:
        for step in one["steps"]:
            if step["of_limit"] is not None and step["gmacs"] is not None:
                told = f"{step['gmacs']:.1f} ({100 * step['of_limit']:.0f} %)"
                lines.setdefault(step["name"], {})[one["sparsity"]] = told
    if not lines:
        return NOT_RUN + "\n"
    shares = [one["sparsity"] for one in layers if any(one["sparsity"] in line for line in lines.values())]
    table = [["layer", *(f"{100 * share:.3g} % zeros, GMAC/s (of the limit)" for share in shares)]]
    table.append(["---", *["---:"] * len(shares)])
    table += [[f"`{name}`", *(line.get(share, "dense") for share in shares)] for name, line in lines.items()]
    limit = f"Kernels {layers[0]['kernels']}; all lanes at the limit: {layers[0]['limit_gmacs']:.1f} GMAC/s."
    return "\n".join([*(f"| {' | '.join(line)} |" for line in table), "", limit, ""])


def _setting(document: Document) -> Setting:
    told, machine = document["settings"], document["machine"]
    work = told["workload"]
    governor = machine["governor"] or "not told"
    cpu = f"{machine['cpu_model'] or 'an unnamed processor'}, {machine['cores']} cores, governor {governor}"
    return Setting(
        threads=work["threads"],
        batch=work["batch"],
        pattern="" if _is_file(document) else told["pattern"],
        protocol=work["protocol"],
        kernels=told.get("kernels") or work["options"].get("kernels") or "",
        machine=f"{cpu}, {machine['os']}",
    )


def _place(setting: Setting) -> tuple[bool, Setting]:
    """What is published first, then by the settings."""
    return setting.protocol != PUBLISHED, setting


def _is_file(document: Document) -> bool:
    return str(document["settings"]["network"]).lower().endswith(".onnx")


def _block(setting: Setting, documents: Sequence[Document]) -> str:
    lines = [line for document in documents for line in _lines(document)]
    _refuse_twice(lines)
    runtimes = [name for name in PEERS if any(name in line.rows for line in lines)]
    table = _grid(_titles(runtimes), (_told(line, runtimes) for line in lines))
    return "\n".join(
        [f"**{_title(setting)}**", "", table, "", " ".join(_notes(lines)), "", *_places(setting, documents), ""]
    )


def _title(setting: Setting) -> str:
    masked = MASKED[setting.pattern] if setting.pattern else "networks from files, with their own zeros"
    told = f"{plural(setting.threads, 'thread')}, batch {setting.batch}, protocol {setting.protocol}; {masked}"
    return told + (f"; kernels of {OURS}: {setting.kernels}" if setting.kernels else "")


def _lines(document: Document) -> Iterator[Line]:
    rows: Sequence[Row] = document["rows"]
    won = {told["sparsity"]: told["fastest"] for told in standings(rows, document["noise_floor"]["value"])}
    for sparsity in dict.fromkeys(row["sparsity"] for row in rows):
        alike = {row["runtime"]: row for row in rows if row["sparsity"] == sparsity}
        yield Line(_network(document), alike, won.get(sparsity))


def _network(document: Document) -> str:
    """The network, with what else makes it another one."""
    told = document["settings"]
    source = told.get("source")
    more = [
        *([f"{told['image_size']} px"] if told["image_size"] else []),
        *([f"seed {told['seed']}"] if told["seed"] else []),
        *([f"file {source['sha256'][:8]}"] if source else []),
    ]
    return ", ".join([str(document["rows"][0]["network"]), *more])


def _refuse_twice(lines: Sequence[Line]) -> None:
    seen = set()
    for line in lines:
        key = line.network, line.first["sparsity"]
        if key in seen:
            raise UserError(
                f"{key[0]} at {100 * key[1]:g} % zeros was measured twice with the same settings",
                "keep one of the files: all sparsities of a network belong into one session",
            )
        seen.add(key)


def _titles(runtimes: Sequence[str]) -> list[str]:
    ms = {name: f"{runtime(name)}, ms" for name in runtimes}
    ours = [ms[OURS], f"speed-up over dense {runtime(REFERENCE)}"] if OURS in ms else []
    others = [ms[name] for name in runtimes if name != OURS]
    rival = [f"speed-up over {runtime(RIVAL)}"] if OURS in ms and RIVAL in ms else []
    memory = [f"memory of {runtime(name)}, MiB" for name in (OURS, REFERENCE) if name in ms]
    return ["network", "zeros", *ours, *others, *rival, *memory]


def _told(line: Line, runtimes: Sequence[str]) -> list[str]:
    """The cells of one line, in the order of `_titles`."""
    ours = line.rows.get(OURS)
    speedup = [] if OURS not in runtimes else [_median(line, OURS), _speedup(ours)]
    others = [_median(line, name) for name in runtimes if name != OURS]
    rival = [_over_rival(ours)] if OURS in runtimes and RIVAL in runtimes else []
    memory = [_memory(line.rows.get(name)) for name in (OURS, REFERENCE) if name in runtimes]
    return [line.network, _zeros(line.first), *speedup, *others, *rival, *memory]


def _zeros(row: Row) -> str:
    """Of each masked layer's weights, and of all weights."""
    asked, found = f"{100 * row['sparsity']:.3g} %", f"{100 * row['zeros']:.3g} %"
    return asked if not row["sparsity"] or found == asked else f"{asked} ({found})"


def _median(line: Line, name: str) -> str:
    row = line.rows.get(name)
    if row is None:
        return NOT_RUN
    told = digits(row["latency_ms"]["median"])
    if row["agreement"]["agrees"] is False:
        return f"{told}, wrong answers"
    return f"**{told}**" if name == line.fastest else told


def _speedup(row: Row | None) -> str:
    return NONE if row is None or _is_wrong(row) else _ratio(row["speedup"], row["speedup_interval"])


def _over_rival(row: Row | None) -> str:
    found = None if row is None or _is_wrong(row) else row["against"].get(RIVAL)
    return _ratio(found["ratio"], found["interval"]) if found else NONE


def _is_wrong(row: Row) -> bool:
    return row["agreement"]["agrees"] is False


def _ratio(value: float, edges: Sequence[float] | None) -> str:
    return f"{value:.2f}" + (f" ({edges[0]:.2f} to {edges[1]:.2f})" if edges else "")


def _memory(row: Row | None) -> str:
    return NONE if row is None or row["peak_memory_mb"] is None else f"{row['peak_memory_mb']:.0f}"


def _grid(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (titles, rule, *rows))


def _notes(lines: Sequence[Line]) -> Iterator[str]:
    """How the table is to be read, and what stands behind a number."""
    rows = [row for line in lines for row in line.rows.values()]
    counts = [row["latency_ms"]["n"] for row in rows]
    passes = sorted({(row["latency_ms"]["rounds"], len(row["round_medians_ms"])) for row in rows})
    turns = " or ".join(f"{plural(rounds, 'round')} in {plural(number, 'pass')}" for rounds, number in passes)
    n = f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"
    yield (
        f"Times are medians of {n} inferences from {turns}; in bold the fastest runtime of a line, where every other "
        "one is slower beyond the noise. Speed-ups are formed in rounds that ran beside each other, so they need not "
        "be the ratio of the two medians; in brackets their 95 % interval."
    )
    if any(_zeros(line.first).endswith(")") for line in lines):
        yield "Zeros are those of each masked layer; in brackets of all weights."
    yield "Memory is the most that the process held, interpreter and numpy included."


def _places(setting: Setting, documents: Sequence[Document]) -> Iterator[str]:
    """For the days and versions of one kind a line: where, with what, and how far the noise goes."""
    found: dict[str, list[Document]] = {}
    for document in documents:
        found.setdefault(_versions(document), []).append(document)
    for versions, own in found.items():
        days = " and ".join(dict.fromkeys(document["started_at"][:10] for document in own))
        told = [f"Measured on {days} on {setting.machine}; {versions}"]
        told.append(f"Noise floors: {', '.join(map(_floor, own))}")
        alone = [f"{_network(document)} {beside_alone(document)}" for document in own if document["alone"]]
        told += [f"{runtime(REFERENCE)} in the benchmark over itself alone: {'; '.join(alone)}"] if alone else []
        doubtful = [f"{_network(document)}: {doubt}" for document in own for doubt in doubts(document)]
        yield " ".join([". ".join(told) + ".", *doubtful])


def _versions(document: Document) -> str:
    """Each runtime's, and the kernels of ours where they are known."""
    found = sorted({told for told in _kernels(document) if told})
    return ", ".join(
        f"{runtime(name)} {version}" + (f" ({', '.join(found)})" if name == OURS and found else "")
        for name, version in document["machine"]["runtimes"].items()
    )


def _kernels(document: Document) -> Iterator[str | None]:
    """What the rows say, or of a document whose rows do not, its layers."""
    rows = [row for row in document["rows"] if row["runtime"] == OURS]
    yield from (row.get("kernels") for row in rows)
    if not any(row.get("kernels") for row in rows):
        yield from (layer["kernels"] for layer in document["layers"])


def _floor(document: Document) -> str:
    value = document["noise_floor"]["value"]
    return f"{_network(document)} {NONE if value is None else f'{100 * value:.1f} %'}"
