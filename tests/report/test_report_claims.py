"""What the report does not say: more zeros than there are, a ratio of two sessions, a difference without error."""

from dataclasses import replace

import pytest
import run_folder as made

from edgeprune.report import wording, write_report
from runtimes.files import read_json, write_json


def report_json(run):
    write_report(run)
    return read_json(run / "6-report/report.json")


def text_of(run, name):
    write_report(run)
    return (run / "6-report" / name).read_text(encoding="utf-8").replace(wording.SPACE, " ")


def share_zeros(run, prunable, everything):
    """The sparse network's shares of zero weights as they are in a network of which only a part is prunable."""
    path = run / "3-export/manifest.json"
    manifest = read_json(path)
    manifest["networks"]["sparse"].update(sparsity=prunable, sparsity_paper=everything)
    write_json(path, manifest)


def codes(report):
    return [warning["code"] for warning in report["warnings"]]


# --- of what the zeros are a share


@pytest.mark.parametrize(
    ("everything", "says"),
    [
        (0.42, "90.1 % of the prunable weights are zero (42.0 % of all, as papers count)"),
        (0.88, "90.1 % of the prunable weights are zero (88.0 % of all, as papers count)"),
        (0.883, "90.1 % of the weights are zero"),
        (None, "90.1 % of the prunable weights are zero"),
    ],
)
def test_the_headline_says_of_which_weights_the_zeros_are_a_share(run, everything, says):
    share_zeros(run, 0.901, everything)
    assert report_json(run)["headline"].replace(wording.SPACE, " ").startswith(says + " at ")


def test_markdown_and_page_show_both_shares(run):
    share_zeros(run, 0.901, 0.42)
    line = next(line for line in text_of(run, "report.md").splitlines() if line.startswith("| sparse | "))
    assert "| 90.1 % | 42.0 % |" in line
    tile = text_of(run, "report.html").partition("Zero weights</dt>")[2].partition("</div>")[0]
    assert "90.1 %" in tile
    assert "42.0 % of all" in tile


# --- what may be compared


@pytest.mark.parametrize("other", [{"started_at": "2025-11-22T08:00:00Z"}, {"bundle": "0a1b2c"}])
def test_rounds_of_two_sessions_are_not_paired(run, other):
    """Ten rounds each, and half the latency: as convincing as it gets, were they measured in turns."""
    made.put(run, made.measurement("sparse", latency_ns=made.latencies(0.6, seed=3), **other))
    report = report_json(run)
    assert report["comparisons"] == []
    (remark,) = [warning for warning in report["warnings"] if warning["code"] == "other-session"]
    assert remark["source"] == "local/ort-sparse"
    assert "measure both in one call" in remark["message"]
    assert "not been compared" in report["headline"]
    assert not any(key.endswith("latency_ratio") for key in report["metrics"])


def test_measurements_under_several_conditions_are_tables_of_their_own(run):
    for name in ("dense", "sparse"):
        one = made.measurement(name)
        eight = replace(one, batch=8, workload={**one.workload, "batch": 8}, throughput_ips=8 * one.throughput_ips)
        eight.write(run / f"5-measure/local/ort-{name}-b8-t1-quick.json")
    report = report_json(run)
    assert [(row["batch"], row["name"]) for row in report["rows"]] == [
        *((1, name) for name in made.NETWORKS),
        (8, "dense"),
        (8, "sparse"),
    ]
    assert [found["batch"] for found in report["comparisons"]] == [1, 8]
    assert text_of(run, "report.html").count('<table class="results">') == 2


def test_a_setting_of_which_nothing_is_known_counts_neither_way(wide):
    """Of three settings one is faster, one within noise, and one had too few rounds to be called anything."""
    for name in ("dense", "sparse"):
        timed = made.latencies(6.0, seed=1, rounds=5)
        made.put(wide, made.measurement(name, device="jetson-orin", runtime_version="10.3", latency_ns=timed))
    report = report_json(wide)
    assert sorted(found["verdict"] for found in report["comparisons"]) == ["faster", "not known", "within noise"]
    assert "(not so in 1 other setting)" in report["headline"]


def test_a_known_verdict_goes_before_an_unknown_one_in_the_tile(run):
    for name, median in (("dense", 4.0), ("sparse", 1.0)):
        timed = made.latencies(median, seed=1, rounds=3)
        made.put(run, made.measurement(name, device="board", latency_ns=timed))
    tile = text_of(run, "report.html").partition("Speed</dt>")[2].partition("</div>")[0]
    assert "within noise: local" in tile


