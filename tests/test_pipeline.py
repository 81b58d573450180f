"""The whole of it: one run from recipe to report, killed and resumed, counted again from outside, and verb by verb."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from processes import call
from safetensors.numpy import load_file
from toys import files, image_folder, synthetic
from whole_run import Run, quickstart, stamps, succeed

from devices import DEVICES

PAIR = ("dense", "model")
NETWORKS = {"teacher": "teacher.onnx", "dense": "dense.onnx", "pruned": "pruned.onnx", "sparse": "model.onnx"}


@pytest.fixture
def own(whole: Run, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    for name, content in files(whole.folder).items():
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "run"


# --- what a run leaves


def test_a_run_leaves_every_step_finished_and_a_complete_report(whole: Run) -> None:
    steps = ("0-teacher", "1-prune", "2-retrain", "3-export", "4-compile", "5-measure", "6-report")
    assert [step for step in steps if not (whole.folder / step / "completed.json").is_file()] == []
    report = whole.json("6-report/report.json")
    assert report["schema_version"] == 1
    assert report["missing"] == []
    measured = [(row["runtime"], row["name"]) for row in report["rows"]]
    assert measured == [(runtime, name) for runtime in ("ort", "sparse_cpu") for name in NETWORKS]
    for row in report["rows"]:
        assert (row["device"], row["precision"]) == ("local", "fp32")
        assert (row["batch"], row["threads"], row["images"]) == (1, 1, 128)
        assert 0 < row["latency_ms"]["median"] <= row["latency_ms"]["p90"] <= row["latency_ms"]["p99"]
        assert all(size > 0 for size in row["size_bytes"].values())
    by_name = {row["name"]: row for row in report["rows"] if row["runtime"] == "ort"}
    ours = {row["name"]: row for row in report["rows"] if row["runtime"] == "sparse_cpu"}
    assert {name: row["top1"] for name, row in ours.items()} == {name: row["top1"] for name, row in by_name.items()}
    assert [each["name"] for each in report["across"]] == list(NETWORKS), "which runtime won, for each network"
    assert by_name["dense"]["zeros"] == by_name["teacher"]["zeros"] == 0
    assert by_name["sparse"]["zeros"] == by_name["pruned"]["zeros"] == round(0.9 * by_name["sparse"]["weights"])
    assert by_name["sparse"]["sparsity_paper"] < by_name["sparse"]["sparsity"] == pytest.approx(0.9, abs=1e-5)
    assert "6-report/report.html" in files(whole.folder)


def test_the_histories_are_those_of_the_trainings(whole: Run) -> None:
    for name in ("0-teacher/teacher.history.json", "0-teacher/dense.history.json", "2-retrain/history.json"):
        assert [row["epoch"] for row in whole.json(name)] == [1, 2]
    scoring = whole.json("1-prune/scoring.json")
    assert len(scoring["guide_loss"]) == 7, "one epoch of 230 images in batches of 32"
    assert scoring["mask_sha256"] == whole.json("3-export/manifest.json")["mask_sha256"]


def test_no_file_is_left_half_written(whole: Run) -> None:
    assert unfinished(whole.folder) == []


def unfinished(folder: Path) -> list[str]:
    odd = (".tmp", ".partial", ".old", ".checkpoint", "results-on-the-way")
    return [str(path) for path in folder.rglob("*") if path.name.endswith(odd)]


def test_a_second_call_does_nothing(whole: Run, tmp_path: Path) -> None:
    before = stamps(whole.folder)
    _, err = succeed(*quickstart(whole.folder), says=tmp_path)
    assert err.count("already done") == 7
    assert stamps(whole.folder) == before


# --- counted again from outside


def initializers(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_model(path).graph.initializer}


@pytest.mark.parametrize("network", ["pruned", "sparse"])
def test_every_masked_weight_is_zero_in_the_file_and_the_report_counts_the_same(network: str, whole: Run) -> None:
    masks = load_file(whole.folder / "1-prune" / "masks.safetensors")
    weights = initializers(whole.folder / "3-export" / NETWORKS[network])
    manifest = whole.json("3-export/manifest.json")["networks"][network]
    told = {layer["name"]: layer for layer in manifest["layers"]}
    for name, mask in masks.items():
        weight = weights[f"{name}.weight"]
        assert weight.shape == mask.shape
        assert not weight[mask == 0].any()
        assert told[name]["masked"] == int((mask == 0).sum())
        assert told[name]["zeros"] == int((weight == 0).sum())
        assert told[name]["weights"] == weight.size
    row = next(row for row in whole.json("6-report/report.json")["rows"] if row["name"] == network)
    assert row["zeros"] == sum(int((weights[f"{name}.weight"] == 0).sum()) for name in masks)
    assert row["weights"] == sum(mask.size for mask in masks.values())
    assert row["size_bytes"]["onnx"] == (whole.folder / "3-export" / NETWORKS[network]).stat().st_size


@pytest.mark.parametrize("network", NETWORKS)
def test_top1_recomputed_from_the_file_is_the_reports_exactly(network: str, whole: Run) -> None:
    test = synthetic().test
    form = whole.json("3-export/manifest.json")["input"]["preprocess"]
    pixels = test.images(np.arange(len(test))).astype(np.float32) * np.float32(form["scale"])
    images = (pixels - np.float32(form["mean"])) / np.float32(form["std"])
    session = onnxruntime.InferenceSession(whole.folder / "3-export" / NETWORKS[network])
    (logits,) = session.run(["logits"], {"input": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})
    row = next(row for row in whole.json("6-report/report.json")["rows"] if row["name"] == network)
    assert row["top1"] == 100.0 * (logits.argmax(axis=1) == test.labels).mean()
    assert row["images"] == len(test)


def test_the_file_says_what_it_is(whole: Run) -> None:
    model = onnx.load_model(whole.folder / "3-export" / "model.onnx")
    told = {entry.key: entry.value for entry in model.metadata_props}
    manifest = whole.json("3-export/manifest.json")
    assert told["edgeprune.mask_sha256"] == manifest["mask_sha256"]
    assert json.loads(told["edgeprune.classes"]) == manifest["classes"] == ["ada", "bel", "cyd", "dot"]
    assert json.loads(told["edgeprune.preprocess"]) == manifest["input"]["preprocess"]
    assert told["edgeprune.pattern"] == "unstructured"
    assert float(told["edgeprune.sparsity"]) == pytest.approx(0.9, abs=1e-5)
    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


# --- killed and resumed


def outcome(folder: Path) -> dict[str, object]:
    """What must not depend on interruptions: masks, weights and files bit by bit, and what they score."""
    made = files(folder)
    fixed = {name: made[name] for name in made if name.endswith((".safetensors", ".onnx"))}
    scores = {row["name"]: row["top1"] for row in json.loads(made["6-report/report.json"])["rows"]}
    mask = json.loads(made["3-export/manifest.json"])["mask_sha256"]
    histories = [json.loads(made[name]) for name in sorted(made) if name.endswith("history.json")]
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in history] for history in histories]
    return {**fixed, "top1": scores, "mask": mask, "histories": timeless}


def test_a_run_killed_three_times_ends_like_the_one_that_was_not(whole: Run, tmp_path: Path) -> None:
    delays = np.random.RandomState(7).uniform(0.02, whole.seconds / 3, 3)
    killed = [call(*quickstart(tmp_path / "run"), says=tmp_path / "says").kill(after) for after in delays]
    assert any(killed)
    succeed(*quickstart(tmp_path / "run"), says=tmp_path / "says")
    assert outcome(tmp_path / "run") == outcome(whole.folder)
    assert unfinished(tmp_path / "run") == []


@pytest.mark.slow
@pytest.mark.parametrize("tenth", range(10))
def test_a_run_killed_anywhere_ends_like_the_one_that_was_not(tenth: int, whole: Run, tmp_path: Path) -> None:
    """Ten random points, one in each tenth of the time that an uninterrupted run takes."""
    after = whole.seconds * (tenth + np.random.RandomState(tenth).random()) / 10
    call(*quickstart(tmp_path / "run"), says=tmp_path / "says").kill(after)
    succeed(*quickstart(tmp_path / "run"), says=tmp_path / "says")
    assert outcome(tmp_path / "run") == outcome(whole.folder)
    assert unfinished(tmp_path / "run") == []


# --- verbs on a run


def test_another_target_gets_a_folder_of_its_own(own: Path, tmp_path: Path) -> None:
    before = files(own)
    out, _ = succeed("export", own, "--target", "jetson-orin", says=tmp_path)
    after = files(own)
    assert {name: after[name] for name in before} == before, "nothing that was there is touched"
    new = {name.rpartition("/bundle/")[0] or name for name in after if name not in before}
    written = [*NETWORKS.values(), "manifest.json", *(f"{name}.{p}.onnx" for name in PAIR for p in ("fp16", "int8"))]
    assert new == {"4-compile/jetson-orin", *(f"3-export/jetson-orin/{name}" for name in written)}
    assert json.loads(after["3-export/jetson-orin/manifest.json"])["target"] == "jetson-orin"
    *told, _ = out.splitlines()
    assert sorted(Path(line).name for line in told) == sorted(written)
    masks = load_file(own / "1-prune" / "masks.safetensors")
    weights = initializers(own / "3-export" / "jetson-orin" / "model.onnx")
    assert not any(weights[f"{name}.weight"][mask == 0].any() for name, mask in masks.items())


def test_exporting_again_gives_the_same_bytes_and_keeps_other_targets(own: Path, tmp_path: Path) -> None:
    kept = own / "3-export" / "jetson-orin" / "model.onnx"
    kept.parent.mkdir()
    kept.write_bytes(b"of another target")
    before = {name: (own / "3-export" / name).read_bytes() for name in NETWORKS.values()}
    succeed("export", own, says=tmp_path)
    assert {name: (own / "3-export" / name).read_bytes() for name in NETWORKS.values()} == before
    assert kept.read_bytes() == b"of another target"


def test_measuring_otherwise_stays_measured_and_is_reported(own: Path, tmp_path: Path) -> None:
    """`measure` and then `run`: the second must not measure again over what the first was asked for."""
    out, _ = succeed("measure", own, "--runtime", "null", "--batch", "2", says=tmp_path)
    assert sorted(Path(line).name for line in out.splitlines()) == sorted(
        f"null-{name}-b2-t1-quick.json" for name in NETWORKS
    )
    changed = own / "5-measure" / "local" / "ort-sparse.json"
    measured = json.loads(changed.read_text())
    assert measured["batch"] == 1, "what is not measured again stays"
    stamp = changed.stat().st_mtime_ns
    _, err = succeed("run", own / "recipe.toml", "--out", own, says=tmp_path)
    assert "measure: already done" in err
    assert changed.stat().st_mtime_ns == stamp
    rows = json.loads((own / "6-report" / "report.json").read_text())["rows"]
    assert {(row["runtime"], row["batch"]) for row in rows} == {("ort", 1), ("sparse_cpu", 1), ("null", 2)}
    assert all(row["top1"] is None for row in rows if row["runtime"] == "null"), "no answers, no score"


def test_an_unknown_device_is_told_and_what_was_measured_stays(own: Path, tmp_path: Path) -> None:
    before = files(own)
    code, out, err = call("measure", own, "--device", "loca", says=tmp_path / "says").wait()
    assert (code, out) == (2, "")
    message, hint = err.splitlines()[-2:]
    assert message == "error: unknown device 'loca'"
    known = ", ".join(sorted(DEVICES))
    assert hint.startswith(f"hint: did you mean 'local'? known: {known}; or name an address, ssh://user@host, or ")
    assert files(own) == before


def test_no_room_while_exporting_keeps_what_was_there(own: Path, tmp_path: Path) -> None:
    before = files(own)
    code, out, err = call("export", own, "--target", "jetson-orin", says=tmp_path / "says", largest_file=20_000).wait()
    assert (code, out) == (2, "")
    assert "no room" in err.splitlines()[-2]
    assert files(own) == before


def test_the_report_can_be_written_again_from_the_files_alone(own: Path, tmp_path: Path) -> None:
    before = (own / "6-report" / "report.json").read_bytes()
    for path in (own / "6-report").iterdir():
        path.unlink()
    out, _ = succeed("report", own, says=tmp_path)
    assert sorted(Path(line).name for line in out.splitlines()) == ["report.html", "report.json", "report.md"]
    assert (own / "6-report" / "report.json").read_bytes() == before


# --- verbs on a user's own network

NETS = """
from torch import nn

