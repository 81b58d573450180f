"""Make one results file from the reports of runs: `python docs/results/collect.py FILE COMMAND LABEL=RUN,RUN ...`.

    python docs/results/collect.py docs/results/quickstart.json "edgeprune run quickstart --seed N" \\
        "sparse 90 %=runs/q0,runs/q1,runs/q2"

A file named `...-precisions.json` gets the columns of `PRECISIONS`, one named `...-compact.json` those of `COMPACTED`,
any other those of `COLUMNS`.

One row a label, one value a run (a seed). Nothing is computed here but the reading of `6-report/report.json`.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runtimes.files import write_json

Report = Mapping[str, Any]
LIBRARIES = ("torch", "onnxruntime", "numpy")
MACHINE = ("os", "machine", "python", "cpu_model", "cores", "memory_total_bytes")


def row(report: Report, name: str, runtime: str = "ort") -> Mapping[str, Any]:
    """The row of one network on one runtime on this machine; of several measurements the latest."""
    asked = (name, runtime, "local")
    found = [one for one in report["rows"] if (one["name"], one["runtime"], one["device"]) == asked]
    latest: Mapping[str, Any] = max(found, key=lambda one: one["started_at"])
    return latest


# key -> title, unit, digits, and where it stands in a report
COLUMNS: Mapping[str, tuple[str, str, int, Callable[[Report], float]]] = {
    "teacher": ("teacher", "%", 2, lambda report: row(report, "teacher")["top1"]),
    "dense": ("dense", "%", 2, lambda report: row(report, "dense")["top1"]),
    "before": ("pruned, before retraining", "%", 2, lambda report: row(report, "pruned")["top1"]),
    "after": ("retrained", "%", 2, lambda report: row(report, "sparse")["top1"]),
    "zeros_paper": ("zeros as the paper counts", "%", 2, lambda report: 100 * row(report, "sparse")["sparsity_paper"]),
    "dense_compressed": ("dense compressed", "kB", 0, lambda r: row(r, "dense")["size_bytes"]["compressed"] / 1000),
    "compressed": ("compressed", "kB", 0, lambda report: row(report, "sparse")["size_bytes"]["compressed"] / 1000),
    "ratio": ("latency, sparse : dense", "", 3, lambda report: next(iter(report["comparisons"]))["latency_ratio"]),
}


def in_precisions(role: str) -> dict[str, tuple[str, str, int, Callable[[Report], float]]]:
    """Top-1 of the dense or the sparse network in each precision that was exported."""
    return {
        f"{role}_{precision}": (f"{role} {precision}", "%", 2, lambda report, name=name: row(report, name)["top1"])
        for precision, name in (("fp32", role), ("fp16", f"{role}-fp16"), ("int8", f"{role}-int8"))
    }


PRECISIONS: Mapping[str, tuple[str, str, int, Callable[[Report], float]]] = {
    **in_precisions("dense"),
    **in_precisions("sparse"),
    "compressed_fp32": (
        "sparse fp32 compressed",
        "kB",
        0,
        lambda r: row(r, "sparse")["size_bytes"]["compressed"] / 1000,
    ),
    "compressed_int8": (
        "sparse int8 compressed",
        "kB",
        0,
        lambda r: row(r, "sparse-int8")["size_bytes"]["compressed"] / 1000,
    ),
}


def in_runtimes(name: str, told: str) -> dict[str, tuple[str, str, int, Callable[[Report], float]]]:
    """The median latency of one network on ONNX Runtime and on sparse_cpu."""
    return {
        f"{name}_{runtime}": (
            f"{told} on {title}",
            "μs",
            0,
            lambda report, runtime=runtime: 1000 * row(report, name, runtime)["latency_ms"]["median"],
        )
        for runtime, title in (("ort", "ONNX Runtime"), ("sparse_cpu", "sparse_cpu"))
    }


COMPACTED: Mapping[str, tuple[str, str, int, Callable[[Report], float]]] = {
    "top1_dense": ("dense", "%", 2, lambda report: row(report, "dense")["top1"]),
    "top1": ("sparse", "%", 2, lambda report: row(report, "sparse")["top1"]),
    **in_runtimes("dense", "dense"),
    **in_runtimes("sparse", "sparse"),
    **in_runtimes("sparse-compact", "compacted"),
    "onnx": ("sparse ONNX", "kB", 0, lambda report: row(report, "sparse")["size_bytes"]["onnx"] / 1000),
    "onnx_compact": ("compacted ONNX", "kB", 0, lambda r: row(r, "sparse-compact")["size_bytes"]["onnx"] / 1000),
}


def main(file: str, command: str, *labelled: str) -> None:
    """Write the results file for the labelled runs."""
    special = {"-precisions.json": PRECISIONS, "-compact.json": COMPACTED}
    columns = next((found for end, found in special.items() if file.endswith(end)), COLUMNS)
    rows, reports = [], []
    for one in labelled:
        label, _, runs = one.partition("=")
        of_label = [json.loads((Path(run) / "6-report" / "report.json").read_text()) for run in runs.split(",")]
        values = {key: [round(get(report), 6) for report in of_label] for key, (_, _, _, get) in columns.items()}
        rows.append({"label": label, "seeds": [report["recipe"]["seed"] for report in of_label], "values": values})
        reports += of_label
    document = {
        "schema_version": 1,
        "recipe": reports[0]["name"],
        "command": command,
        "machine": {key: reports[0]["environment"]["local"][key] for key in MACHINE},
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "date": datetime.now(UTC).date().isoformat(),
        "columns": [{"key": key, "title": c[0], "unit": c[1], "digits": c[2]} for key, c in columns.items()],
        "rows": rows,
    }
    write_json(Path(file), document)


if __name__ == "__main__":
    main(*sys.argv[1:])
