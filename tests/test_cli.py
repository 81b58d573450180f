"""Bad input at the command line: two lines, exit code 2, and nothing that was finished is lost."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from processes import call
from toys import QUICK, files, image_folder, saved, seven, small, toy

from edgeprune import __version__
from edgeprune.tables import TABLES

Edgeprune = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a current folder of its own, and no folders from the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("EDGEPRUNE_DATA", "EDGEPRUNE_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def refused(answer: tuple[int, str, str]) -> str:
    """The message, where the answer is a refusal as it should be; the lines of finished steps may come before it."""
    code, out, err = answer
    lines = [line for line in err.splitlines() if not re.match(r"\[\d/\d\] \w+: ", line)]
    assert code == 2, err
    assert out == ""
    assert len(lines) == 2, err
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > 10
    return lines[0]


OWN = ("--data", "synthetic", "--model", "toys:small", "--out", "run", "--set", "train.threads=1")
TINY = (*OWN, "--set", "train.batch_size=64", "--set", "student.epochs=1", "--set", "prune.repair_batches=1")


# --- what is asked for does not exist


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quickstrat"], "unknown recipe 'quickstrat'"),
        (["run", "mine.toml"], "no recipe at mine.toml"),
        (["run", "runs/nowhere"], "unknown recipe 'runs/nowhere'"),
        (["run", "quickstart", "--set", "prune.sparsty=0.9"], "unknown recipe key 'prune.sparsty'"),
        (["run", "quickstart", "--set", "prune.sparsity=1.5"], "prune.sparsity = 1.5"),
        (["run", "quickstart", "--set", "prune.sparsity"], "KEY=VALUE"),
        (["prune", "quickstart", "--sparsity", "1"], "prune.sparsity = 1"),
        (["prune", "quickstart", "--pattern", "3:4"], "unknown pattern '3:4'"),
        (["run", "quickstart", "--method", "magnitud"], "unknown method 'magnitud'"),
        (["run", "quickstart", "--data", "digit"], "unknown data set 'digit'"),
        (["export", "quickstart", "--target", "jetson"], "unknown target 'jetson'"),
        (["list", "criterias"], "unknown table 'criterias'"),
        (["prune"], "no recipe and no data set"),
        (["teach", "--data", "synthetic", "--model", "resnet21-cifar"], "unknown model 'resnet21-cifar'"),
        (["teach", "--data", "synthetic", "--model", "nowhere:net"], "cannot import 'nowhere'"),
        (["teach", "--data", "synthetic", "--model", "toys:nothing"], "'toys' has no factory 'nothing'"),
        (["run", "cifar10-resnet20", "--data-dir", "photos"], "photos"),
        (["run", "cifar10-resnet20", "--set", "data.download=false"], "cifar10"),
        (["teach", "--data", "imagefolder", "--data-dir", "photos"], "photos"),
        (["teach", "--data", "npz", "--data-dir", "photos.npz"], "photos.npz"),
        (["teach", "--data", "synthetic", "--model", "toys:small", "--checkpoint", "a.pt"], "no checkpoint 'a.pt'"),
    ],
)
def test_what_is_not_there_is_told_in_two_lines(arguments: list[str], words: str, edgeprune: Edgeprune) -> None:
    assert words in refused(edgeprune(*arguments))


@pytest.mark.parametrize("verb", ["export", "compile", "measure", "report", "prune", "run"])
def test_a_folder_that_is_no_run_is_told_and_left_alone(verb: str, here: Path, edgeprune: Edgeprune) -> None:
    (here / "photos").mkdir()
    (here / "photos" / "cat.png").write_bytes(b"meow")
    before = files(here)
    assert "photos is not a run" in refused(edgeprune(verb, "photos"))
    assert files(here) == before


@pytest.mark.parametrize("verb", ["compile", "measure", "report"])
def test_a_run_that_does_not_exist_is_told_as_such(verb: str, here: Path, edgeprune: Edgeprune) -> None:
    assert "runs/nowhere" in refused(edgeprune(verb, "runs/nowhere"))
    assert list(here.iterdir()) == []


def test_a_name_gets_the_nearest_in_the_hint(edgeprune: Edgeprune) -> None:
    for arguments, nearest in (
        (["run", "quickstrat"], "quickstart"),
        (["list", "criterion"], "criteria"),
        (["run", "quickstart", "--method", "magnitud"], "magnitude"),
    ):
        assert f"did you mean '{nearest}'?" in edgeprune(*arguments)[2]


# --- networks and checkpoints


def truncated(path: Path) -> Path:
    saved(small(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_a_checkpoint_that_is_truncated_or_of_another_network_is_told(here: Path, edgeprune: Edgeprune) -> None:
    truncated(here / "half.pt")
    saved(toy(), here / "other.pt")
    saved(seven(), here / "seven.pt")
    for name, words in {"half": "cannot read", "other": "is not of", "seven": "has 7 classes"}.items():
        told = refused(edgeprune("teach", *TINY, "--checkpoint", f"{name}.pt"))
        assert words in told
        assert f"{name}.pt" in told
    assert not (here / "run" / "0-teacher" / "completed.json").exists()


@pytest.mark.parametrize(
    "teacher",
    [
        ["--teacher-model", "toys:seven"],
        ["--teacher-model", "toys:seven", "--teacher-checkpoint", "seven.pt"],
        ["--teacher-model", "toys:small", "--teacher-checkpoint", "seven.pt"],
    ],
)
def test_a_teacher_with_other_classes_is_told_before_anything_is_trained(
    teacher: list[str], here: Path, edgeprune: Edgeprune
) -> None:
    """By a checkpoint with another head, or by a factory that does not ask how many classes there are."""
    saved(seven(), here / "seven.pt")
    told = refused(edgeprune("prune", *TINY, *teacher))
    assert "teacher" in told
    assert "7" in told
    assert list((here / "run" / "0-teacher").iterdir()) == []


def test_a_student_with_other_classes_is_told(here: Path, edgeprune: Edgeprune) -> None:
    told = refused(edgeprune("teach", "--data", "synthetic", "--model", "toys:seven", "--out", "run"))
    assert "7" in told
    assert "student" in told


def test_a_network_for_images_of_another_size_is_told(edgeprune: Edgeprune) -> None:
    assert "3 x 8 x 8" in refused(edgeprune("teach", "--data", "synthetic", "--model", "toys:large"))


def test_retraining_a_checkpoint_without_a_teacher_says_how_to_go_on(here: Path, edgeprune: Edgeprune) -> None:
    saved(small(), here / "pruned.pt")
    answer = edgeprune("retrain", *TINY, "--checkpoint", "pruned.pt")
    assert "no teacher" in refused(answer)
    assert "retrain.objective.loss=ce" in answer[2]


# --- images

PHOTOS = ("--data", "photos", "--model", "toys:small", "--set", "student.epochs=1")


def test_an_empty_folder_of_images_is_told(here: Path, edgeprune: Edgeprune) -> None:
    (here / "photos" / "cats").mkdir(parents=True)
    assert "photos" in refused(edgeprune("teach", *PHOTOS))
    (here / "photos" / "cats").rmdir()
    assert "photos" in refused(edgeprune("teach", *PHOTOS))


def test_an_unreadable_image_is_named(here: Path, edgeprune: Edgeprune) -> None:
    broken = image_folder(here / "photos", each=5) / "class2" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    assert "3.png" in refused(edgeprune("teach", *PHOTOS, "--set", "data.image_size=8"))


@pytest.mark.parametrize("each", [1, 2])
def test_too_few_images_for_three_splits_are_told(each: int, here: Path, edgeprune: Edgeprune) -> None:
    image_folder(here / "photos", each=each)
    for path in (here / "photos").glob("class[23]"):
        for image in path.iterdir():
            image.unlink()
        path.rmdir()
    assert "leaves no image to" in refused(edgeprune("teach", *PHOTOS, "--set", "data.image_size=8"))


# --- run folders


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a tiny run up to 1-prune."""
    folder = tmp_path_factory.mktemp("pruned")
    code, _, err = call("prune", *TINY, "--out", folder / "run", says=folder / "says").wait()
    assert code == 0, err
    return files(folder / "run")