def build(num_classes, width=16):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )

def teacher(num_classes):
    return build(num_classes, width=24)
"""
FEW = ("--set", "train.batch_size=16", "--set", "train.threads=1", "--set", "retrain.epochs=1")


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: a package with a network, a checkpoint of it, and images as files and as arrays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "nets.py").write_text(NETS)
    space: dict[str, Any] = {}
    exec(NETS, space)  # noqa: S102 - our own text, three lines above
    torch.manual_seed(0)
    torch.save({"state_dict": space["build"](4).state_dict(), "epoch": 7}, "dense.pt")
    torch.save(space["teacher"](4).state_dict(), "teacher.pt")
    image_folder(tmp_path / "photos", each=16, size=10)
    draw = np.random.RandomState(1)
    labels = np.arange(64) % 4
    pixels = (draw.normal(60, 20, (64, 8, 8, 3)) + 45 * labels[:, None, None, None]).clip(0, 255).astype(np.uint8)
    arrays = {"train_x": pixels, "train_y": labels, "test_x": pixels[:20], "test_y": labels[:20]}
    np.savez(tmp_path / "mine.npz", **arrays, classes=np.array(["a", "b", "c", "d"]))
    return tmp_path


DATA = {"photos": ("--data", "photos", "--set", "data.image_size=8"), "mine.npz": ("--data", "mine.npz")}


@pytest.mark.parametrize(("data", "pattern", "share"), [("photos", "unstructured", 0.9), ("mine.npz", "2:4", 0.5)])
def test_each_verb_works_alone_on_a_users_own_network(data: str, pattern: str, share: float, theirs: Path) -> None:
    given = (*DATA[data], "--model", "my_package.nets:build", *FEW, "--set", f"prune.pattern={pattern}")
    under = ("--teacher-model", "my_package.nets:teacher", "--teacher-checkpoint", "teacher.pt")
    says = theirs / "says"

    succeed("prune", *given, *under, "--checkpoint", "dense.pt", "--out", "one", says=says)
    masks = load_file(theirs / "one" / "1-prune" / "masks.safetensors")
    assert list(masks) == (["0", "4"] if pattern == "unstructured" else ["4"])
    total = sum(mask.size for mask in masks.values())
    zeros = sum(int((mask == 0).sum()) for mask in masks.values())
    assert zeros == round(share * total)
    pruned = theirs / "one" / "1-prune" / "student.safetensors"

    succeed("retrain", *given, *under, "--checkpoint", pruned, "--out", "two", says=says)
    before, after = load_file(pruned), load_file(theirs / "two" / "2-retrain" / "student.safetensors")
    for name, mask in masks.items():
        weight = after[f"{name}.weight"]
        assert not weight[mask == 0].any(), "no pruned weight came back"
        assert (weight != before[f"{name}.weight"]).any(), "the others learned"
    assert len(json.loads((theirs / "two" / "2-retrain" / "history.json").read_text())) == 1
    assert not (theirs / "two" / "0-teacher" / "dense.safetensors").exists()

    finished = theirs / "two" / "2-retrain" / "student.safetensors"
    target = ("--target", "jetson-orin")
    out, _ = succeed("export", *given, *target, "--checkpoint", finished, "--out", "three", says=says)
    *written, _ = out.splitlines()
    files = ("model.onnx", "model.fp16.onnx", "model.int8.onnx", "manifest.json")
    assert written == [f"three/3-export/{name}" for name in files]
    weights = initializers(theirs / "three" / "3-export" / "model.onnx")
    assert sum(int((weights[f"{name}.weight"] == 0).sum()) for name in masks) == zeros
    manifest = json.loads((theirs / "three" / "3-export" / "manifest.json").read_text())
    assert list(manifest["networks"]) == ["sparse", "sparse-fp16", "sparse-int8"]
    assert manifest["planned"] == ([] if pattern == "unstructured" else ["4"])
    assert manifest["networks"]["sparse"]["zeros"] == zeros
    assert manifest["networks"]["sparse"]["pattern"] == pattern
    assert manifest["target"] == "jetson-orin"


def test_zeros_of_a_checkpoint_that_are_not_the_pattern_are_refused(theirs: Path) -> None:
    state = torch.load("dense.pt", weights_only=True)["state_dict"]
    state["4.weight"][:, 0] = 0.0  # one of four
    torch.save(state, "pruned.pt")
    given = (*DATA["mine.npz"], "--model", "my_package.nets:build", "--checkpoint", "pruned.pt")
    code, _, err = call("retrain", *given, "--set", "prune.pattern=2:4", says=theirs / "says").wait()
    assert code == 2
    assert "the zeros of layer 4 are not 2:4" in err
