"""`report.md`: what a reviewer needs in a pull request: the headline, the tables, the findings, the command."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgeprune.report import wording
from edgeprune.report.bench_table import HEADS, bench_lines, cells
from edgeprune.report.grid import Cell, Grid, grid
from edgeprune.report.records import Origin, Report, Row
from edgeprune.report.remarks import grouped

COLUMNS = (
    "network",
    "device",
    "runtime",
    "top-1",
    "zeros",
    "of all",
    "median",
    "p90",
    "p99",
    "memory",
    "ONNX",
    "compressed",
)
NOTE = (
    "Zeros are the share of the prunable weights, and of all weights of convolutions, linear layers and batch-norms; "
    "latency is per inference, memory the peak of the whole process; "
)

_QUIET = str.maketrans(
    {
        **{"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"},
        **dict.fromkeys("\n\r\v\f\x85\u2028\u2029", " "),  # ends of lines to one reader or another
        **{mark: "\\" + mark for mark in "\\|`*[_~#"},
    }
)
# Pages that show Markdown look for names, addresses and links in the text that is left, escaped or not: they find none
# where a space of no width follows the mark. (Renovate does the same to what it quotes.)
_LIVE = re.compile(r"@|:(?=//)|(?i:\bwww)(?=\.)")
_NO_WIDTH = "&#8203;"
_STARTS = re.compile(r"^(\s*\d{0,9})([-+=.)])(?=[\s=-]|$)")  # of a list or a rule: what an item may not begin with


def render(report: Report) -> bytes:
    """The report as GitHub-flavoured Markdown, UTF-8."""
    parts = [f"# {plain(report.name)}: {plain(report.headline)}", *_table(report)]
    parts.append("\n".join(f"- {plain(sentence)}" for sentence in report.sentences))
    parts += _devices(grid(report.columns))
    if report.missing:
        parts.append("Not run yet:\n\n" + "\n".join(f"- {m.step} ({m.what}): `{m.command}`" for m in report.missing))
    if report.warnings:
        told = (f"- {plain(', '.join(each.sources))}: {plain(each.message)}" for each in grouped(report))
        parts.append("Warnings:\n\n" + "\n".join(told))
    parts += _short(report)
    parts += _origins(report.origins)
    if report.command:
        parts.append(f"Reproduce:\n\n{_fenced(report.command)}")
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.replace(wording.SPACE, " ").encode()


def _table(report: Report) -> list[str]:
    if not report.rows:
        return []
    lines = [line(COLUMNS), "|" + " --- |" * 3 + " ---: |" * (len(COLUMNS) - 3)]
    several = len({row.setting for row in report.rows}) > 1
    lines += [line(_cells(row, several)) for row in report.rows]
    settings = sorted({f"{row.precision}, batch {row.batch}, {_threads(row)}" for row in report.rows})
    return ["\n".join(lines), f"{NOTE}{plain('; '.join(settings))}."]


def _threads(row: Row) -> str:
    return wording.plural(row.threads, "thread")


def _cells(row: Row, several: bool) -> list[str]:
    """`several`: whether the table has rows of more than one setting, which have to be told apart."""
    latency = [wording.milliseconds(row.latency_ms[key]) for key in ("median", "p90", "p99")]
    top1 = wording.percent(row.top1, 2)
    if row.top1 is not None and row.images:
        top1 += f" of {row.images:,}"
    memory = wording.mebibytes(row.memory_mb["peak_rss"])
    sizes = [wording.size(row.size_bytes.get(key)) for key in ("onnx", "compressed")]
    runtime = row.setting if several else wording.runtime(row.runtime, row.runtime_version)
    zeros = [wording.share(share) for share in (row.sparsity, row.sparsity_paper)]
    device = f"{row.device} (stand-in)" if row.stand_in else row.device
    return [row.name, device, runtime, top1, *zeros, *latency, memory, *sizes]


def _devices(table: Grid | None) -> list[str]:
    """The table of all devices: a column each, the sparse network before its baseline."""
    if table is None:
        return []
    heads = [f"{c.device}{' (stand-in)' if c.stand_in else ''}: {c.name}, {c.setting}" for c in table.heads]
    lines = [line(["", *heads]), "| --- |" + " ---: |" * len(heads)]
    lines += [line([label, *(_one(cell) for cell in cells)]) for label, cells in table.rows]
    notes = [f"({mark}) {plain(why)}" for mark, why in table.notes]
    notes += [f"{plain(label)}: not known ({plain(why)})" for label, why in table.unknown]
    return ["Devices side by side:", "\n".join(lines), *(["; ".join(notes) + "."] if notes else [])]


def _one(cell: Cell) -> str:
    text = f"{cell.text} ({cell.small})" if cell.small else cell.text
    return f"{text} ({cell.note})" if cell.note else text


def _short(report: Report) -> list[str]:
    """The table that readers of other tools know, folded away."""
    found = bench_lines(report)
    if not found:
        return []
    table = "\n".join([line(HEADS), "| --- | :---: |" + " ---: |" * 4, *(line(cells(each)) for each in found)])
    return [f"<details><summary>In the columns of other tools</summary>\n\n{table}\n\n</details>"]


def _origins(origins: Sequence[Origin]) -> list[str]:
    """Where each row's numbers come from, folded away."""
    if not origins:
        return []
    told = "\n".join(f"- {_origin(each)}" for each in origins)
    return [f"<details><summary>Where each number comes from</summary>\n\n{told}\n\n</details>"]


def _origin(each: Origin) -> str:
    counts = f"{wording.plural(each.passes, 'pass')}, {wording.plural(each.rounds, 'round')}"
    parts = [
        f"{plain(each.name)} on {plain(each.device)}: {plain(each.file)}, {plain(each.runtime)}",
        f"{plain(each.started_at)}, bundle {plain(each.bundle)}, network {plain(each.network_sha256[:12])}",
        f"{counts}, {each.samples:,} samples",
        *(f"{plain(label)}: {plain(text)}" for label, text in each.conditions),
        f"command: {plain(each.command)}",
    ]
    return "; ".join([f"stand-in: {plain(each.stand_in)}", *parts] if each.stand_in else parts)


def line(cells: list[str] | tuple[str, ...]) -> str:
    """A row of a table."""
    return "| " + " | ".join(plain(cell) for cell in cells) + " |"


def plain(text: str) -> str:
    """Text that Markdown, the HTML inside it, and a page that looks for links and names in it leave alone."""
    quiet = _STARTS.sub(r"\1\\\2", text.translate(_QUIET))
    return _LIVE.sub(lambda found: found.group() + _NO_WIDTH, quiet)


def _fenced(command: str) -> str:
    """A code block whose fence is longer than any run of backticks within."""
    fence = "```"
    while fence in command:
        fence += "`"
    return f"{fence}sh\n{command}\n{fence}"
