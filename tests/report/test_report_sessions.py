"""Several sessions on one device, in other power modes, on other processors, by other protocols: nothing is mixed."""

import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import run_folder as made

from edgeprune.comparing import compare_runs
from edgeprune.gates import Gates, check
from edgeprune.report import wording, write_report
from edgeprune.report.charts import interval
from edgeprune.report.collect import collect
from edgeprune.report.headline import foremost
from edgeprune.report.pairing import spans
from edgeprune.report.pairs import to_text
from edgeprune.report.remarks import grouped
from edgeprune.report.to_html import tiles
from edgeprune.report.uncertainty import claimable
from runtimes.files import write_json
from runtimes.records import Doubt

MAXN = {**made.BOARD, "power_mode": {"name": "MAXN", "id": 2}}
EARLY, LATE = "2025-11-21T10:00:00Z", "2025-11-21T11:00:00Z"


def say(text):
    return text.replace(wording.SPACE, " ")


@pytest.fixture
def modes(run):
    """At MAXN the sparse network takes 0.62 of the time, at 15 W with locked clocks 1.6 times as long."""
    shutil.rmtree(run / "5-measure")
    for name, fast, slow in (("dense", 0.84, 2.5), ("sparse", 0.52, 4.0)):
        made.put(run, made.on_board(name, fast, facts=MAXN, settings=None, started_at=EARLY))
        locked = made.on_board(name, slow, started_at=LATE)
        locked.write(run / f"5-measure/orin-nano/trt-{name}-15W-locked.json")
    return run


def two_sets(run, **medians):
    """The sparse network on processors 0 and 1, then on 2 and 3, each with its dense one; all in one mode."""
    shutil.rmtree(run / "5-measure")
    for number, (cpus, (dense, sparse)) in enumerate(medians.items()):
        chosen = [2 * number, 2 * number + 1]
        for name, median in (("dense", dense), ("sparse", sparse)):
            one = made.on_board(name, median, started_at=f"2025-11-21T1{number}:00:00Z")
            one = replace(one, workload={**one.workload, "cpus": chosen})
            one.write(run / f"5-measure/orin-nano/trt-{name}-{cpus}.json")
    return run


def by_mode(items):
    return {("15W" if "15W" in item.setting else "MAXN"): item for item in items}


# --- two power modes on one device, one faster and one slower


def test_each_mode_is_compared_with_the_dense_network_of_its_own_session(modes):
    report = collect(modes)
    found = by_mode(report.comparisons)
    assert {mode: each.verdict for mode, each in found.items()} == {"MAXN": "faster", "15W": "slower"}
    assert found["MAXN"].latency_ratio == pytest.approx(0.52 / 0.84, rel=0.01)
    assert found["15W"].latency_ratio == pytest.approx(4.0 / 2.5, rel=0.01)
    for mode, suffix in (("MAXN", ""), ("15W", "-15W-locked")):
        sources = [f"5-measure/orin-nano/trt-{name}{suffix}.json" for name in ("sparse", "dense")]
        assert [found[mode].source, found[mode].baseline_source] == sources


def test_each_column_has_the_numbers_the_mode_and_the_verdict_of_its_own_session(modes):
    columns = by_mode(collect(modes).columns)
    for mode, sparse, dense in (("MAXN", 0.52, 0.84), ("15W", 4.0, 2.5)):
        column = columns[mode]
        median = next(figure for figure in column.figures if figure.key == "latency_ms.median")
        assert (median.value, median.baseline) == pytest.approx((sparse, dense), rel=0.02)
        assert dict(column.conditions)["Power mode"].startswith(mode)
        assert column.ratio == pytest.approx(sparse / dense, rel=0.01)
    assert (columns["MAXN"].verdict, columns["15W"].verdict) == ("faster", "slower")
    assert "Switched for it: clocks" not in dict(columns["MAXN"].conditions)