# --- the error of a difference


def test_two_perfect_scores_of_few_images_are_not_known_without_error(run):
    """100 % of 10 images against 90 %: one image, and no error at all in the usual formula for the 100."""
    for name, top1 in (("dense", 100.0), ("sparse", 90.0)):
        made.put(run, made.measurement(name, top1=top1, images=10))
    report = report_json(run)
    assert all(row["top1_standard_error"] > 0 for row in report["rows"])
    for name in ("dense", "sparse"):
        made.put(run, made.measurement(name, top1=100.0, images=10))
    (found,) = report_json(run)["comparisons"]
    assert found["top1_difference_standard_error"] > 5


def test_a_difference_beyond_its_error_is_called_that(run):
    for name, top1 in (("dense", 98.0), ("sparse", 60.0)):
        made.put(run, made.measurement(name, top1=top1))
    assert any("beyond twice that error" in sentence for sentence in report_json(run)["sentences"])


def test_no_images_give_no_difference(run):
    for name in ("dense", "sparse"):
        made.put(run, made.measurement(name, images=0))
    (found,) = report_json(run)["comparisons"]
    assert found["top1_difference"] is None


# --- what the steps were done with

CPU = {"torch": "2.15.0", "device": "cpu", "threads": 2}


def completed(run, **machines):
    for step, machine in zip(("0-teacher", "1-prune", "2-retrain"), machines.values(), strict=True):
        write_json(run / step / "completed.json", {"step": step, "machine": machine} if machine else {"step": step})


def test_what_the_steps_were_done_with_is_in_the_environment(run):
    completed(run, teach=CPU, prune=CPU, retrain=CPU)
    report = report_json(run)
    assert report["training"] == {"0-teacher": CPU, "1-prune": CPU, "2-retrain": CPU}
    assert "different-machines" not in codes(report)
    environment = text_of(run, "report.html").partition("<h2>Environment</h2>")[2]
    assert "torch 2.15.0, device cpu, threads 2" in environment


def test_a_step_that_recorded_no_machine_is_left_out(run):
    completed(run, teach=CPU, prune=None, retrain=CPU)
    report = report_json(run)
    assert set(report["training"]) == {"0-teacher", "2-retrain"}
    assert "different-machines" not in codes(report)


@pytest.mark.parametrize("change", [{"threads": 4}, {"device": "NVIDIA H200"}, {"torch": "2.14.0"}])
def test_steps_done_on_different_machines_are_a_warning(run, change):
    completed(run, teach=CPU, prune=CPU, retrain={**CPU, **change})
    (remark,) = [warning for warning in report_json(run)["warnings"] if warning["code"] == "different-machines"]
    assert str(*change.values()) in remark["message"]
    assert "2-retrain with" in remark["message"]
    assert "different-machines" in text_of(run, "report.html")


def test_a_checkpoint_may_have_seen_the_held_out_images(run):
    caution = "may have been trained on them"
    assert caution not in text_of(run, "report.html")
    write_json(run / "0-teacher" / "teacher.history.json", [{"epoch": 0, "validation_top1": 99.9}])
    assert caution in text_of(run, "report.html")


# --- what made it faster


RECEIPTS = {
    "yes": {"verdict": "yes", "reason": "TensorRT chose sparse tactics for 3 of 7 layers."},
    "no": {"verdict": "no", "reason": "TensorRT found 7 layers and chose no sparse tactic."},
    "unknown": {"verdict": "unknown", "reason": "The log has no line about sparsity."},
}
BLAMED = {
    "yes": "faster.",
    "no": "faster, but not by its zeros: TensorRT chose no sparse tactic.",
    "unknown": "and whether its zeros did it is not known: TensorRT did not say which layers run sparse.",
}


@pytest.mark.parametrize("verdict", RECEIPTS)
def test_a_speed_up_is_put_down_to_sparsity_only_with_a_receipt(run, verdict):
    for name, level in (("dense", 1.0), ("sparse", 0.5)):
        path = run / f"5-measure/local/trt-{name}.json"
        measured = made.measurement(name, runtime="trt", latency_ns=made.latencies(level, seed=3), precision="fp16")
        replace(measured, receipt=RECEIPTS[verdict]).write(path)
    report = report_json(run)
    (found,) = [found for found in report["comparisons"] if found["runtime"] == "trt"]
    assert (found["verdict"], found["uses_zeros"]) == ("faster", verdict)
    assert BLAMED[verdict] in found["sentence"]
    assert found["sentence"].endswith(RECEIPTS[verdict]["reason"])
    assert "TensorRT 1.31.1, fp16, batch 1" in found["sentence"]
    claimed = report["headline"].partition("times as fast on local with TensorRT")[2]
    assert (claimed == " in fp16 (not so in 1 other setting).") == (verdict == "yes"), report["headline"]


