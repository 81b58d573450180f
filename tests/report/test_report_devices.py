"""Several devices side by side, where each number comes from, noise floors, power, and what a stand-in may tell."""

import shutil
from dataclasses import replace

import pytest
import run_folder as made

from edgeprune.comparing import compare_runs
from edgeprune.gates import Gates, check
from edgeprune.report import wording, write_report
from edgeprune.report.bench_table import bench_lines, cells
from edgeprune.report.collect import collect
from edgeprune.report.facts import briefly, conditions, describe, identity, in_short
from edgeprune.report.grid import VERDICT, grid
from edgeprune.report.to_html import tiles
from edgeprune.report.to_markdown import plain
from runtimes.files import read_json
from runtimes.records import Doubt

SETTING = "TensorRT 10.3.0, fp16, batch 1, 1 thread, standard, 15W, clocks locked"


def report_json(run):
    write_report(run)
    return read_json(run / "6-report/report.json")


def text_of(run, name):
    write_report(run)
    return (run / "6-report" / name).read_text(encoding="utf-8").replace(wording.SPACE, " ")


def column(report, device):
    return next(each for each in report["columns"] if each["device"] == device)


def figure(report, device, key):
    return next(each for each in column(report, device)["figures"] if each["key"] == key)


# --- side by side


def test_every_device_has_a_column_stand_ins_last(boards):
    report = report_json(boards)
    assert [each["device"] for each in report["columns"]] == ["local", "orin-nano", "pi@10.0.0.7", "emulated"]
    orin = column(report, "orin-nano")
    assert (orin["name"], orin["baseline"], orin["verdict"]) == ("sparse", "dense", "faster")
    assert orin["setting"].replace(wording.SPACE, " ") == SETTING


def test_a_columns_numbers_are_those_of_its_rows(boards):
    report = report_json(boards)
    rows = {row["role"]: row for row in report["rows"] if row["device"] == "orin-nano"}
    for key in (
        "latency_ms.median",
        "latency_ms.p99",
        "memory_mb.available_delta",
        "top1",
        "load_ms",
        "size_bytes.onnx",
    ):
        name, _, part = key.partition(".")
        expected = [rows[role][name][part] if part else rows[role][name] for role in ("sparse", "dense")]
        found = figure(report, "orin-nano", key)
        assert [found["value"], found["baseline"]] == expected
    assert figure(report, "orin-nano", "power.net_energy_mj")["value"] == pytest.approx((5100 - 3200) * 0.52 / 1e3)


def test_power_names_what_it_covers_and_its_absence_says_why(boards):
    report = report_json(boards)
    assert figure(report, "orin-nano", "power.mean_mw")["scope"] == "whole module: VDD_IN"
    missing = figure(report, "pi@10.0.0.7", "power.mean_mw")
    assert (missing["value"], missing["reason"]) == (None, "the board has no rail that can be read")
    page = text_of(boards, "report.html")
    assert "covers the whole module: VDD_IN" in page
    assert "5.10 W" in page
    idle = {**made.power(5100.0, 0.52), "idle_mw": None, "net_energy_mj": None}
    made.put(boards, made.on_board("sparse", 0.52, power=idle))
    assert figure(report_json(boards), "orin-nano", "power.net_energy_mj")["reason"] == "no idle power was read"


def test_what_no_device_knows_is_named_once_with_the_reason(run):
    table = grid(collect(run).columns)
    assert ("Power, Idle power, Energy per inference, Energy above idle", "no sensor") in table.unknown
    assert "Power" not in [label for label, _ in table.rows]
    assert "Not known on any device" in text_of(run, "report.html")
    assert "not known (no sensor)" in text_of(run, "report.md")


def test_the_same_reason_has_the_same_letter(boards):
    table = grid(collect(boards).columns)
    marks = [cell.note for _, cells in table.rows for cell in cells if cell.text == wording.NONE]
    assert set(marks) <= {mark for mark, _ in table.notes}
    assert len({why for _, why in table.notes}) == len(table.notes)
    assert len(marks) > len(set(marks))