def test_a_gate_judges_each_mode_by_its_own_ratio(modes):
    passed = {v.setting.partition("standard, ")[2]: v.passed for v in check(collect(modes), Gates(min_speedup=1.5))}
    assert passed == {"MAXN": True, "15W, clocks locked": False}


def test_metrics_environment_and_headline_tell_the_modes_apart(modes):
    report = collect(modes)
    place = "orin-nano/trt/b1-t1-standard"
    for mode, sparse in (("MAXN", 0.52), ("15W-locked", 4.0)):
        assert report.metrics[f"{place}-{mode}/sparse/latency_ms.median"] == pytest.approx(sparse, rel=0.02)
    told = {key: facts["power_mode"]["name"] for key, facts in report.environment.items()}
    assert sorted(told.values()) == ["15W", "MAXN"]
    assert {told[row.machine] for row in report.rows if row.power_mode == "MAXN"} == {"MAXN"}
    assert "on orin-nano with TensorRT in fp16, MAXN (not so in 1 other setting)" in report.headline
    for row in report.rows:
        measured = next(each for each in report.origins if each.file == row.source)
        assert dict(measured.conditions)["Power mode"].startswith(row.power_mode)


def test_compare_pairs_equal_modes_only(modes):
    pairs = by_mode(compare_runs(f"{modes}:dense", f"{modes}:sparse").pairs)
    assert {mode: pair.verdict for mode, pair in pairs.items()} == {"MAXN": "faster", "15W": "slower"}
    assert all(pair.together and not pair.differences for pair in pairs.values())


def test_compare_leaves_a_mode_alone_that_the_other_side_lacks(modes, tmp_path):
    other = made.build(tmp_path / "other")
    for name, median in (("dense", 0.84), ("sparse", 0.4)):
        made.put(other, made.on_board(name, median, facts=MAXN, settings=None, bundle="b0b0b0"))
    for a, b in ((modes, other), (other, modes)):
        compared = compare_runs(str(a), str(b))
        (pair,) = [pair for pair in compared.pairs if pair.device == "orin-nano"]
        assert "MAXN" in pair.setting
        assert not any("Power mode" in text for text in pair.differences)
        assert any("15W" in text for text in compared.alone)


def test_the_order_of_the_files_does_not_matter(modes):
    """The same with the 15 W session first by name and by time: a gate that passed by the wrong ratio."""
    folder = modes / "5-measure/orin-nano"
    for name in ("dense", "sparse"):
        (folder / f"trt-{name}-15W-locked.json").rename(folder / f"a-{name}.json")
    found = by_mode(collect(modes).comparisons)
    assert (found["MAXN"].verdict, found["15W"].verdict) == ("faster", "slower")


# --- two sets of processors, and two sessions of one setting


def test_two_sets_of_processors_are_two_settings(run):
    report = collect(two_sets(run, near=(1.0, 0.5), far=(1.0, 2.0)))
    assert [(c.verdict, "processors 0-1" in c.setting) for c in report.comparisons] == [
        ("faster", True),
        ("slower", False),
    ]
    assert "processors 2-3" in report.comparisons[1].setting
    assert [v.passed for v in check(report, Gates(min_speedup=1.5))] == [True, False]
    assert [column.verdict for column in report.columns] == ["faster", "slower"]
    assert report.metrics["orin-nano/trt/b1-t1-standard-cpus2_3-15W-locked/sparse:dense/latency_ratio"] > 1.9


