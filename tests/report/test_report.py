"""The report of a run folder: what it holds, what it admits, and what it never lets through."""

import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import run_folder as made

from edgeprune.report import FORMATS, write_report
from edgeprune.report.collect import collect
from runtimes.errors import UserError
from runtimes.files import read_json, write_json, write_text
from runtimes.records import Doubt
from runtimes.tables import resolve

ROW = {"name", "runtime", "device", "precision", "pattern", "batch", "threads", "n", "top1", "sparsity"}
ROW |= {"sparsity_paper", "zeros", "weights", "latency_ms", "memory_mb", "size_bytes", "reasons", "images"}
VOID = {"meta", "line", "rect", "circle", "path", "polyline"}


class Page(HTMLParser):
    """All tags with their attributes, the text, and whether every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(html)
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def page(run):
    write_report(run)
    return Page((run / "6-report/report.html").read_text(encoding="utf-8"))


def report_json(run):
    write_report(run)
    return read_json(run / "6-report/report.json")


def words(run):
    return " ".join(" ".join(page(run).text).split())


def test_every_format_is_written_and_equal_input_gives_equal_bytes(run):
    paths = write_report(run)
    assert [path.name for path in paths] == [f"report.{name}" for name in FORMATS]
    first = [path.read_bytes() for path in paths]
    assert first == [path.read_bytes() for path in write_report(run)]
    assert sorted(path.name for path in (run / "6-report").iterdir()) == sorted(path.name for path in paths)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_renders_a_run_that_has_only_begun(name, tmp_path):
    write_json(tmp_path / "run.json", {"command": ["edgeprune", "run", "a b"]})
    assert isinstance(resolve(FORMATS[name])(collect(tmp_path)), bytes)


def test_json_contract(wide):
    report = report_json(wide)
    assert report["schema_version"] == 1
    assert [row["name"] for row in report["rows"][:4]] == ["teacher", "dense", "pruned", "sparse"]
    assert [(row["device"], row["runtime"]) for row in report["rows"][4::2]] == [
        ("jetson-orin", "ort"),
        ("jetson-orin", "trt"),
    ]
    for row in report["rows"]:
        assert set(row) >= ROW
        assert {"median", "p90", "p99"} <= set(row["latency_ms"])
        assert set(row["memory_mb"]) == {"peak_rss", "available_delta", "engine", "context"}
        assert set(row["size_bytes"]) == {"onnx", "nonzero", "compressed"}
        assert 0 <= row["sparsity"] <= 1
        assert 0 <= row["sparsity_paper"] <= 1
        assert row["zeros"] / row["weights"] == row["sparsity"]
        assert row["top1_interval"][0] < row["top1"] < row["top1_interval"][1]
    parts = {
        "headline",
        "comparisons",
        "layers",
        "histories",
        "environment",
        "recipe",
        "command",
        "warnings",
        "metrics",
    }
    assert parts <= set(report)


def test_numbers_come_from_the_run_folder_unchanged(run):
    report = report_json(run)
    manifest = read_json(run / "3-export/manifest.json")["networks"]
    for row in report["rows"]:
        measured = read_json(run / f"5-measure/local/ort-{row['name']}.json")
        timed = np.array([value for samples in measured["latency_ns"] for value in samples]) / 1e6
        assert row["latency_ms"]["median"] == pytest.approx(np.median(timed))
        assert row["top1"] == measured["top1"]
        assert row["size_bytes"] == manifest[row["name"]]["size_bytes"]
        assert [r["median"] for r in row["rounds"]] == [np.median(r) / 1e6 for r in measured["latency_ns"]]
        assert (row["quantiles_ms"][0], row["quantiles_ms"][100]) == (timed.min(), timed.max())
    assert (
        report["metrics"]["local/ort/b1-t1-quick/sparse/latency_ms.median"] == report["rows"][3]["latency_ms"]["median"]
    )
    assert report["recipe"]["prune"]["sparsity"] == 0.9


def test_unknown_memory_is_null_with_its_reason_and_never_zero(run):
    row = report_json(run)["rows"][0]
    assert row["memory_mb"]["engine"] is None
    assert row["reasons"]["memory_mb.engine"] == "ONNX Runtime does not say"
    blank = {
        "peak_rss": None,
        "available_delta": None,
        "engine": None,
        "context": None,
        "reasons": {"peak_rss": "no /proc"},
    }
    made.put(run, made.measurement("sparse", memory_mb=blank, top1=None, images=None))
    row = report_json(run)["rows"][3]
    assert (row["top1"], row["top1_interval"], row["memory_mb"]["peak_rss"]) == (None, None, None)
    assert row["reasons"]["memory_mb.peak_rss"] == "no /proc"
    assert {"top1", "memory_mb.context"} <= set(row["reasons"])
    assert "no /proc" in words(run)
    assert not any("/sparse/memory" in key for key in report_json(run)["metrics"])


def test_no_speed_up_is_claimed_within_noise_and_the_reason_is_said(run):
    report = report_json(run)
    (found,) = report["comparisons"]
    assert found["verdict"] == "within noise"
    low, high = found["latency_ratio_interval"]
    assert low <= found["latency_ratio"] <= high
    assert "no faster" in report["headline"]
    assert "does not use zeros" in found["sentence"]
    assert found["top1_difference"] == pytest.approx(-100 * 2 / 360)
    assert found["images"] == 360


def test_devices_and_runtimes_stand_side_by_side_with_their_own_verdicts(wide):
    report = report_json(wide)
    verdicts = {(c["device"], c["runtime"]): c["verdict"] for c in report["comparisons"]}
    expected = {("local", "ort"): "within noise", ("jetson-orin", "trt"): "faster", ("jetson-orin", "ort"): "slower"}
    assert verdicts == expected
    best = "on jetson-orin with TensorRT as the dense network with TensorRT, each with its quickest runtime"
    assert f"{best} (not so in 1 other setting)" in report["headline"], "two runtimes of one session are one setting"


def test_a_single_loss_is_told_in_the_headline(run):
    made.put(run, made.measurement("sparse", latency_ns=made.latencies(2.0, seed=5)))
    assert "it is not faster" in report_json(run)["headline"]


def test_too_few_rounds_claim_nothing_however_large_the_ratio(run):
    for name, median in (("dense", 2.0), ("sparse", 1.0)):
        made.put(run, made.measurement(name, latency_ns=made.latencies(median, seed=1, rounds=5)))
    report = report_json(run)
    (found,) = report["comparisons"]
    assert (found["verdict"], found["latency_ratio_interval"]) == ("not known", None)
    assert "5 rounds" in found["reason"]
    assert "whether it is faster is not known" in report["headline"]
    assert "within noise" not in " ".join([report["headline"], *report["sentences"], words(run)])
    assert "not known: 5 rounds" in words(run), "the tile says so too, and shows no ratio"


def test_rows_under_different_conditions_are_not_compared(run):
    workload = {**made.measurement("dense").workload, "threads": 2}
    made.put(run, made.measurement("dense", workload=workload, threads=2))
    report = report_json(run)
    assert report["comparisons"] == []
    assert "no-baseline" in {warning["code"] for warning in report["warnings"]}


def test_a_stale_measurement_is_named_and_left_out(run):
    made.put(run, made.measurement("sparse", network_sha256="0" * 64))
    report = report_json(run)
    assert [row["name"] for row in report["rows"]] == ["teacher", "dense", "pruned"]
    (stale,) = [warning for warning in report["warnings"] if warning["code"] == "stale"]
    assert stale["source"] == "local/ort-sparse"
    assert "earlier export" in words(run)


def test_the_null_runtime_is_a_row_and_never_a_comparison(run):
    for name in ("dense", "sparse"):
        made.put(run, made.measurement(name, runtime="null", top1=None, images=None))
    report = report_json(run)
    assert {row["runtime"] for row in report["rows"]} == {"null", "ort"}
    assert {found["runtime"] for found in report["comparisons"]} == {"ort"}


@pytest.mark.parametrize(
    ("gone", "step"),
    [("0-teacher", "0-teacher"), ("1-prune", "1-prune"), ("3-export", "3-export"), ("5-measure", "5-measure")],
)
def test_a_missing_step_is_named_and_the_rest_is_shown(run, gone, step):
    shutil.rmtree(run / gone)
    report = report_json(run)
    assert [entry["step"] for entry in report["missing"]] == [step]
    assert report["missing"][0]["command"] in words(run)
    if gone == "3-export":
        assert report["rows"][0]["sparsity"] is None
        assert report["rows"][0]["reasons"]["sparsity"]
        assert report["layers"] == []
    if gone == "5-measure":
        assert report["rows"] == []
        assert "Exported, not measured" in words(run)


def test_layers_that_were_not_pruned_say_why(run):
    layers = {layer["name"]: layer for layer in report_json(run)["layers"]}
    assert layers["stage2.conv2"]["pruned"]
    assert layers["stage2.conv2"]["sparsity"] == pytest.approx(0.957, abs=1e-4)
    assert not layers["classifier"]["pruned"]
    assert all(layer["pruned"] or layer["reason"] for layer in layers.values())
    assert "the classifier is left dense" in words(run)


def test_page_is_self_contained(wide):
    content = page(wide)
    tags = {tag for tag, _ in content.tags}
    assert not tags & {"script", "link", "img", "iframe", "object", "base"}
    assert {"svg", "table", "style"} <= tags
    html = (wide / "6-report/report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|url\(|@import|file:", html)
    assert "nan" not in re.sub(r"[a-z]*nan[a-z]+|[a-z]+nan[a-z]*", "", html.lower())
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_plots_lie_within_their_drawing(wide):
    for tag, attributes in page(wide).tags:
        if tag == "polyline":
            points = np.array([[float(v) for v in point.split(",")] for point in attributes["points"].split()])
            assert (points >= 0).all()
            assert points[:, 0].max() <= 460
            assert points[:, 1].max() <= 280


def test_hostile_texts_are_shown_as_text(run):
    bad = "<script>alert('x')</script>"
    write_text(run / "recipe.toml", f'name = "{bad}"\nmethod = "a|b`c"\n')
    manifest = read_json(run / "3-export/manifest.json")
    manifest["method"] = bad
    for layer in manifest["networks"]["sparse"]["layers"]:
        layer["name"], layer["reason"] = bad + layer["name"], f'"{bad}'
    write_json(run / "3-export/manifest.json", manifest)
    write_json(run / "run.json", {"command": f"edgeprune run '{bad}' ``` x", "version": bad, "created_at": bad})
    made.put(run, made.measurement("sparse", runtime_version=bad, warnings=[Doubt(bad, bad)], facts={bad: bad}))
    content = page(run)
    assert "script" not in {tag for tag, _ in content.tags}
    assert "alert('x')" in " ".join(content.text)
    markdown = (run / "6-report/report.md").read_text(encoding="utf-8")
    assert "<script" not in re.sub(r"````sh\n.*?````", "", markdown, flags=re.DOTALL)
    assert json.loads((run / "6-report/report.json").read_bytes())["name"] == bad


def test_markdown_has_tables_with_equal_columns_and_the_command(wide):
    write_report(wide)
    text = (wide / "6-report/report.md").read_text(encoding="utf-8")
    tables = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
    assert len(tables) == 3
    assert len(tables[0]) == len(tables[2]) == 2 + 8
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1, 1]
    assert "```sh\nedgeprune run quickstart --out runs/quickstart\n```" in text


def test_bad_folders_are_the_users_errors(run, tmp_path):
    with pytest.raises(UserError, match="is not a run folder"):
        collect(tmp_path / "nowhere")
    write_text(run / "3-export/manifest.json", "{")
    with pytest.raises(UserError, match="not JSON"):
        write_report(run)
    assert not (run / "6-report").exists()


def test_importing_the_package_costs_nothing():
    heavy = "{'torch', 'onnx', 'numpy', 'matplotlib', 'jinja2', 'pydantic'}"
    code = f"import sys, edgeprune.report; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