def test_a_run_without_measurements_has_no_table(tmp_path):
    assert grid(()) is None


def test_the_quoted_percentile_is_the_workloads(boards):
    workload = {**made.on_board("dense", 1.0).workload, "protocol": "mlperf-like", "headline": "p90"}
    for name, median in (("dense", 0.84), ("sparse", 0.52)):
        made.put(boards, made.on_board(name, median, workload=workload, protocol="mlperf-like", device="long"))
    report = report_json(boards)
    assert column(report, "long")["figures"][1]["key"] == "latency_ms.p90"
    (found,) = [each for each in report["comparisons"] if each["device"] == "long"]
    rows = {row["role"]: row for row in report["rows"] if row["device"] == "long"}
    quoted = [wording.milliseconds(rows[role]["latency_ms"]["p90"]) for role in ("sparse", "dense")]
    assert f"p90 {quoted[0]} against {quoted[1]} dense" in found["sentence"]


def test_power_mode_and_what_was_switched_are_shown(boards):
    told = dict(column(report_json(boards), "orin-nano")["conditions"])
    assert told["Power mode"] == "15W (number 0)"
    assert told["Clocks pinned"] == "gpu yes, cpu yes"
    assert told["Switched for it: power mode"] == "15W (before: MAXN)"
    assert told["Switched for it: clocks"] == "fixed by jetson_clocks"
    assert "Not restored after it" not in told
    page = text_of(boards, "report.html")
    assert "15W (before: MAXN)" in page
    assert "nothing" in page.partition("Switched for it: power mode</th>")[2].partition("</tr>")[0]


def test_what_could_not_be_restored_is_shown(boards):
    problems = ["power mode: run sudo nvpmodel -m 2"]
    made.put(boards, made.on_board("sparse", 0.52, settings={**made.SWITCHED, "problems": problems}))
    assert dict(column(report_json(boards), "orin-nano")["conditions"])["Not restored after it"] == problems[0]


# --- the noise floor


def test_the_noise_floor_is_in_the_sentence_the_drawing_and_the_table(boards):
    report = report_json(boards)
    (found,) = [each for each in report["comparisons"] if each["device"] == "orin-nano"]
    low, high = found["twin_ratio_interval"]
    assert found["noise_floor"] == pytest.approx(max(high, 1 / low) - 1)
    assert (found["noise_floor_of"], found["resamples"], found["seed"]) == ("dense", 10_000, 0)
    floor = wording.share(found["noise_floor"]).replace(wording.SPACE, " ")
    assert f"the dense engine lies up to {floor} from itself in a second process (noise floor)" in found[
        "sentence"
    ].replace(wording.SPACE, " ")
    page = text_of(boards, "report.html")
    assert 'class="floor"' in page
    assert f"noise floor {floor}" in page
    assert "A/A, dense against itself" in page
    assert f"noise floor {floor}" in text_of(boards, "report.md")


def test_without_a_twin_the_floor_is_not_known_and_says_so(run):
    made.put(run, made.measurement("dense", twin_ns=None))
    (found,) = report_json(run)["comparisons"]
    assert (found["noise_floor"], found["twin_ratio"]) == (None, None)
    assert "noise floor not known (no second process" in found["sentence"]
    assert "A/A: no second process" in text_of(run, "report.html")
    made.put(run, made.measurement("dense", twin_ns=None, reasons={"twin_ns": "only one network was measured"}))
    assert "only one network was measured" in report_json(run)["comparisons"][0]["sentence"]