def test_two_sessions_of_one_setting_pair_within_themselves_and_say_when(modes):
    """The same board, mode and workload, measured twice: the second time the sparse network is slower."""
    for name, median in (("dense", 1.0), ("sparse", 1.5)):
        again = made.on_board(name, median, facts=MAXN, settings=None, started_at=LATE)
        again.write(modes / f"5-measure/orin-nano/trt-{name}-again.json")
    report = collect(modes)
    found = [each for each in report.comparisons if "MAXN" in each.setting]
    assert [each.verdict for each in found] == ["faster", "slower"]
    assert [each.setting.rpartition(", ")[2] for each in found] == [f"measured {EARLY}", f"measured {LATE}"]
    assert len({verdict.setting for verdict in check(report, Gates(min_speedup=1.5))}) == 3
    ratios = [value for key, value in report.metrics.items() if "MAXN" in key and key.endswith("latency_ratio")]
    assert sorted(ratios) == pytest.approx([0.62, 1.5], rel=0.02)


def test_processors_are_told_in_short():
    assert [spans(each) for each in ((), (3,), (0, 1), (6, 0, 2, 1))] == ["", "3", "0-1", "0-2, 6"]


class Headings(HTMLParser):
    """The texts of all third-level headings."""

    def __init__(self, page):
        super().__init__()
        self.inside, self.found = False, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag == "h3":
            self.inside = True
            self.found.append("")

    def handle_endtag(self, tag):
        self.inside = self.inside and tag != "h3"

    def handle_data(self, data):
        if self.inside:
            self.found[-1] += data


def test_two_protocols_on_one_device_have_headings_of_their_own(run):
    for name in ("dense", "sparse"):
        one = made.measurement(name, protocol="standard", started_at=LATE)
        one = replace(one, workload={**one.workload, "protocol": "standard"})
        one.write(run / f"5-measure/local/ort-{name}-b1-t1-standard.json")
    write_report(run)
    headings = [" ".join(text.split()) for text in Headings((run / "6-report/report.html").read_text()).found]
    of_rows = [text for text in headings if "ONNX Runtime" in text]
    assert len(of_rows) == 4, "two tables and two plots"
    assert len(set(of_rows)) == 2
    assert {"quick", "standard"} == {text.rpartition(", ")[2] for text in of_rows}


# --- names before roles


def head_to_head(run, **like):
    """What `compare --device` leaves: networks `a` and `b` with a role of their own each."""
    manifest = made.manifest()
    networks = {name: {**manifest["networks"][of], "network": name} for name, of in like.items()}
    write_json(run / "3-export/manifest.json", {**manifest, "networks": networks})
    return run


def test_a_network_compared_with_itself_is_one_pair_within_noise(tmp_path):
    for name in "ab":
        made.put(tmp_path, replace(made.on_board("dense", 1.0), name=name))
    head_to_head(tmp_path, a="dense", b="dense")
    compared = compare_runs(f"{tmp_path}:a", f"{tmp_path}:b")
    assert [(pair.a, pair.b, pair.verdict) for pair in compared.pairs] == [("a", "b", "within noise")]
    assert compared.alone == ()


def test_a_measurement_whose_name_is_another_file_now_is_stale(tmp_path):
    """First dense:sparse on one board, then sparse:dense on another: the first one's are neither a nor b any more."""
    for device, fast, slow in (("d1", "b", "a"), ("d2", "a", "b")):
        made.put(tmp_path, replace(made.on_board("dense", 1.0, device), name=slow))
        made.put(tmp_path, replace(made.on_board("sparse", 0.5, device), name=fast))
    head_to_head(tmp_path, a="sparse", b="dense")
    (pair,) = compare_runs(f"{tmp_path}:a", f"{tmp_path}:b").pairs
    assert (pair.device, pair.verdict) == ("d2", "slower")
    assert pair.latency_ratio == pytest.approx(2.0, rel=0.02)
    assert [(w.source, w.code) for w in collect(tmp_path).warnings] == [("d1/trt-a", "stale"), ("d1/trt-b", "stale")]