def unpacked(contents: dict[str, bytes], folder: Path) -> Path:
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_run_folder_of_another_recipe_is_told_and_left_alone(
    pruned: dict[str, bytes], here: Path, edgeprune: Edgeprune
) -> None:
    run = unpacked(pruned, here / "run")
    told = refused(edgeprune("prune", *TINY, "--sparsity", "0.8"))
    assert "prune.sparsity: 0.9 there, 0.8 here" in told
    assert files(run) == pruned
    assert "another recipe" in refused(edgeprune("prune", "run", "--seed", "1"))
    assert files(run) == pruned


def test_a_finished_step_is_not_done_again(pruned: dict[str, bytes], here: Path, edgeprune: Edgeprune) -> None:
    run = unpacked(pruned, here / "run")
    code, out, err = edgeprune("prune", "run")
    assert code == 0
    assert out.split() == ["run/1-prune/masks.safetensors", "run/1-prune/student.safetensors"]
    assert err.count("already done") == 2
    assert files(run) == pruned


@pytest.mark.parametrize(
    "name",
    [
        "0-teacher/dense.safetensors",
        "0-teacher/dense.history.json",
        "1-prune/masks.safetensors",
        "1-prune/scoring.json",
    ],
)
@pytest.mark.parametrize("damage", ["truncated", "missing"])
def test_a_file_that_was_damaged_is_made_again(
    name: str, damage: str, pruned: dict[str, bytes], here: Path, edgeprune: Edgeprune
) -> None:
    run = unpacked(pruned, here / "run")
    if damage == "missing":
        (run / name).unlink()
    else:
        (run / name).write_bytes(pruned[name][: len(pruned[name]) // 2])
    code, _, err = edgeprune("prune", "run")
    assert code == 0, err
    again = files(run)
    assert again.keys() == pruned.keys()
    for path in ("0-teacher/dense.safetensors", "1-prune/masks.safetensors", "1-prune/student.safetensors"):
        assert again[path] == pruned[path]


def test_a_folder_of_something_else_is_not_taken_for_the_run(here: Path, edgeprune: Edgeprune) -> None:
    (here / "run").mkdir()
    (here / "run" / "thesis.tex").write_text("years of work")
    before = files(here)
    assert "not empty and not a run folder" in refused(edgeprune("teach", *TINY))
    assert files(here) == before


def test_a_file_in_the_place_of_the_run_folder_is_told(here: Path, edgeprune: Edgeprune) -> None:
    (here / "run").write_text("mine")
    assert "run" in refused(edgeprune("teach", *TINY))
    assert (here / "run").read_text() == "mine"


# --- no room

ROOM = 20_000  # bytes a file may have: more than anything up to 1-prune that is not weights, less than the weights


@pytest.mark.parametrize("verb", ["teach", "retrain"])
def test_a_full_disk_is_told_and_what_was_finished_stays(verb: str, pruned: dict[str, bytes], here: Path) -> None:
    before = {} if verb == "teach" else pruned
    run = unpacked(before, here / "run")
    given = TINY if verb == "teach" else ["run"]
    told = refused(call(verb, *given, says=here / "says", largest_file=ROOM).wait())
    assert "no room to write" in told
    assert ".checkpoint" in told
    after = files(run)
    assert {name: after[name] for name in before} == before
    assert {name for name in after if name not in before} <= {".lock", "recipe.toml", "run.json"}


# --- what works


def test_list_has_every_table_also_as_json(edgeprune: Edgeprune) -> None:
    code, out, _ = edgeprune("list", "--json")
    listed = json.loads(out)
    assert code == 0
    assert set(listed) == {*TABLES, "recipes"}
    for name, table in TABLES.items():
        assert set(table) <= set(listed[name])
    assert listed["methods"]["default"] == "the same as teacher_guided_gradual"
    assert "quickstart" in listed["recipes"]
    _, text, _ = edgeprune("list")
    for rows in listed.values():
        assert all(name in text for name in rows)


def test_list_of_one_table_says_a_line_about_each(edgeprune: Edgeprune) -> None:
    for name in ("criteria", "losses", "patterns", "methods", "datasets", "targets", "repairs", "recipes", "runtimes"):
        code, out, _ = edgeprune("list", name, "--json")
        assert code == 0
        (rows,) = json.loads(out).values()
        assert all(rows.values()), f"{name}: something has no line: {rows}"


def test_doctor_finds_everything_that_the_tests_need(edgeprune: Edgeprune) -> None:
    code, out, _ = edgeprune("doctor")
    assert code == 0
    assert "MISSING" not in out
    assert torch.__version__ in out


def test_version_and_help(edgeprune: Edgeprune) -> None:
    assert edgeprune("--version")[:2] == (0, f"{__version__}\n")
    code, out, _ = edgeprune("--help")
    assert code == 0
    verbs = ("run", "teach", "prune", "retrain", "plan", "export", "compile", "measure", "report", "list", "doctor")
    for verb in verbs:
        assert verb in out
        assert edgeprune(verb, "--help")[0] == 0


def test_the_quickstart_of_the_tests_is_the_shipped_one(edgeprune: Edgeprune, here: Path) -> None:
    assert edgeprune("teach", "quickstart", *QUICK, "--set", "teacher.model=''", "--set", "student.epochs=0")[0] == 0
    assert (here / "runs" / "quickstart" / "0-teacher" / "dense.safetensors").is_file()
