"""A measurement's document on arrival: what its fields may be, its texts, and summaries that are not its samples'."""

import copy
import json
import math
import statistics
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.arrival import clean
from runtimes.checks import is_plain_name, is_rounds
from runtimes.errors import UserError
from runtimes.files import read_json
from runtimes.latency import summary_ms, throughput_ips
from runtimes.printable import printable
from runtimes.record_fields import KINDS
from runtimes.records import Measurement, Workload

ROUNDS = [[120_000 + 700 * i for i in range(20)], [118_000 + 900 * i * i for i in range(15)]]
ON_GPU = [[100_000 + 300 * i for i in range(20)], [99_000 + 100 * i for i in range(15)]]


def document(**changes):
    measured = Measurement(
        name="sparse",
        runtime="trt",
        runtime_version="10.3.0",
        device="orin",
        precision="fp16",
        batch=4,
        threads=1,
        protocol="quick",
        workload=Workload().to_json(),
        n=35,
        latency_ns=ROUNDS,
        latency_ms=summary_ms(ROUNDS),
        throughput_ips=throughput_ips(ROUNDS, 4),
        load_ms=20.0,
        first_inference_ms=2.0,
        memory_mb={"peak_rss": 400.0, "available_delta": -1.5, "engine": None, "reasons": {"engine": "not told"}},
        facts={"cores": 6, "clocks_mhz": {"before": [1510.4], "after": None}, "reasons": {"l4t": "no file"}},
        power_mw=5000.0,
        harness_overhead_ns=120.0,
        warnings=[],
        outputs={"file": "logits-trt-sparse.npy", "n": 360, "classes": 10, "sha256": "ab"},
        network_sha256="cd",
        bundle="7f3ac1",
        argv=["python3", "-m", "runtimes"],
        started_at="2026-01-01T00:00:00+00:00",
        top1=97.5,
        images=360,
        gpu_ns=ON_GPU,
        gpu_ms=summary_ms(ON_GPU),
        receipt={"verdict": "yes", "reason": "it says so", "tactics": [{"layer": "conv", "ms": 0.1}]},
        engine={"build": {"options": {"fp16": True}}},
        passes=[
            {"rounds": 1, "load_ms": 1.0, "first_inference_ms": 2.0, "peak_rss_mb": 60.5, "engine_sha256": None},
            {"rounds": 1, "load_ms": 1.0, "first_inference_ms": 2.0, "peak_rss_mb": None, "engine_sha256": "ef"},
        ],
        twin_ns=ROUNDS,
        power={
            "source": "ina3221",
            "scope": "module",
            "rails": {"VDD_IN": 5000.0},
            "mean_mw": 5000.0,
            "idle_mw": None,
            "samples": 2,
            "energy_mj": 0.6,
            "net_energy_mj": None,
        },
        watch={
            "source": "sysfs",
            "interval_s": 0.1,
            "rate_hz": 9.9,
            "overhead_cores": 0.001,
            "columns": {"at_s": [0.1, 0.2], "power_mw": [5000.0, None]},
        },
        settings={"power_mode": {"asked": "15W", "after": {"name": "15W", "id": 0}}, "clocks": None, "problems": []},
        reasons={"top1": "scored elsewhere"},
    )
    return {**copy.deepcopy(measured.to_json()), **changes}


def with_value(place, value):
    """The document with something else at `place`, as `facts.reasons`."""
    changed = document()
    *path, last = place.split(".")
    inner = changed
    for key in path:
        inner = inner[key]
    inner[last] = value
    return changed


