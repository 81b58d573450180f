"""`edgeprune study`, whole: small, on the digits, held against runs of its own, resumed, failing, interrupted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from architecture_rules import ROOT
from processes import call
from safetensors.numpy import load_file
from study_cells import STUDY, write_study

from edgeprune.data import load_data
from edgeprune.models import build
from edgeprune.pipeline import run
from edgeprune.progress import Lines
from edgeprune.recipe import Recipe
from edgeprune.rundir import RunDir
from edgeprune.study.plan import Cell, Plan, read_plan
from runtimes.files import sha256

SMALL = {
    "data": {"name": "digits", "validation": 0.75},  # few images to train on
    "train": {"batch_size": 32, "hardware": "cpu"},
    "teacher": {"model": "digits-cnn", "epochs": 1},
    "student": {"epochs": 1},
    "prune": {"epochs": 0.5, "repair_batches": 2},
    "retrain": {"epochs": 1.5},
}


def studied(folder: Path, *options: object) -> tuple[int, str, str]:
    """The study in `folder`, by workers that need not import torch: they are forked from what has."""
    asked = ("study", folder, "--runs", folder / "runs", *options)
    return call(*asked, says=folder / "says", fork_workers=True).wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of two methods, one sparsity, two seeds. No test may change it."""
    folder = tmp_path_factory.mktemp("whole")
    write_study(folder, methods=["magnitude", "teacher_guided"], set=SMALL)
    code, out, err = studied(folder, "--workers", 2)
    assert code == 0, err
    assert out.split() == [str(folder / name) for name in ("study.json", "study.md", "accuracy.svg")]
    return folder


@pytest.fixture
def own(whole: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    shutil.copytree(whole, tmp_path / "own")
    return tmp_path / "own"


def results(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))}


def run_of(folder: Path, cell: str) -> RunDir:
    (found,) = (folder / "runs").glob(f"{cell}-*")
    return RunDir(found)


# --- what a study comes to


@pytest.mark.parametrize(
    "cell", ["teacher_guided_gradual-0.98-s0", pytest.param("staged_fisher-0.98-s0", marks=pytest.mark.slow)]
)
def test_a_part_of_the_digits_is_what_was_committed(cell: str, tmp_path: Path) -> None:
    """The same recipe, and about the same accuracy: another processor may round otherwise. The workers are spawned."""
    folder = tmp_path / "digits"
    folder.mkdir()
    shutil.copy(ROOT / "studies" / "digits" / "study.toml", folder)
    code, _, err = call("study", folder, "--runs", folder / "runs", "--only", cell, says=folder / "says").wait()
    assert code == 0, err
    ((name, result),) = results(folder).items()
    assert name == cell
    committed = json.loads((ROOT / "studies" / "digits" / "cells" / f"{name}.json").read_text())
    assert result["recipe_sha256"] == committed["recipe_sha256"]
    assert result["epochs_equivalent"] == committed["epochs_equivalent"]
    assert result["test_top1"] == pytest.approx(committed["test_top1"], abs=8)


def test_every_cell_has_a_result_and_the_report_their_means(whole: Path) -> None:
    found = results(whole)
    assert sorted(found) == [f"{name}-0.9-s{seed}" for name in ("magnitude", "teacher_guided") for seed in (0, 1)]
    assert {result["state"] for result in found.values()} == {"done"}
    mean = np.mean([found[f"magnitude-0.9-s{seed}"]["test_top1"] for seed in (0, 1)])
    text = (whole / "study.md").read_text()
    assert "4 of 4 cells done, 0 failed, 0 not run" in text
    assert f"| `magnitude` | {mean:.2f} |" in text
    assert not list((whole / "runs" / "logs").iterdir()) or "Traceback" not in (whole / "says" / "stderr").read_text()


def test_cells_of_a_seed_share_their_networks_and_train_none_of_them(whole: Path) -> None:
    found = results(whole)
    starts = {name: tuple(result["start"].values()) for name, result in found.items()}
    assert starts["magnitude-0.9-s0"] == starts["teacher_guided-0.9-s0"] != starts["magnitude-0.9-s1"]
    dense = [run_of(whole, name)["teach"] / "dense.safetensors" for name in found]
    assert len({path.stat().st_ino for path in dense}) == 2, "links to the files of two shared runs"
    assert len(list((whole / "runs").glob("shared-*"))) == 2


def test_a_cell_is_what_a_run_of_its_own_would_be(whole: Path, tmp_path: Path) -> None:
    plan, cell = read_plan(str(whole)), Cell("teacher_guided", 0.9, 1)
    alone = run(with_one_thread(plan, cell), tmp_path / "alone", Lines(), until="retrain")
    beside = run_of(whole, cell.name)
    for step, file in (("teach", "dense"), ("teach", "teacher"), ("prune", "masks"), ("retrain", "student")):
        name = f"{file}.safetensors"
        assert sha256(alone[step] / name) == sha256(beside[step] / name), name


def with_one_thread(plan: Plan, cell: Cell) -> Recipe:
    recipe = plan.recipes[cell]
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"threads": 1})})


