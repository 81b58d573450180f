"""Workloads and measurements: what their documents hold, and what happens to damaged ones."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import UserError
from runtimes.records import PROTOCOLS, Doubt, Measurement, Workload

MEASUREMENT = Measurement(
    name="sparse",
    runtime="ort",
    runtime_version="1.19.2",
    device=None,
    precision="fp32",
    batch=1,
    threads=1,
    protocol="quick",
    workload=Workload().to_json(),
    n=3,
    latency_ns=[[10, 20], [30]],
    latency_ms={"median": 2e-5, "p90": 2.8e-5, "p99": 2.98e-5, "mean": 2e-5, "min": 1e-5, "max": 3e-5},
    throughput_ips=5e7,
    load_ms=1.0,
    first_inference_ms=2.0,
    memory_mb={"peak_rss": 60.5, "engine": None, "reasons": {"engine": "the runtime does not say"}},
    facts={"cores": 2, "affinity": [0, 1], "load_average": {"before": [0.1, 0.2, 0.3], "after": None}},
    power_mw=None,
    harness_overhead_ns=120.0,
    warnings=[Doubt("drift", "it moved")],
    outputs={"file": "logits-ort-sparse.npy", "n": 360, "classes": 10, "sha256": "ab"},
    network_sha256="cd",
    bundle="7f3ac1",
    argv=["python3", "-m", "runtimes"],
    started_at="2026-01-01T00:00:00+00:00",
    reasons={"power_mw": "no rail"},
)
NEWER = {"passes", "twin_ns", "power", "watch", "settings"}  # documents of the first edgeprune have none of them
OPTIONAL = {"device", "power_mw", "outputs", "top1", "images", "reasons", "gpu_ns", "gpu_ms", "receipt", "engine"}
POWERED = replace(
    MEASUREMENT,
    passes=[
        {"rounds": 1, "load_ms": 1.0, "first_inference_ms": 2.0, "peak_rss_mb": 60.5, "engine_sha256": None},
        {"rounds": 1, "load_ms": 1.0, "first_inference_ms": 2.0, "peak_rss_mb": None, "engine_sha256": "ef"},
    ],
    twin_ns=[[11, 21], [31]],
    power_mw=5000.0,
    power={
        "source": "ina3221",
        "scope": "module",
        "rails": {"VDD_IN": 5000.0},
        "mean_mw": 5000.0,
        "idle_mw": None,
        "samples": 2,
        "energy_mj": 1e-4,
        "net_energy_mj": None,
    },
    watch={
        "source": "sysfs",
        "interval_s": 0.1,
        "rate_hz": 9.9,
        "overhead_cores": 0.001,
        "columns": {"at_s": [0.1, 0.2], "power_mw": [5000.0, None], "temperature_c": [-1.5, 2e-5]},
    },
    settings={"power_mode": {"asked": "15W", "before": "25W", "after": "15W"}, "clocks": None},
)


def test_a_measurement_survives_the_file(tmp_path):
    scored = replace(MEASUREMENT, device="local", top1=97.5, images=360)
    scored.write(tmp_path / "ort-sparse.json")
    assert Measurement.read(tmp_path / "ort-sparse.json") == scored


def test_power_passes_and_twin_survive_the_file_with_each_list_of_numbers_on_a_line(tmp_path):
    POWERED.write(tmp_path / "m.json")
    assert Measurement.read(tmp_path / "m.json") == POWERED
    assert '"temperature_c": [-1.5, 2e-05]' in (tmp_path / "m.json").read_text()
    assert '"power_mw": [5000.0, null]' in (tmp_path / "m.json").read_text()


def test_a_document_of_the_first_edgeprune_is_read():
    old = {name: value for name, value in MEASUREMENT.to_json().items() if name not in NEWER}
    found = Measurement.from_json(old)
    assert found == MEASUREMENT
    assert (found.passes, found.twin_ns, found.power, found.watch, found.settings) == ([], None, None, None, None)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("passes", [{"rounds": 0, "load_ms": 1.0, "first_inference_ms": 2.0, "peak_rss_mb": 1.0, "engine_sha256": ""}]),
        ("passes", [{"rounds": 1}]),
        ("twin_ns", [[1.5]]),
        ("power", {**POWERED.power, "mean_mw": None}),
        ("power", {**POWERED.power, "rails": {"VDD_IN": "much"}}),
        ("watch", {**POWERED.watch, "columns": {"at_s": [1.0], "power_mw": []}}),
        ("watch", {**POWERED.watch, "rate_hz": -1}),
        ("settings", "15W"),
    ],
)
def test_damaged_power_passes_and_twins_are_a_user_error(name, damage):
    with pytest.raises(UserError, match=f"not a measurement: {name} is"):
        Measurement.from_json(POWERED.to_json() | {name: damage})


def test_the_document_keeps_raw_latencies_one_round_a_line(tmp_path):
    MEASUREMENT.write(tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    assert "[10, 20],\n" in text
    assert json.loads(text) == json.loads(json.dumps(MEASUREMENT.to_json()))


@pytest.mark.parametrize("name", [entry.name for entry in fields(Measurement) if entry.name not in OPTIONAL | NEWER])
@pytest.mark.parametrize("damage", ["missing", "other"])
def test_damaged_content_is_a_user_error(name, damage):
    document = MEASUREMENT.to_json()
    document[name] = object()
    if damage == "missing":
        del document[name]
    with pytest.raises(UserError, match=f"m.json: not a measurement: {name}"):
        Measurement.from_json(document, "m.json")


@pytest.mark.parametrize(
    "content", [None, [], {}, "text", {"kind": "edgeprune.report"}, MEASUREMENT.to_json() | {"n": 4}]
)
def test_something_else_is_a_user_error(content):
    with pytest.raises(UserError, match="not a measurement"):
        Measurement.from_json(content)


def test_another_schema_version_is_named():
    with pytest.raises(UserError, match="schema_version 2"):
        Measurement.from_json(MEASUREMENT.to_json() | {"schema_version": 2})


def test_a_truncated_file_is_a_user_error(tmp_path):
    MEASUREMENT.write(tmp_path / "m.json")
    (tmp_path / "m.json").write_text((tmp_path / "m.json").read_text()[:200])
    with pytest.raises(UserError, match=r"m\.json is not JSON"):
        Measurement.read(tmp_path / "m.json")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_survives_json(protocol):
    assert Workload.from_json(json.loads(json.dumps(PROTOCOLS[protocol].to_json()))) == PROTOCOLS[protocol]
    assert PROTOCOLS[protocol].protocol == protocol


def test_a_protocol_changes_durations_and_leaves_the_rest():
    mine = Workload(batch=8, threads=2, cpus=(1, 3), accuracy=False, rounds=3, passes=9)
    asked = {"batch": 8, "threads": 2, "cpus": (1, 3), "accuracy": False}
    for name in PROTOCOLS:
        assert mine.changed(protocol=name) == replace(PROTOCOLS[name], **asked)
    assert mine.changed(protocol="standard", rounds=2).rounds == 2


def test_quick_is_quick():
    """Four networks of 1 ms and a twin: idling, rounds, their settling and the warm-up take well under 20 s."""
    quick = PROTOCOLS["quick"]
    seconds = quick.passes * (quick.idle_s + 5 * (quick.warmup_s + quick.rounds * quick.round_s * 1.1))
    assert seconds < 15
    assert quick.passes * quick.rounds * quick.round_s / 0.001 >= quick.min_samples


def test_mlperf_like_times_600_seconds_of_single_stream_and_quotes_p90():
    work = PROTOCOLS["mlperf-like"]
    assert work.passes * work.rounds * work.round_s == 600
    assert (work.batch, work.headline) == (1, "p90")
    assert work.min_samples == 1024


def test_processors_are_a_set_of_numbers_whatever_json_makes_of_them():
    assert Workload.from_json({"cpus": [6, 0, 6]}).cpus == (0, 6)


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 0},
        {"batch": True},
        {"rounds": 1.5},
        {"round_s": -1},
        {"timeout_s": 0},
        {"accuracy": 1},
        {"max_samples": 11},
        {"passes": 0},
        {"builds": 0},
        {"idle_s": -1},
        {"sample_s": 0.001},
        {"headline": "p99"},
        {"cpus": [-1]},
        {"cpus": "0-3"},
    ],
)
def test_a_value_out_of_range_is_a_user_error(change):
    with pytest.raises(UserError, match=f"workload: {next(iter(change))} is"):
        Workload().changed(**change)


def test_an_unknown_field_or_protocol_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'threads'"):
        Workload.from_json({"thread": 2})
    with pytest.raises(UserError, match="did you mean 'quick'"):
        Workload().changed(protocol="quik")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_content_makes_anything_but_a_user_error(content):
    with pytest.raises(UserError):
        Measurement.from_json(content)
