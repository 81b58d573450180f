"""A short table in the columns that other tools' benchmarks print, for readers who know those."""

from __future__ import annotations

from dataclasses import dataclass

from edgeprune.report import wording
from edgeprune.report.records import Report, Row

HEADS = ("Format", "Status", "Size (MB)", "Top-1", "Inference time (ms/im)", "FPS")
STATUS = {True: "\N{WHITE HEAVY CHECK MARK}", False: "\N{NEGATIVE SQUARED CROSS MARK}"}


@dataclass(frozen=True)
class BenchLine:
    """One measured network; a number that is None was not measured."""

    format: str
    fine: bool  # answered the test images and was timed
    size_mb: float | None  # MB (10^6 bytes) of the ONNX file
    top1: float | None  # percent
    ms_per_image: float | None  # the quoted percentile of the latency by the batch
    fps: float | None  # images per second of engine time


def bench_lines(report: Report) -> list[BenchLine]:
    """A line for each row of a real runtime, in the report's order."""
    return [_line(row) for row in report.rows if row.runtime != "null"]


def cells(line: BenchLine) -> list[str]:
    """The line as texts, a dash where a number is missing."""
    numbers = (line.size_mb, line.top1, line.ms_per_image, line.fps)
    digits = (2, 2, 3, 1)
    texts = [wording.NONE if n is None else f"{n:.{d}f}" for n, d in zip(numbers, digits, strict=True)]
    return [line.format, STATUS[line.fine], *texts]


def _line(row: Row) -> BenchLine:
    onnx, quoted = row.size_bytes.get("onnx"), row.latency_ms.get(row.headline)
    label = " (stand-in)" if row.stand_in else ""
    return BenchLine(
        format=f"{row.name} on {row.device}{label}, {row.setting}",
        fine=row.top1 is not None and quoted is not None,
        size_mb=None if onnx is None else onnx / 1e6,
        top1=row.top1,
        ms_per_image=None if quoted is None else quoted / row.batch,
        fps=row.throughput_ips,
    )