def test_the_document_is_a_measurement():
    assert Measurement.from_json(document()).to_json() == document()


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("facts.reasons", ["a"]),
        ("facts.reasons", {"l4t": 7}),
        ("facts.x", math.nan),
        ("facts.x", math.inf),
        ("facts.x", 10**400),
        ("facts.stand_in", {"a": 1}),
        ("memory_mb.peak_rss", "lots"),
        ("memory_mb.available_delta", True),
        ("memory_mb.reasons", ["x"]),
        ("receipt", {}),
        ("receipt.verdict", "perhaps"),
        ("receipt.verdict", None),
        ("receipt.reason", ["x"]),
        ("settings.problems", 7),
        ("settings.problems", [7]),
        ("settings.power_mode", "x"),
        ("settings.power_mode.asked", 3),
        ("settings.clocks", 3),
        ("workload.headline", ["median"]),
        ("workload.headline", "p50"),
        ("workload.cpus", ["../0"]),
        ("workload.protocol", "../quick"),
        ("protocol", "../quick"),
        ("runtime", "a/b"),
        ("name", ""),
        ("name", "x" * 300),
        ("precision", "fp16\n"),
        ("outputs.file", "../logits.npy"),
        ("outputs.file", ".bashrc"),
        ("runtime_version", "1" * 300),
        ("started_at", 7),
        ("top1", 200.0),
        ("top1", -1),
        ("top1", math.nan),
        ("images", -1),
        ("power.scope", "x" * 100_000),
        ("power.rails", []),
        ("power.mean_mw", math.inf),
        ("watch.columns", {"at_s": [1.0], "power_mw": []}),
        ("watch.columns", {"at_s": [[1.0]]}),
        ("watch.source", None),
        ("passes", [{"rounds": 2}]),
        ("twin_ns", [[1.5]]),
        ("twin_ns", [[True]]),
        ("gpu_ns", [[-1]]),
        ("latency_ns", [[10**19]]),
        ("gpu_ms", {"median": 1.0}),
        ("warnings", [{"code": "x", "message": None}]),
        ("argv", "python3"),
        ("reasons", {"top1": None}),
        ("load_ms", 1e300),
        ("batch", 0),
        ("engine", [1]),
    ],
)
def test_a_field_of_another_kind_is_refused_by_its_name(place, value):
    with pytest.raises(UserError, match=f"m.json: not a measurement: {place.partition('.')[0]} "):
        Measurement.from_json(with_value(place, value), "m.json")


def test_every_field_has_a_kind():
    assert set(document()) - set(KINDS) == {"schema_version", "kind", "percentile_method"}


# --- summaries