def test_a_difference_below_the_floor_is_within_noise(boards):
    """The dense engine's second process takes half as long again, so a third less proves nothing."""
    slow = [[int(value * 1.5) for value in timed] for timed in made.latencies(0.84, 1, rounds=18)]
    made.put(boards, made.on_board("dense", 0.84, twin_ns=slow))
    made.put(boards, made.on_board("sparse", 0.84 / 1.4))
    (found,) = [each for each in report_json(boards)["comparisons"] if each["device"] == "orin-nano"]
    assert found["latency_ratio_interval"][1] < 0.9
    assert found["verdict"] == "within noise"


def test_another_network_of_the_session_tells_the_floor_where_dense_has_no_twin(boards):
    made.put(boards, made.on_board("dense", 0.84, twin_ns=None))
    twin = made.latencies(3.0, 77, rounds=18)
    made.put(boards, made.on_board("teacher", 3.0, twin_ns=twin))
    (found,) = [each for each in report_json(boards)["comparisons"] if each["device"] == "orin-nano"]
    assert found["noise_floor_of"] == "teacher"
    assert "the engine of teacher lies up to" in found["sentence"]
    made.put(boards, made.on_board("teacher", 3.0, twin_ns=twin, started_at="2025-11-22T10:00:00Z"))
    (found,) = [each for each in report_json(boards)["comparisons"] if each["device"] == "orin-nano"]
    assert found["noise_floor"] is None