def test_a_role_is_taken_where_no_network_has_that_name(run):
    shutil.rmtree(run / "5-measure")
    manifest = made.manifest()
    for name in ("dense", "sparse"):
        entry = {**manifest["networks"][name], "network": name, "precision": "fp16"}
        manifest["networks"][f"{name}-other"] = {**entry, "sha256": made.sha(f"{name}-other")}
        one = made.on_board(name, 1.0, network_sha256=made.sha(f"{name}-other"))
        made.put(run, replace(one, name=f"{name}-other"))
    write_json(run / "3-export/manifest.json", manifest)
    (pair,) = compare_runs(f"{run}:dense", str(run)).pairs
    assert (pair.a, pair.b) == ("dense-other", "sparse-other")
    for name in ("dense", "sparse"):
        made.put(run, made.on_board(name, 1.0))
    pairs = compare_runs(f"{run}:dense", str(run)).pairs
    assert [(pair.a, pair.b) for pair in pairs] == [("dense", "sparse")], "the name goes before the role"


# --- the quoted percentile


def spread(middle, slow):
    """Rounds of which one in five inferences is `slow` times as slow, so that median and p90 tell different things."""
    rounds = made.latencies(middle, 3, rounds=18, samples=200)
    return [[value * (slow if i % 5 == 0 else 1) for i, value in enumerate(timed)] for timed in rounds]


def test_the_ratio_and_the_floor_are_of_the_quoted_percentile(run):
    """Four fifths of the median, and 2.4 times the 90th percentile, which is what this protocol quotes."""
    shutil.rmtree(run / "5-measure")
    workload = {**made.on_board("dense", 1.0).workload, "protocol": "mlperf-like", "headline": "p90"}
    twin = [sorted(timed) for timed in made.twin_of(spread(1.0, 1))]
    twin = [timed[:150] + [int(1.3 * value) for value in timed[150:]] for timed in twin]
    timed = {"dense": spread(1.0, 1), "sparse": spread(0.8, 3)}
    for headline, told in (("p90", ("slower", True)), ("median", ("faster", False))):
        for name, rounds in timed.items():
            changes = {"latency_ns": rounds, "workload": {**workload, "headline": headline}, "protocol": "mlperf-like"}
            made.put(run, made.on_board(name, 1.0, **changes, **({"twin_ns": twin} if name == "dense" else {})))
        report = collect(run)
        (found,) = report.comparisons
        rows = {row.role: row.latency_ms[headline] for row in report.rows}
        assert found.headline == headline
        assert found.latency_ratio == pytest.approx(rows["sparse"] / rows["dense"], rel=0.02)
        assert (found.verdict, found.noise_floor > 0.2) == told
        pair = compare_runs(f"{run}:dense", str(run)).pairs[0]
        assert (pair.latency_ratio, pair.verdict) == (found.latency_ratio, found.verdict)


def test_the_ratio_is_said_to_be_paired_and_stands_alone(modes):
    (found, _) = collect(modes).comparisons
    assert "dense; paired round by round " in found.sentence
    text = say(to_text(compare_runs(f"{modes}:dense", str(modes))))
    lines = [line for line in text.splitlines() if line.strip().startswith("Latency")]
    assert lines
    assert not any(wording.TIMES in line for line in lines), "the ratio of medians over all rounds is another number"
    assert wording.TIMES in next(line for line in text.splitlines() if line.strip().startswith("Throughput"))


# --- what the headline tells


def on_several(run, **speeds):
    shutil.rmtree(run / "5-measure")
    for device, speed in speeds.items():
        for name, median in (("dense", 1.0), ("sparse", 1 / speed)):
            made.put(run, made.on_board(name, median, device))
    return collect(run)


def test_of_several_settings_the_headline_tells_the_range_and_how_many(run):
    report = on_several(run, a=1.11, b=2.0, c=1.25, d=1.0)
    assert "it runs 1.11 to 2.00 times as fast on 3 of 4 settings." in report.headline
    assert "1.25 to 2.00 times as fast on all 2 settings" in on_several(run_again(run), a=1.25, b=2.0).headline
    slower = on_several(run_again(run), a=0.8, b=0.5, c=1.0)
    assert "it is not faster: on 2 of 3 settings it takes 1.25 to 2.00 times as long" in slower.headline
    assert foremost(slower.comparisons).device == "b"