def type_7(samples, percent):
    """By the standard library, which counts the same percentiles in another way."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1] / 1e6


def test_the_summaries_that_are_taken_are_those_of_type_7():
    samples = [value for timed in ROUNDS for value in timed]
    told = {"median": type_7(samples, 50), "p90": type_7(samples, 90), "p99": type_7(samples, 99)}
    told |= {"mean": statistics.fmean(samples) / 1e6, "min": min(samples) / 1e6, "max": max(samples) / 1e6}
    assert Measurement.from_json(document(latency_ms=told)).latency_ms == told
    assert Measurement.from_json(document(throughput_ips=4 * 35 / (sum(samples) / 1e9))).n == 35


@pytest.mark.parametrize("field", ["latency_ms", "gpu_ms"])
@pytest.mark.parametrize("key", ["median", "p90", "p99", "mean", "min", "max"])
@pytest.mark.parametrize("factor", [0.999, 1.001, 0.0])
def test_a_summary_that_is_not_its_samples_is_refused(field, key, factor):
    lie = document()[field] | {key: document()[field][key] * factor}
    with pytest.raises(UserError, match=f"{field}.{key} is not that of its samples"):
        Measurement.from_json(document(**{field: lie}))


@pytest.mark.parametrize(
    ("lie", "says"),
    [
        ({"throughput_ips": 1e6}, "throughput_ips is not that of its latencies"),
        ({"batch": 8}, "throughput_ips is not that of its latencies"),
        ({"n": 36}, "n is 36, which is not the number of its latencies"),
        ({"gpu_ns": None}, "gpu_ns and gpu_ms do not come together"),
        ({"gpu_ms": None}, "gpu_ns and gpu_ms do not come together"),
        ({"gpu_ns": [[]]}, "gpu_ns is empty"),
        ({"power_mw": 4000.0}, "power_mw is not that of power"),
        ({"power_mw": None}, "power_mw is not that of power"),
        ({"twin_ns": [[0, 0, 9]]}, "a round that took no time"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(lie, says):
    with pytest.raises(UserError, match=says):
        Measurement.from_json(document(**lie))


def test_numbers_that_were_printed_with_nine_digits_are_believed():
    rounded = {key: float(f"{value:.9g}") for key, value in document()["latency_ms"].items()}
    assert Measurement.from_json(document(latency_ms=rounded)).latency_ms == rounded


def test_passes_have_the_rounds_that_were_timed():
    one = document()["passes"][0]
    with pytest.raises(UserError, match="passes are not those of its latencies"):
        Measurement.from_json(document(passes=[one]))


def test_an_empty_engine_may_take_no_time():
    nothing = [[0] * 20, [0] * 15]
    told = {"latency_ns": nothing, "latency_ms": summary_ms(nothing), "throughput_ips": throughput_ips(nothing, 4)}
    assert Measurement.from_json(document(runtime="null", **told)).latency_ms["max"] == 0
    with pytest.raises(UserError, match="took no time"):
        Measurement.from_json(document(**told))


def test_no_function_of_ours_is_called_for_each_sample():
    """A million samples in each of four networks: a predicate for each is seconds."""
    generator = np.random.default_rng(0)
    rounds = generator.integers(100_000, 200_000, (10, 5000)).tolist()
    told = {"latency_ms": summary_ms(rounds), "throughput_ips": throughput_ips(rounds, 4), "n": 50_000}
    large = document(latency_ns=rounds, twin_ns=rounds, passes=[{**document()["passes"][0], "rounds": 10}], **told)
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        Measurement.from_json(large)
    finally:
        sys.setprofile(None)
    assert calls < 10_000


def test_rounds_are_lists_of_whole_numbers():
    assert is_rounds([[1, 2], []])
    for other in ([[1, 2.0]], [[1, True]], [[1, None]], [1], [(1, 2)], {"a": [1]}, [[-1]], [[10**30]]):
        assert not is_rounds(other)


# --- texts

ORDERS = "\x00\x07\x08\x1b[2J\x7f\x85\x9b\u061c\u200b\u200e\u202e\u2028\u2066\ud800\ufeff\U000e0041"


def test_texts_arrive_without_what_a_terminal_or_a_page_obeys():
    found = Measurement.from_json(
        document(
            runtime_version=f"10{ORDERS}",
            argv=["a\r\nb", ORDERS],
            facts={f"{ORDERS}key": [{"deep": ORDERS}], "reasons": {"x": ORDERS}},
        )
    )
    text = json.dumps(found.to_json(), ensure_ascii=False)
    assert not set(ORDERS.replace("[2J", "")) & set(text)
    assert found.argv[0] == "a b"
    text.encode("utf-8")


@given(st.text(st.characters()))
def test_what_is_printable_has_no_controls_of_any_kind_and_is_not_changed_again(text):
    shown = printable(text)
    assert {unicodedata.category(mark) for mark in shown} & {"Cc", "Cs", "Co", "Zl", "Zp"} <= ({"Cc"} & _tab(shown))
    assert printable(shown) == shown
    assert len(shown) <= len(text)


def _tab(shown):
    return {"Cc"} if {mark for mark in shown if unicodedata.category(mark) == "Cc"} == {"\t"} else set()


def test_plain_words_stay_as_they_are():
    for text in ("Orin Nano 8GB", "47.5 \N{DEGREE SIGN}C, 3 \N{MULTIPLICATION SIGN} 4", "Grüße", "日本語", "a\tb"):
        assert printable(text) == text


def test_a_long_text_is_cut():
    assert printable("x" * 5000) == "x" * 3997 + "..."


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(-1e18, 1e18) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_cleaning_leaves_numbers_alone_and_ends(content):
    cleaned = clean(content)
    assert clean(cleaned) == cleaned
    json.dumps(cleaned, allow_nan=False, ensure_ascii=False).encode("utf-8")
    assert _numbers(cleaned) == _numbers(content) or _collided(content)


def _numbers(content):
    if isinstance(content, dict):
        return [number for value in content.values() for number in _numbers(value)]
    if isinstance(content, list):
        return [number for value in content for number in _numbers(value)]
    return [content] if isinstance(content, (int, float)) else []


def _collided(content):
    """Whether two keys of a table become one: the later one counts."""
    if isinstance(content, list):
        return any(map(_collided, content))
    if not isinstance(content, dict):
        return False
    return len({printable(key, 200) for key in content}) < len(content) or any(map(_collided, content.values()))


def test_nesting_and_size_have_an_end():
    deep = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(UserError, match="facts is nested too deeply"):
        Measurement.from_json(document(facts={"x": deep}))
    with pytest.raises(UserError, match="facts holds too much"):
        Measurement.from_json(document(facts={"x": list(range(6000))}))
    with pytest.raises(UserError, match="engine holds too much"):
        Measurement.from_json(document(engine={"x": [0] * 200_000}))


@pytest.mark.parametrize("name", ["../a", "a/b", "", ".a", "-a", "a b", "a\n", "a" * 201, 7, None])
def test_a_name_that_could_lead_elsewhere_is_not_plain(name):
    assert not is_plain_name(name)


# --- files


@pytest.mark.parametrize("text", ['{"a": NaN}', "[Infinity]", "-Infinity", "[" * 100_000, '{"a": 1'])
def test_a_file_of_no_json_is_a_user_error(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json is not JSON"):
        read_json(tmp_path / "x.json")


def test_a_number_that_is_infinite_once_read_is_refused(tmp_path):
    text = json.dumps(document()).replace('"cores": 6', '"cores": 1e999')
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(UserError, match="facts holds a number that is none, or too large"):
        Measurement.read(tmp_path / "m.json")
