"""`compare A B`: in turns, apart, and what is refused; what is claimed of two sessions that differ."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import run_folder as made

from edgeprune.comparing import compare_runs, named
from edgeprune.report import wording
from edgeprune.report.pairs import FORMATS, to_json, to_markdown, to_text
from runtimes.errors import UserError
from runtimes.files import sha256, write_json


def text_of(compared):
    return to_text(compared).replace(wording.SPACE, " ")


def session(
    folder: Path, speeds: dict[str, float], factor: float = 1.0, seed: int = 0, passes: int = 3, twin=True, **changes
):
    """A run folder with one call's measurements on a board; every time in it is `factor` times what it would be."""
    write_json(folder / "run.json", {"command": ["edgeprune"]})
    write_json(folder / "3-export/manifest.json", made.manifest())
    for number, (name, median) in enumerate(speeds.items()):
        rounds = 6 * passes
        timed = made.latencies(median * factor, seed * 10 + number, rounds=rounds)
        twins = made.latencies(median * factor, seed * 10 + number + 5, rounds=rounds) if name == "dense" else None
        values = {"passes": made.PASSES[:1] * passes, "bundle": f"{seed:06d}", "twin_ns": twins if twin else None}
        made.put(folder, made.on_board(name, median, latency_ns=timed, **{**values, **changes}))
    return folder


@pytest.fixture
def first(tmp_path):
    return session(tmp_path / "first", {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}, seed=1)


def the_pair(a, b):
    (pair,) = compare_runs(str(a), str(b)).pairs
    return pair


# --- in turns


def test_two_networks_of_one_call_are_compared_round_by_round_as_in_the_report(boards):
    found = {pair.device: pair for pair in compare_runs(f"{boards}:dense", str(boards)).pairs}
    assert set(found) == {"local", "orin-nano", "pi@10.0.0.7", "emulated"}
    orin = found["orin-nano"]
    assert (orin.together, orin.verdict, orin.passes, orin.rounds) == (True, "faster", 3, 18)
    assert orin.latency_ratio == pytest.approx(0.52 / 0.84, rel=0.01)
    assert orin.noise_floor_of == ("dense",)
    assert 0 < orin.noise_floor < 0.05
    assert orin.uses_zeros == "yes"


def test_the_other_way_round_gives_the_inverse(boards):
    there = compare_runs(f"{boards}:dense", f"{boards}:sparse").pairs[1]
    back = compare_runs(f"{boards}:sparse", f"{boards}:dense").pairs[1]
    assert back.latency_ratio == pytest.approx(1 / there.latency_ratio)
    assert back.top1_difference == -there.top1_difference
    assert (there.verdict, back.verdict) == ("faster", "slower")


def test_a_stand_in_is_compared_by_its_answers_alone(boards):
    (pair,) = [pair for pair in compare_runs(f"{boards}:dense", str(boards)).pairs if pair.stand_in]
    assert (pair.latency_ratio, pair.latency_ratio_interval, pair.verdict) == (None, None, "not known")
    assert "stood in" in pair.reason
    assert pair.top1_difference == pytest.approx(-100 * 2 / 360)
    assert {figure.key for figure in pair.figures if figure.value is not None} == {
        "top1",
        "size_bytes.onnx",
        "size_bytes.compressed",
    }
    assert "stand-in: emulated by qemu-aarch64" in text_of(compare_runs(f"{boards}:dense", str(boards)))


# --- apart


def test_two_sessions_with_a_common_network_are_judged_by_what_it_lies_from_itself(first, tmp_path):
    """The second session is 10 % slower throughout: teacher and dense show that, so that only the sparse one's halving
    of its time is believed."""
    second = session(tmp_path / "second", {"teacher": 3.0, "dense": 1.0, "sparse": 0.5}, factor=1.1, seed=2)
    pair = the_pair(first, second)
    assert not pair.together
    assert pair.verdict == "faster"
    assert pair.latency_ratio == pytest.approx(0.55, rel=0.01)
    assert pair.noise_floor == pytest.approx(0.1, abs=0.03)
    assert pair.noise_floor_of == ("dense", "teacher")


