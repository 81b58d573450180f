"""One network on several runtimes in one session: which is fastest, and when nothing is claimed."""

from dataclasses import replace

import pytest
from run_folder import latencies, measurement, put, twin_of, two_passes

from edgeprune.report import wording, write_report
from edgeprune.report.collect import collect
from runtimes.files import read_json


def with_other_runtime(run, sparse_ms, dense_ms=1.5, **changes):
    """The two networks of the folder on sparse_cpu too, in the session in which ONNX Runtime took 1.31 ms for each."""
    for name, median in (("dense", dense_ms), ("sparse", sparse_ms)):
        timed = latencies(median, seed=len(name) + 50)
        twin = twin_of(timed, changes.get("luck", 1.0)) if name == "dense" else None
        rest = {key: value for key, value in changes.items() if key != "luck"}
        fields = {"runtime": "sparse_cpu", "runtime_version": "build 1", "latency_ns": timed, "twin_ns": twin}
        put(run, measurement(name, **{**fields, **rest}))
    return run


def found(run, name="sparse"):
    one = [each for each in collect(run).across if each.name == name]
    assert len(one) == 1
    return one[0]


def plain(sentence):
    return sentence.replace(wording.SPACE, " ")


def test_the_fastest_runtime_is_named_with_the_others_ratio_to_it(run):
    told = found(with_other_runtime(run, 0.5))
    assert told.quickest == told.fastest == "sparse_cpu"
    (other,) = told.others
    assert other.runtime == "ort"
    assert other.ratio == pytest.approx(1.31 / 0.5, rel=0.02)
    assert other.ratio_interval[0] < other.ratio < other.ratio_interval[1]
    assert other.verdict == "slower"
    assert "the sparse network is fastest with sparse_cpu" in plain(told.sentence)


def test_the_sparse_network_is_held_to_the_dense_one_on_its_own_best_runtime(run):
    beside = found(with_other_runtime(run, 0.5, dense_ms=1.0)).against_dense
    assert (beside.name, beside.runtime) == ("dense", "sparse_cpu")
    assert beside.ratio == pytest.approx(1.0 / 0.5, rel=0.02)
    beside = found(with_other_runtime(run, 0.5, dense_ms=1.6)).against_dense
    assert (beside.name, beside.runtime) == ("dense", "ort")
    assert beside.ratio == pytest.approx(1.31 / 0.5, rel=0.02)
    assert found(run, "dense").against_dense is None


def test_the_other_runtime_wins_where_it_is_faster(run):
    told = found(with_other_runtime(run, 3.0))
    assert told.fastest == "ort"
    assert told.others[0].runtime == "sparse_cpu"


def test_within_noise_no_runtime_is_fastest(run):
    told = found(with_other_runtime(run, 1.30))
    assert told.fastest is None
    assert told.others[0].verdict == "within noise"
    assert "not shown to be fastest" in told.sentence


def test_the_noisier_runtimes_floor_counts(run):
    """ONNX Runtime lies half a percent from itself; a second process of sparse_cpu took a quarter longer."""
    assert found(with_other_runtime(run, 1.2)).fastest == "sparse_cpu"
    told = found(with_other_runtime(run, 1.2, luck=1.25))
    assert told.fastest is None
    assert told.others[0].noise_floor > 0.2


def test_without_a_noise_floor_or_in_one_pass_nothing_is_known(run):
    told = found(with_other_runtime(run, 0.5, twin_ns=None))
    assert told.others[0].verdict == "not known"
    assert told.fastest is None
    assert "noise floor" in told.sentence
    one = [{**two_passes(10)[0], "rounds": 10}]
    told = found(with_other_runtime(run, 0.5, passes=one))
    assert told.others[0].verdict == "not known"
    assert told.fastest is None


def test_rows_of_other_sessions_settings_and_stand_ins_are_not_compared(run):
    with_other_runtime(run, 0.5, started_at="2025-11-22T10:00:00Z")
    assert not collect(run).across
    with_other_runtime(run, 0.5, threads=2, workload={**measurement("dense").workload, "threads": 2})
    assert not collect(run).across
    with_other_runtime(run, 0.5)
    assert len(collect(run).across) == 2, "dense and sparse"


def test_a_runtime_that_answers_nothing_is_no_choice(run):
    timed = latencies(0.0005, seed=1)
    put(run, measurement("sparse", runtime="null", runtime_version="1", latency_ns=timed, top1=None))
    assert not collect(run).across


def test_the_sentences_and_the_numbers_are_in_every_format(run):
    write_report(with_other_runtime(run, 0.5))
    report = read_json(run / "6-report/report.json")
    sparse = next(each for each in report["across"] if each["name"] == "sparse")
    assert sparse["fastest"] == "sparse_cpu"
    assert sparse["sentence"] in report["sentences"]
    for name in ("report.md", "report.html"):
        text = plain((run / "6-report" / name).read_text(encoding="utf-8")).replace("\\", "")
        assert "the sparse network is fastest with sparse_cpu" in text


def test_a_third_runtime_must_be_beaten_too(run):
    with_other_runtime(run, 0.5)
    timed = latencies(0.501, seed=77)
    third = measurement("sparse", runtime="openvino", runtime_version="2026.4", latency_ns=timed)
    put(run, replace(third, twin_ns=twin_of(timed)))
    told = found(run)
    assert {other.runtime for other in told.others} >= {"ort"}
    assert told.fastest is None
    assert [other.verdict for other in told.others if other.runtime == "ort"] == ["slower"]
