"""The compacted network in a report: beside the sparse one, told apart from it, compared with the dense one."""

from __future__ import annotations

from pathlib import Path

from run_folder import with_compacted

from edgeprune.report import to_html, to_markdown
from edgeprune.report.collect import collect
from edgeprune.report.wording import compacted, network


def test_both_are_compared_with_the_dense_network(run: Path) -> None:
    report = collect(with_compacted(run, 0.5))
    assert [row.name for row in report.rows][-2:] == ["sparse", "sparse-compact"]
    assert {found.name: found.baseline for found in report.comparisons} == {
        "sparse": "dense",
        "sparse-compact": "dense",
    }
    assert "Compaction: 12 channels removed." in report.sentences


def test_a_gain_of_the_compacted_network_is_not_put_down_to_zeros(run: Path) -> None:
    report = collect(with_compacted(run, 0.5))
    assert "with ONNX Runtime, compacted (not so" in report.headline
    assert report.headline.endswith(", but not by zeros that are left: ONNX Runtime does not use them.")
    (told,) = (found.sentence for found in report.comparisons if found.name == "sparse-compact")
    assert ", compacted: " in told
    assert "the sparse network is faster, but not by zeros that are left" in told


def test_within_noise_nothing_is_said_of_its_zeros(run: Path) -> None:
    report = collect(with_compacted(run, 1.31))
    (told,) = (found.sentence for found in report.comparisons if found.name == "sparse-compact")
    assert told.endswith("no speed-up is claimed.")


def test_tables_name_it(run: Path) -> None:
    report = collect(with_compacted(run, 0.5))
    assert "| sparse-compact |" in to_markdown.render(report).decode()
    assert "Sparse, compacted" in to_html.render(report).decode()


def test_names() -> None:
    assert [compacted(name) for name in ("sparse-compact", "sparse-compact-fp16")] == [True, True]
    assert [compacted(name) for name in ("sparse", "sparse-fp16", "dense-int8")] == [False] * 3
    assert network("sparse", "sparse-compact-fp16") == "Sparse, compacted"
    assert network("dense", "dense-fp16") == "Dense"