def test_what_the_sessions_differ_by_is_not_claimed_for_the_network(first, tmp_path):
    second = session(tmp_path / "second", {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}, factor=0.8, seed=2)
    pair = the_pair(first, second)
    assert pair.latency_ratio == pytest.approx(0.8, rel=0.01)
    assert pair.latency_ratio_interval[1] < 0.9, "by itself the interval would be a claim"
    assert pair.verdict == "within noise"


def test_the_worst_of_several_witnesses_counts(first, tmp_path):
    second = session(tmp_path / "second", {"teacher": 4.5, "dense": 1.0, "sparse": 0.8}, seed=2)
    pair = the_pair(first, second)
    assert pair.noise_floor == pytest.approx(0.5, abs=0.05)
    assert pair.verdict == "within noise"


def test_without_a_common_network_the_verdict_is_not_known(first, tmp_path):
    second = session(tmp_path / "second", {"sparse": 0.5}, seed=2)
    pair = the_pair(first, second)
    assert pair.verdict == "not known"
    assert "no other network was measured in both sessions" in pair.reason
    assert pair.latency_ratio == pytest.approx(0.5, rel=0.01)
    assert pair.latency_ratio_interval is not None
    assert "not known whether faster: they were measured apart" in text_of(compare_runs(str(first), str(second)))


def test_a_network_of_another_file_is_no_witness(first, tmp_path):
    second = session(tmp_path / "second", {"dense": 1.0, "sparse": 0.5}, seed=2)
    manifest = made.manifest()
    manifest["networks"]["dense"]["sha256"] = made.sha("another")
    write_json(second / "3-export/manifest.json", manifest)
    made.put(second, made.on_board("dense", 1.0, bundle="000002", network_sha256=made.sha("another")))
    assert the_pair(first, second).verdict == "not known"


@pytest.mark.parametrize(("passes", "known"), [((1, 1), False), ((3, 1), False), ((1, 2), False), ((2, 3), True)])
def test_one_pass_does_not_know_what_a_new_process_changes(tmp_path, passes, known):
    speeds = {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}
    a = session(tmp_path / "a", speeds, seed=1, passes=passes[0])
    b = session(tmp_path / "b", {**speeds, "sparse": 0.3}, seed=2, passes=passes[1])
    pair = the_pair(a, b)
    assert (pair.verdict == "faster", pair.noise_floor is not None) == (known, known)
    assert known or "what a new process changes" in pair.reason


def test_a_witness_is_enough_of_a_floor_without_a_twin(tmp_path):
    speeds = {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}
    a = session(tmp_path / "a", speeds, seed=1, twin=False)
    b = session(tmp_path / "b", {**speeds, "sparse": 0.5}, seed=2, twin=False)
    assert the_pair(a, b).verdict == "faster"