def test_passes_are_the_clusters(boards):
    """The same rounds as one pass and as three whose processes differ: the interval knows of the difference."""

    def width(passes):
        timed = [
            [int(value * (1 + 0.05 * (number // 6))) for value in each]
            for number, each in enumerate(made.latencies(0.5, 3, rounds=18))
        ]
        made.put(boards, made.on_board("sparse", 0.5, latency_ns=timed, passes=passes))
        made.put(boards, made.on_board("dense", 0.84, passes=passes, twin_ns=None))
        (found,) = [each for each in report_json(boards)["comparisons"] if each["device"] == "orin-nano"]
        low, high = found["latency_ratio_interval"]
        return high - low

    assert width(made.PASSES) > 1.5 * width([{**made.PASSES[0], "rounds": 18}])


ONE = [{**made.PASSES[0], "rounds": 18}]
ALONE = "they were measured in one pass, so nothing tells what a new process changes"
NO_TWIN = "the noise floor is not known (no second process of the same engine was timed beside it)"


@pytest.mark.parametrize(
    ("passes", "twin", "why"),
    [(ONE, True, ALONE), ([], True, ALONE), (ONE, False, ALONE), (made.PASSES, False, NO_TWIN)],
)
def test_one_pass_or_no_twin_claims_nothing_anywhere(boards, passes, twin, why):
    """Half the time in every round, and yet no claim in the headline, the tile, the sentence, the table or the gate."""
    for device in ("local", "pi@10.0.0.7", "emulated"):
        shutil.rmtree(boards / "5-measure" / device)
    for name, median in (("dense", 1.0), ("sparse", 0.5)):
        made.put(boards, made.on_board(name, median, passes=passes, **({} if twin else {"twin_ns": None})))
    report = collect(boards)
    (found,) = report.comparisons
    assert (found.verdict, found.reason) == ("not known", why)
    assert found.latency_ratio == pytest.approx(0.5, rel=0.02)
    assert report.headline.endswith(f"whether it is faster is not known: {why}.")
    assert why in found.sentence
    speed = tiles(report)[2]
    assert (speed["value"], speed["note"]) == (wording.NONE, f"not known: {why}")
    line = dict(grid(report.columns).rows)[VERDICT]
    assert (line[0].text, line[0].small) == ("not known", "")
    assert why in [reason for _, reason in grid(report.columns).notes]
    (verdict,) = check(report, Gates(min_speedup=0.5))
    assert (verdict.passed, verdict.found) == (False, f"not known: {why}")
    pair = compare_runs(f"{boards}:dense", str(boards)).pairs[0]
    assert (pair.verdict, pair.reason) == ("not known", why)
    assert why in text_of(boards, "report.html")


def test_a_measurement_whose_passes_are_not_those_of_its_rounds_is_left_out(boards):
    made.put(boards, made.on_board("sparse", 0.5, passes=made.PASSES[:2]))
    (remark,) = [warning for warning in collect(boards).warnings if warning.code == "damaged"]
    assert remark.source == "orin-nano/trt-sparse"
    assert "passes are not those of its latencies" in remark.message


def test_passes_of_unequal_length_do_not_pair(boards):
    other = [{**made.PASSES[0], "rounds": rounds} for rounds in (5, 7, 6)]
    made.put(boards, made.on_board("sparse", 0.5, passes=other))
    (found,) = [each for each in report_json(boards)["comparisons"] if each["device"] == "orin-nano"]
    assert (found["latency_ratio"], found["verdict"]) == (None, "not known")


# --- stand-ins


def test_a_stand_in_is_labelled_and_its_numbers_are_nowhere(boards):
    report = report_json(boards)
    rows = [row for row in report["rows"] if row["device"] == "emulated"]
    assert len(rows) == 2
    for row in rows:
        assert row["stand_in"] == "emulated by qemu-aarch64"
        assert row["top1"] is not None
        for key in ("latency_ms", "memory_mb"):
            assert set(row[key].values()) == {None}
        for key in (
            "throughput_ips",
            "load_ms",
            "first_inference_ms",
            "power",
            "power_mw",
            "gpu_ms",
            "twin_ms",
            "watch",
        ):
            assert row[key] is None
        assert (row["rounds"], row["quantiles_ms"]) == ([], [])
        assert row["reasons"]["latency_ms.p99"] == "withheld: emulated by qemu-aarch64 stood in for the device"
    assert not any(found["device"] == "emulated" for found in report["comparisons"])
    withheld = ("latency", "throughput", "load", "inference_ms", "power", "memory", "ratio")
    assert not [key for key in report["metrics"] if key.startswith("emulated/") and any(w in key for w in withheld)]
    took = read_json(boards / "5-measure/emulated/ort-sparse.json")["latency_ms"]
    for name in ("report.html", "report.md"):
        text = text_of(boards, name)
        assert "stand-in" in text
        assert not any(wording.milliseconds(took[key]).replace(wording.SPACE, " ") in text for key in took)


def test_a_stand_ins_doubts_about_its_times_are_withheld_with_them(boards):
    doubts = [Doubt("stand_in", "emulated"), Doubt("drift", "from 12.3 to 45.6 ms"), Doubt("non_finite", "3 logits")]
    facts = {**made.BOARD, "stand_in": "emulated by qemu-aarch64"}
    made.put(boards, made.on_board("sparse", 9.0, "emulated", runtime="ort", facts=facts, warnings=doubts))
    told = [
        warning["code"] for warning in report_json(boards)["warnings"] if warning["source"] == "emulated/ort-sparse"
    ]
    assert told == ["stand_in", "non_finite"]


def test_a_run_of_stand_ins_alone_claims_no_speed(run):
    facts = {**made.FACTS, "stand_in": "a made-up board: files are read under /x"}
    for name in made.NETWORKS:
        made.put(run, made.measurement(name, facts=facts))
    report = report_json(run)
    assert report["comparisons"] == []
    assert "its speed has not been compared with the dense network" in report["headline"]
    assert "not measured in turns" not in text_of(run, "report.md")


def test_a_real_machine_says_nothing_of_stand_ins(run):
    facts = {**made.FACTS, "stand_in": None}
    for name in made.NETWORKS:
        made.put(run, made.measurement(name, facts=facts))
    assert 'class="stand-in"' not in text_of(run, "report.html")
    assert ">Stand-in<" not in text_of(run, "report.html")


# --- where each number comes from


def test_every_row_says_where_its_numbers_come_from(boards):
    report = report_json(boards)
    assert len(report["origins"]) == len(report["rows"])
    page, markdown = text_of(boards, "report.html"), text_of(boards, "report.md")
    for origin, row in zip(report["origins"], report["rows"], strict=True):
        measured = read_json(boards / origin["file"])
        assert origin["file"] == row["source"]
        assert (origin["name"], origin["device"]) == (measured["name"], measured["device"])
        assert origin["network_sha256"] == measured["network_sha256"]
        assert (origin["bundle"], origin["started_at"]) == (measured["bundle"], measured["started_at"])
        assert origin["command"].split() == measured["argv"]
        assert origin["samples"] == measured["n"]
        assert origin["rounds"] == len(measured["latency_ns"])
        assert origin["file"] in page
        assert origin["network_sha256"] in page
        assert plain(origin["file"]) in markdown
    assert page.count('<details class="origin">') == len(report["rows"])


def test_an_origin_tells_what_was_sampled_at_what_cost(boards):
    (origin,) = [o for o in report_json(boards)["origins"] if (o["device"], o["name"]) == ("orin-nano", "sparse")]
    told = {label: text.replace(wording.SPACE, " ") for label, text in origin["conditions"]}
    assert told["Watched by"] == "tegrastats, 9.8 times a second, 1.3 % of a core"
    assert told["In its rounds: power mW"] == "5000 to 5200, median 5100"
    assert told["In its rounds: GPU MHz"] == "624"
    assert "In its rounds: GPU %" not in told, "it was never read"
    assert told["GPU clock, MHz"] == "min 624, cur 624, max 624"
    assert origin["passes"] == 3


def test_a_measurement_from_before_passes_is_one_of_all_its_rounds(run):
    made.put(run, made.measurement("teacher", passes=[]))
    origin = report_json(run)["origins"][0]
    assert (origin["passes"], origin["rounds"]) == (1, 10)


def test_facts_in_short_leave_out_what_was_not_read():
    facts = {"power_mode": None, "governor": "ondemand", "cores": 4, "reasons": {"power_mode": "no nvpmodel"}}
    assert in_short(facts, None) == [("Clock governor", "ondemand")]
    assert ("Not read", "Power mode: no nvpmodel") in conditions(facts, None)
    assert identity(facts, None) == [("Cores", "4"), ("Clock governor", "ondemand")]
    assert describe({"contradictions": [], "temperature_unread": {"before": [], "after": []}, "stand_in": None}) == []
    assert describe({"clocks_pinned": {"before": {"gpu": False}, "after": {"gpu": True}}}) == [
        ("Clocks pinned", "gpu no before, gpu yes after")
    ]


def test_what_was_not_read_for_one_reason_is_one_line():
    facts = {"l4t": None, "cores": 4, "jetpack": None, "cuda": None, "reasons": {"cuda": "no package"}}
    facts["reasons"] |= dict.fromkeys(("l4t", "jetpack"), "not a Jetson")
    assert briefly(facts) == [
        ("Cores", "4"),
        ("Not read", "L4T, JetPack: not a Jetson"),
        ("Not read", "CUDA: no package"),
    ]


# --- the columns of other tools


def test_the_short_table_holds_the_same_numbers(boards):
    report = collect(boards)
    lines = bench_lines(report)
    assert len(lines) == len(report.rows)
    for line, row in zip(lines, report.rows, strict=True):
        assert line.fine == (row.stand_in is None)
        assert line.ms_per_image == row.latency_ms["median"]
        assert line.size_mb == pytest.approx(row.size_bytes["onnx"] / 1e6)
    assert "FPS" in text_of(boards, "report.md")
    eight = replace(report, rows=tuple(replace(row, batch=8) for row in report.rows))
    assert bench_lines(eight)[0].ms_per_image == pytest.approx(lines[0].ms_per_image / 8)
    assert cells(lines[-1])[2:] == ["1.09", "97.78", wording.NONE, wording.NONE]
