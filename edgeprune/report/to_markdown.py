"""`report.md`: what a reviewer needs in a pull request: the headline, one table, the findings, the command."""

from __future__ import annotations

from edgeprune.report import wording
from edgeprune.report.records import Report, Row

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

_QUIET = str.maketrans({"&": "&amp;", "<": "&lt;", "\n": " ", **{mark: "\\" + mark for mark in "\\|`*[_"}})


def render(report: Report) -> bytes:
    """The report as GitHub-flavoured Markdown, UTF-8."""
    parts = [f"# {_plain(report.name)}: {_plain(report.headline)}", *_table(report)]
    parts.append("\n".join(f"- {_plain(sentence)}" for sentence in report.sentences))
    if report.missing:
        parts.append("Not run yet:\n\n" + "\n".join(f"- {m.step} ({m.what}): `{m.command}`" for m in report.missing))
    if report.warnings:
        parts.append("Warnings:\n\n" + "\n".join(f"- {_plain(w.source)}: {_plain(w.message)}" for w in report.warnings))
    if report.command:
        parts.append(f"Reproduce:\n\n{_fenced(report.command)}")
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.replace(wording.SPACE, " ").encode()


def _table(report: Report) -> list[str]:
    if not report.rows:
        return []
    lines = [_line(COLUMNS), "|" + " --- |" * 3 + " ---: |" * (len(COLUMNS) - 3)]
    lines += [_line(_cells(row)) for row in report.rows]
    settings = sorted({f"{row.precision}, batch {row.batch}, {_threads(row)}" for row in report.rows})
    return ["\n".join(lines), f"{NOTE}{'; '.join(settings)}."]


def _threads(row: Row) -> str:
    return wording.plural(row.threads, "thread")


def _cells(row: Row) -> list[str]:
    latency = [wording.milliseconds(row.latency_ms[key]) for key in ("median", "p90", "p99")]
    top1 = wording.percent(row.top1, 2)
    if row.top1 is not None and row.images:
        top1 += f" of {row.images:,}"
    memory = wording.mebibytes(row.memory_mb["peak_rss"])
    sizes = [wording.size(row.size_bytes.get(key)) for key in ("onnx", "compressed")]
    runtime = wording.runtime(row.runtime, row.runtime_version)
    zeros = [wording.share(share) for share in (row.sparsity, row.sparsity_paper)]
    return [row.name, row.device, runtime, top1, *zeros, *latency, memory, *sizes]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Text that Markdown and the HTML inside it leave alone."""
    return text.translate(_QUIET)


def _fenced(command: str) -> str:
    """A code block whose fence is longer than any run of backticks within."""
    fence = "```"
    while fence in command:
        fence += "`"
    return f"{fence}sh\n{command}\n{fence}"