def test_passes_that_drift_raise_the_floor(tmp_path):
    speeds = {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}
    a = session(tmp_path / "a", speeds, seed=1)
    b = session(tmp_path / "b", {**speeds, "sparse": 0.5}, seed=2)
    drifting = [[int(value * (1 + 0.3 * (number // 6))) for value in timed] for number, timed in
                enumerate(made.latencies(0.5, 3, rounds=18))]  # fmt: skip
    made.put(b, made.on_board("sparse", 0.5, bundle="000002", latency_ns=drifting))
    pair = the_pair(a, b)
    assert pair.noise_floor == pytest.approx(0.6, abs=0.03)


def test_the_same_network_in_two_sessions_that_differ_is_hardly_ever_called_different(tmp_path):
    """Twelve pairs of sessions, each with a speed of its own."""
    rng, claims = np.random.default_rng(4), []
    for number in range(6):
        speeds = {"teacher": 3.0, "dense": 1.0, "sparse": 1.0}
        a = session(tmp_path / f"a{number}", speeds, float(np.exp(rng.normal(0, 0.05))), seed=10 + 2 * number)
        b = session(tmp_path / f"b{number}", speeds, float(np.exp(rng.normal(0, 0.05))), seed=11 + 2 * number)
        claims += [the_pair(a, b).verdict, the_pair(f"{a}:dense", f"{b}:sparse").verdict]
    assert sum(claim in ("faster", "slower") for claim in claims) <= 1


def test_what_differs_beside_the_networks_is_told(first, tmp_path):
    facts = {**made.BOARD, "power_mode": {"name": "MAXN", "id": 2}, "jetpack": "6.2"}
    speeds = {"dense": 1.0, "sparse": 0.5}
    second = session(tmp_path / "second", speeds, seed=2, facts=facts, runtime_version="10.7.0", settings=None)
    told = " ".join(the_pair(first, second).differences)
    assert "Power mode: 15W (number 0) against MAXN (number 2)" in told
    assert "Runtime version: 10.3.0 against 10.7.0" in told
    assert "Processor" not in told
    assert "Not the same in both measurements: " in text_of(compare_runs(str(first), str(second)))


# --- accuracy


def answered(run, name, classes, top1, bundle="a1b2c3"):
    """Logits whose largest value is at `classes`, and the measurement that names them."""
    logits = np.zeros((len(classes), 10), dtype=np.float32)
    logits[np.arange(len(classes)), classes] = 1
    path = run / f"5-measure/orin-nano/logits-trt-{name}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, logits)
    outputs = {"file": path.name, "n": len(classes), "classes": 10, "sha256": sha256(path)}
    made.put(run, made.on_board(name, 1.0, outputs=outputs, top1=top1, images=len(classes), bundle=bundle))
    return path


def test_answers_that_differ_in_few_images_make_a_small_difference_significant(boards):
    """200 images: 9 answers differ, and all 9 of them were right before; independent draws would not have seen it."""
    dense = np.arange(200) % 10
    sparse = dense.copy()
    sparse[:9] = (sparse[:9] + 1) % 10
    answered(boards, "dense", dense, 99.0)
    path = answered(boards, "sparse", sparse, 94.5)
    pair = compare_runs(f"{boards}:dense", str(boards)).pairs[1]
    assert (pair.differing_answers, pair.images) == (9, 200)
    assert pair.top1_p_value_at_most == pytest.approx(2 / 2**9)
    assert pair.top1_difference_standard_error < 100 * np.sqrt(0.99 * 0.01 / 200 + 0.945 * 0.055 / 200)
    path.write_bytes(b"something else")
    pair = compare_runs(f"{boards}:dense", str(boards)).pairs[1]
    assert (pair.differing_answers, pair.top1_p_value_at_most) == (None, None)
    assert pair.top1_difference == pytest.approx(-4.5)


def test_answers_of_two_runs_pair_where_the_bundles_hold_the_same_images(boards, tmp_path):
    other = made.build_boards(tmp_path / "other")
    classes = np.arange(200) % 10
    answered(boards, "sparse", classes, 95.0)
    answered(other, "sparse", classes, 95.0, bundle="b00b1e")
    images = {"files": ["inputs/0000.npy"], "n": 200, "preprocess": {"scale": 1.0}}

    def bundle(run, name, digest):
        files = {"inputs/0000.npy": digest, "model.onnx": name}
        write_json(run / f"4-compile/{name}/bundle/manifest.json", {"id": name, "inputs": images, "files": files})

    def differing():
        pairs = compare_runs(str(boards), str(other)).pairs
        return next(pair.differing_answers for pair in pairs if pair.device == "orin-nano")

    assert differing() is None
    bundle(boards, "a1b2c3", "11")
    bundle(other, "b00b1e", "22")
    assert differing() is None
    bundle(other, "b00b1e", "11")
    assert differing() == 0


# --- what is named, and what is refused


def test_a_lower_precision_pairs_with_the_same_precision_and_names_pick_one(boards):
    pairs = compare_runs(f"{boards}:teacher", f"{boards}:pruned").pairs
    assert [(pair.device, pair.a, pair.b) for pair in pairs] == [("local", "teacher", "pruned")]


def test_settings_of_one_side_only_are_named(first, boards):
    compared = compare_runs(f"{boards}:teacher", str(boards))
    assert [pair.device for pair in compared.pairs] == ["local"]
    assert len(compared.alone) == 3
    assert "sparse on orin-nano" in " ".join(compared.alone)
    assert "measured on one side only" in text_of(compared)


def test_a_folder_that_is_there_counts_before_a_colon(tmp_path):
    (tmp_path / "a:b").mkdir()
    assert named(str(tmp_path / "a:b")) == (tmp_path / "a:b", "sparse")
    assert named(str(tmp_path / "a:b:dense")) == (tmp_path / "a:b", "dense")
    assert named("runs/x:sparse-int8") == (Path("runs/x"), "sparse-int8")
    assert named("runs/x") == (Path("runs/x"), "sparse")


def test_two_networks_of_their_own_roles_and_precisions_pair(tmp_path):
    """What `compare --device` leaves: networks `a` and `b`, here in two precisions."""
    manifest, networks = made.manifest(), {}
    for name, like, precision in (("a", "dense", "fp16"), ("b", "sparse", "int8")):
        networks[name] = {**manifest["networks"][like], "network": name, "precision": precision}
        networks[name]["sha256"] = made.sha(name)
        twin = made.latencies(1.0, 9, rounds=18) if name == "a" else None
        measured = made.on_board(like, 1.0, precision=precision, network_sha256=made.sha(name), twin_ns=twin)
        made.put(tmp_path, replace(measured, name=name))
    write_json(tmp_path / "3-export/manifest.json", {**manifest, "networks": networks})
    pair = the_pair(f"{tmp_path}:a", f"{tmp_path}:b")
    assert (pair.together, pair.noise_floor_of, pair.verdict) == (True, ("a",), "within noise")
    assert pair.differences == ("Precision: fp16 against int8",)


@pytest.mark.parametrize(
    ("a", "says"),
    [("nowhere", "not a run folder"), ("{run}:nothing", "has no measurement of 'nothing'")],
)
def test_folders_and_networks_that_are_not_there_are_the_users_errors(run, a, says):
    with pytest.raises(UserError, match=says):
        compare_runs(a.format(run=run), str(run))


def test_runs_that_share_no_setting_are_the_users_error(run, first):
    with pytest.raises(UserError, match="share no device, runtime and workload") as caught:
        compare_runs(str(run), str(first))
    assert "sparse on local" in caught.value.message
    assert "sparse on orin-nano" in caught.value.message


def test_a_workload_that_differs_in_nothing_one_sees_is_told_by_its_fields(first, tmp_path):
    workload = {**made.on_board("dense", 1.0).workload, "rounds": 99, "warmup_s": 7}
    second = session(tmp_path / "second", {"sparse": 1.0}, seed=2, workload=workload)
    with pytest.raises(UserError, match="not the same in the workload on orin-nano: warmup_s, rounds"):
        compare_runs(str(first), str(second))


def test_power_that_covers_something_else_is_not_set_beside_it(first, tmp_path):
    second = session(tmp_path / "second", {"dense": 1.0, "sparse": 0.5}, seed=2)
    other = replace(
        made.on_board("sparse", 0.5, bundle="000002", power_mw=2000.0),
        power={**made.power(2000.0, 0.5), "scope": "package"},
    )
    made.put(second, other)
    power = {figure.key: figure for figure in the_pair(first, second).figures}["power.mean_mw"]
    assert (power.value, power.baseline) == (2000.0, None)
    assert power.scope == "processor package: VDD_IN"


# --- what is printed


def test_every_format_tells_every_pair(boards):
    compared = compare_runs(f"{boards}:dense", str(boards))
    content = json.loads(to_json(compared))
    assert (content["schema_version"], content["kind"]) == (1, "edgeprune.comparison")
    assert content == json.loads(json.dumps({**asdict(compared), "schema_version": 1, "kind": content["kind"]}))
    for render in FORMATS.values():
        text = render(compared)
        assert all(pair.device.split("@")[0] in text for pair in compared.pairs)
    markdown = to_markdown(compared)
    tables = [part.splitlines() for part in markdown.split("\n\n") if part.startswith("|")]
    assert len(tables) == len(compared.pairs)
    assert {line.count("|") for table in tables for line in table} == {5}
    assert f"{wording.TIMES} 0.170" in markdown
    assert "seed 0" in markdown


def test_a_hostile_device_name_stays_text_in_markdown(first):
    for name in ("dense", "sparse"):
        made.put(first, made.on_board(name, 1.0, device="<b>|x", facts={**made.BOARD, "power_mode": None}))
    (first / "5-measure/<b>|x").rename(first / "5-measure/x")
    markdown = to_markdown(compare_runs(f"{first}:dense", str(first)))
    assert "<b>" not in markdown
    assert "&lt;b&gt;\\|x" in markdown