def test_a_result_is_what_its_files_say_counted_again(whole: Path) -> None:
    result, rundir = results(whole)["teacher_guided-0.9-s0"], run_of(whole, "teacher_guided-0.9-s0")
    weights = load_file(rundir["retrain"] / "student.safetensors")
    convolutions = [w for w in weights.values() if w.ndim == 4]
    zeros, total = sum(int((w == 0).sum()) for w in convolutions), sum(w.size for w in convolutions)
    assert result["sparsity_achieved"] == zeros / total == pytest.approx(0.9, abs=1e-3)
    data = load_data("digits", None, validation=0.75, split_seed=0, image_size=None)
    everything = sum(w.size for name, w in weights.items() if name.endswith("weight"))
    assert result["sparsity_paper"] == pytest.approx(zeros / everything)
    assert result["test_top1"] == pytest.approx(accuracy(weights, data))
    assert result["dense_test_top1"] == pytest.approx(accuracy(load_file(rundir["teach"] / "dense.safetensors"), data))
    steps = len(data.train) // 32
    batches = round(0.5 * steps) + round(1.5 * steps)
    assert result["epochs_equivalent"] == pytest.approx(batches * 32 / len(data.train))
    history = json.loads((rundir["retrain"] / "history.json").read_text())
    assert result["validation_top1_after"] == max(row["validation_top1"] for row in history)
    assert result["wall_clock_s"]["retrain"] >= sum(row["seconds"] for row in history)
    assert result["machine"]["threads"] == max(1, len(os.sched_getaffinity(0)) // 2)


def accuracy(weights: dict[str, np.ndarray], data: Any) -> float:
    model = build("digits-cnn", classes=10, channels=1).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    pixels, prepared = data.test.images(np.arange(len(data.test))), data.preprocess
    images = (pixels.transpose(0, 3, 1, 2) * np.float32(prepared.scale) - prepared.mean[0]) / prepared.std[0]
    with torch.no_grad():
        answers = model(torch.from_numpy(images.astype(np.float32))).argmax(dim=1).numpy()
    return 100 * float((answers == data.test.labels).mean())


# --- going on


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}


def test_a_deleted_cell_is_run_again_and_the_others_are_not_touched(own: Path) -> None:
    before, told = stamps(own), results(own)
    (own / "cells" / "magnitude-0.9-s1.json").unlink()
    shutil.rmtree(own / "runs")  # as on another machine: the results are all there is
    code, _, err = studied(own)
    assert code == 0, err
    after, again = stamps(own), results(own)
    assert {name for name in before if before[name] != after[name]} == {"magnitude-0.9-s1.json"}
    assert not list((own / "runs").glob("*-s0-*")), "nobody needs seed 0 any more"
    for key in ("test_top1", "mask_sha256", "start", "epochs_equivalent", "recipe_sha256"):
        assert again["magnitude-0.9-s1"][key] == told["magnitude-0.9-s1"][key], key


def test_what_changed_what_fails_and_what_breaks_is_told_and_the_rest_is_left_alone(own: Path) -> None:
    before, broken = stamps(own), own / "cells" / "teacher_guided-0.9-s1.json"
    broken.unlink()
    broken.mkdir()  # nobody can write a file there: a bug, as far as the study knows
    write_study(
        own, methods=["magnitude", "teacher_guided"], set=SMALL, method={"magnitude": {"retrain": {"lr": 1e30}}}
    )
    code, _, err = studied(own)
    assert code == 1
    assert "magnitude-0.9-s0 has a result of another recipe (retrain.lr was 0.05, is 1e+30)" in err
    assert f"lost: {broken.stem}: IsADirectoryError" in err
    assert "Traceback" in (own / "runs" / "logs" / f"{broken.stem}.log").read_text()
    broken.rmdir()
    after, failed = stamps(own), results(own)["magnitude-0.9-s1"]
    assert {name for name in after if before[name] == after[name]} == {"teacher_guided-0.9-s0.json"}
    assert failed["state"] == "failed"
    assert "diverged" in failed["message"]
    text = (own / "study.md").read_text()
    assert "1 of 4 cells done, 2 failed, 1 not run" in text
    assert f"- `magnitude-0.9-s1`: {failed['message']}" in text


def test_missing_data_stop_the_study_and_are_no_result(tmp_path: Path) -> None:
    write_study(tmp_path, set={**STUDY["set"], "data": {"name": "npz"}})
    code, out, err = studied(tmp_path, "--data-dir", "nowhere.npz")
    assert (code, out) == (2, "")
    assert "error: " in err
    assert "nowhere.npz" in err
    assert not (tmp_path / "cells").exists()


# --- Ctrl-C


def test_an_interruption_ends_the_workers_and_loses_only_their_cells(own: Path) -> None:
    """Pressed in a terminal it reaches the whole process group; so it does here."""
    (own / "cells" / "magnitude-0.9-s0.json").unlink()
    (own / "cells" / "magnitude-0.9-s1.json").unlink()
    write_study(
        own,
        methods=["magnitude", "teacher_guided"],
        set=SMALL,
        method={"magnitude": {"retrain": {"epochs": 10_000.0}}},
    )
    before = stamps(own)
    at_work = call("study", own, "--runs", own / "runs", "--workers", "2", says=own / "says", own_session=True)
    group = at_work.process.pid
    assert group is not None
    try:
        wait_for(lambda: len(list((own / "runs").glob("magnitude-*/2-retrain/*.checkpoint"))) == 2)
        workers = children(group)
        assert len(workers) >= 2
        os.killpg(group, signal.SIGINT)
        code, _, err = at_work.wait()
    finally:
        at_work.kill(after=0)
    assert code == 130
    assert "Traceback" not in err
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert stamps(own) == before


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