def test_onnx_runtime_is_never_faster_by_zeros(run):
    made.put(run, made.measurement("sparse", latency_ns=made.latencies(0.5, seed=3)))
    report = report_json(run)
    assert report["comparisons"][0]["verdict"] == "faster"
    assert "but not by its zeros: ONNX Runtime does not use them" in report["headline"]


def test_lower_precisions_compare_with_the_dense_network_in_the_same_precision(run):
    path = run / "3-export/manifest.json"
    manifest = read_json(path)
    for name in ("dense", "sparse"):
        entry = {**manifest["networks"][name], "network": name, "precision": "int8", "sha256": made.sha(f"{name}-int8")}
        manifest["networks"][f"{name}-int8"] = entry
        measured = made.measurement(name, precision="int8", network_sha256=entry["sha256"])
        made.put(run, replace(measured, name=f"{name}-int8"))
    write_json(path, manifest)
    report = report_json(run)
    names = [row["name"] for row in report["rows"]]
    assert names == ["teacher", "dense", "pruned", "sparse", "dense-int8", "sparse-int8"]
    assert [(found["name"], found["baseline"]) for found in report["comparisons"]] == [
        ("sparse", "dense"),
        ("sparse-int8", "dense-int8"),
    ]
    assert "precision" not in codes(report)


def test_the_headline_tells_accuracy_and_speed_of_the_same_file(run):
    """int8 twice as fast and far less accurate: neither the fp32 accuracy nor silence about the loss."""
    path = run / "3-export/manifest.json"
    manifest = read_json(path)
    for name, top1, level in (("dense", 97.0, 1.0), ("sparse", 60.0, 0.5)):
        entry = {**manifest["networks"][name], "network": name, "precision": "int8", "sha256": made.sha(f"{name}-int8")}
        manifest["networks"][f"{name}-int8"] = entry
        timed = made.measurement(
            name, precision="int8", network_sha256=entry["sha256"], top1=top1, latency_ns=made.latencies(level, seed=3)
        )
        made.put(run, replace(timed, name=f"{name}-int8"))
    write_json(path, manifest)
    report = report_json(run)
    headline = report["headline"].replace(wording.SPACE, " ")
    assert "at 60.0 % top-1, 37.0 points below the dense network" in headline
    assert "2.00 times as fast on local with ONNX Runtime in int8 (not so in 1 other setting)" in headline
    told = [text.replace(wording.SPACE, " ") for text in report["sentences"]]
    assert any(
        text.startswith(f"Top-1 in int8 differs from the dense network by {wording.MINUS}37.00 points") for text in told
    )
    assert any(text.startswith("Top-1 in fp32 differs from the dense network by ") for text in told)
    tiles = text_of(run, "report.html").partition("Top-1</dt>")[2]
    assert tiles.lstrip().startswith('<dd class="value ">60.0 %')


def test_what_a_board_measured_of_another_targets_export_is_reported(run):
    """`export --target jetson-orin` writes beside the run's own export, and the board measures those files."""
    manifest = read_json(run / "3-export/manifest.json")
    networks = {}
    for name in ("dense", "sparse"):
        entry = {**manifest["networks"][name], "network": name, "precision": "fp16", "sha256": made.sha(f"{name}-fp16")}
        networks[f"{name}-fp16"] = entry
        timed = made.measurement(
            name, device="orin", runtime="trt", precision="fp16", network_sha256=entry["sha256"], bundle="aaaaaa"
        )
        made.put(run, replace(timed, name=f"{name}-fp16"))
    write_json(run / "3-export/jetson-orin/manifest.json", {**manifest, "target": "jetson-orin", "networks": networks})
    report = report_json(run)
    assert "stale" not in codes(report)
    assert [(row["name"], row["zeros"]) for row in report["rows"] if row["device"] == "orin"] == [
        ("dense-fp16", 0),
        ("sparse-fp16", manifest["networks"]["sparse"]["zeros"]),
    ]
    assert ("orin", "sparse-fp16", "dense-fp16") in [
        (found["device"], found["name"], found["baseline"]) for found in report["comparisons"]
    ]