def run_again(run):
    made.put(run, made.measurement("dense"))
    return run


def test_what_is_not_known_elsewhere_is_said(run):
    on_several(run, a=2.0)
    for name, median in (("dense", 1.0), ("sparse", 0.2)):
        made.put(run, made.on_board(name, median, "b", passes=[{**made.PASSES[0], "rounds": 18}]))
    headline = collect(run).headline
    assert "2.00 times as fast on a with TensorRT in fp16; not known in 1 other setting." in headline


def test_tiles_tell_of_the_comparison_that_the_headline_tells_of(run):
    """On `b` the network is fastest, and there it was scored at 90 %, elsewhere at 97.8 %."""
    on_several(run, a=1.2, b=2.0)
    made.put(run, made.on_board("sparse", 0.5, "b", top1=90.0))
    report = collect(run)
    accuracy, _, speed, _ = tiles(report)
    assert say(accuracy["value"]) == "90.0 %"
    assert "8.3 points against dense" in say(accuracy["note"])
    assert "within its error" not in accuracy["note"]
    assert (say(speed["value"]), speed["note"]) == (
        f"2.00 {wording.TIMES}",
        "faster: b with TensorRT in fp16; 1 other setting below",
    )
    assert "at 90.0 % top-1, 8.3 points below" in say(report.headline)
    slower = on_several(run, a=1.0, b=0.5)
    assert "slower: b" in tiles(slower)[2]["note"]
    assert "on b with TensorRT in fp16 it takes 2.00 times as long" in slower.headline


def test_an_accuracy_within_its_error_is_on_neither_side(run):
    report = collect(run)
    assert report.comparisons[0].top1_difference == pytest.approx(-0.56, abs=0.01)
    assert "97.8 % top-1, within the error of the dense network;" in say(report.headline)
    assert "0.6 points against dense, within its error" in say(tiles(report)[0]["note"])


# --- what a claim takes


def test_one_percent_is_drawn_and_told_where_the_floor_is_less(modes):
    (found, other) = collect(modes).comparisons
    assert found.noise_floor < 0.01
    assert "below 1.0 % no difference is claimed" in say(found.sentence)
    write_report(modes)
    page = say((modes / "6-report/report.html").read_text(encoding="utf-8"))
    assert f"noise floor {say(wording.share(found.noise_floor))}; a claim takes 1.0 %" in page
    assert "or 1&nbsp;% where that is more" in page
    bands = {
        floor: interval(replace(other, noise_floor=floor), 2.0).partition('class="floor"')[2].partition("/>")[0]
        for floor in (0.0, 0.004, 0.01, 0.02)
    }
    assert bands[0.0] == bands[0.004] == bands[0.01] != bands[0.02]
    assert [claimable(floor) for floor in (None, 0.004, 0.02)] == [0.01, 0.01, 0.02]


# --- warnings in few lines


def test_equal_warnings_of_a_device_are_one_line(run):
    for number, name in enumerate(made.NETWORKS[1:]):
        doubts = [
            Doubt("outliers", f"{number + 7} of 100 latencies are outliers"),
            Doubt("unpinned", "the GPU may choose"),
        ]
        for device in ("d1", "d2"):
            made.put(run, made.on_board(name, 1.0, device, warnings=doubts))
    report = collect(run)
    lines = [line for line in grouped(report) if line.code in ("outliers", "unpinned")]
    assert [(line.code, len(line.sources)) for line in lines] == [("outliers", 3), ("unpinned", 6), ("outliers", 3)]
    assert lines[0].message == "3 of 3 networks: d1/trt-dense says: 7 of 100 latencies are outliers"
    assert len(report.warnings) > len(grouped(report))
    shown = {source for line in grouped(report) for source in line.sources}
    assert shown == {remark.source for remark in report.warnings}
