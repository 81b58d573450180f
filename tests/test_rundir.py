"""The run folder: whose it is, what in it is done, and who is at work in it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from toys import files

from edgeprune.recipe import Recipe, complete
from edgeprune.rundir import FOLDERS, RunDir
from runtimes.errors import UserError
from runtimes.files import write_text


def recipe(*settings: str) -> Recipe:
    return complete({"name": "mine"}, settings)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """A run folder with its recipe."""
    rundir = RunDir(tmp_path / "runs" / "mine")
    with rundir.locked():
        rundir.adopt(recipe())
    return rundir


def finish(run: RunDir, step: str, **contents: str) -> list[Path]:
    """Do a step: its files are what `contents` says."""
    run.begin(step)
    paths = [run[step] / f"{name}.txt" for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_text(path, content)
    run.complete(step, paths, 1.0)
    return paths


# --- adoption


def test_a_new_folder_gets_the_recipe_and_where_it_came_from(run: RunDir) -> None:
    assert run.recipe() == recipe()
    told = json.loads((run.path / "run.json").read_text())
    assert told["recipe"]["name"] == "mine"
    assert set(told) == {"command", "version", "created_at", "recipe"}


def test_the_same_recipe_is_let_in_again_and_nothing_is_written(run: RunDir) -> None:
    before = files(run.path)
    run.adopt(recipe())
    run.adopt(recipe("data.dir=/elsewhere", "train.hardware=cpu", "train.threads=2", "weights_dir=/w"))
    assert files(run.path) == before


def test_another_recipe_is_refused_with_what_differs(run: RunDir) -> None:
    run.begin("teach")
    write_text(run["teach"] / "teacher.checkpoint", "an hour of training")
    before = files(run.path)
    with pytest.raises(UserError, match=r"student\.lr: .* there, 0\.7 here") as told:
        run.adopt(recipe("student.lr=0.7"))
    assert "another --out" in told.value.hint
    assert files(run.path) == before


def test_what_no_step_has_used_yet_may_still_be_changed(run: RunDir) -> None:
    """A retraining that diverged is repeated with another rate, and keeps the teacher."""
    for step in ("teach", "prune"):
        run.begin(step)
        write_text(run[step] / "network.safetensors", step)
    run.hold_to({"student.checkpoint": "aa"})
    run.adopt(recipe("retrain.lr=0.007"))
    assert run.recipe().retrain.lr == 0.007
    with pytest.raises(UserError, match=r"student\.checkpoint is not what"):
        run.hold_to({"student.checkpoint": "bb"})
    assert (run["teach"] / "network.safetensors").is_file()
    with pytest.raises(UserError, match=r"prune\.sparsity"):
        run.adopt(recipe("prune.sparsity=0.8"))


def test_inputs_that_were_exchanged_under_the_same_name_are_told(run: RunDir) -> None:
    run.hold_to({"student.checkpoint": "aa"})
    run.hold_to({"student.checkpoint": "aa", "data.dir": "bb"})
    run.hold_to({})
    with pytest.raises(UserError, match=r"data\.dir is not what .* was begun with"):
        run.hold_to({"data.dir": "cc"})


def test_the_same_bytes_again_leave_the_later_steps_done(run: RunDir) -> None:
    for step in ("export", "compile"):
        run.begin(step)
        write_text(run[step] / "file", step)
        run.complete(step, [run[step] / "file"], 1.0)
    run.complete("export", [run["export"] / "file"], 2.0)
    assert run.done("compile")
    write_text(run["export"] / "file", "other")
    run.complete("export", [run["export"] / "file"], 2.0)
    assert not run.done("compile")


def test_a_folder_in_which_nothing_was_made_yet_takes_a_corrected_recipe(run: RunDir) -> None:
    """The first call had a wrong checkpoint, say: the second one must not be told that this is another's folder."""
    run.begin("teach")
    run.adopt(recipe("prune.sparsity=0.8", "student.checkpoint=right.pt"))
    assert run.recipe().prune.sparsity == 0.8
    assert json.loads((run.path / "run.json").read_text())["recipe"]["student"]["checkpoint"] == "right.pt"


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    write_text(tmp_path / "thesis.tex", "years of work")
    before = files(tmp_path)
    with pytest.raises(UserError, match="is not empty and not a run folder"):
        RunDir(tmp_path).adopt(recipe())
    assert files(tmp_path) == before


def test_a_folder_that_was_left_between_its_two_first_files_is_adopted(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / ".lock").touch()
    (tmp_path / ".recipe.toml.abc.tmp").write_text("name = ")
    rundir.adopt(recipe())
    assert rundir.recipe() == recipe()


def test_a_runs_recipe_takes_other_values_but_no_other_method(run: RunDir) -> None:
    """It states every value: a method laid over it would be a name without its settings, and the report would lie."""
    assert run.recipe(["prune.sparsity=0.5"], {"method": "default"}).prune.sparsity == 0.5
    for settings, extra in ((["method=magnitude"], {}), ([], {"method": "magnitude"})):
        with pytest.raises(UserError, match="is a run of method default, not magnitude"):
            run.recipe(settings, extra)


def test_a_damaged_recipe_in_the_folder_is_told(run: RunDir) -> None:
    run.recipe_path.write_text("[prune\n")
    with pytest.raises(UserError, match=r"recipe\.toml is not TOML"):
        run.adopt(recipe())


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file"), RunDir(path).locked():
            pytest.fail("it was let in")
    assert (tmp_path / "file").read_text() == "mine"


# --- the lock

HOLD = """
import sys
from pathlib import Path
from edgeprune.rundir import RunDir
with RunDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_use_by_another_process_is_refused_until_that_one_ends_or_dies(run: RunDir) -> None:
    for ending in (signal.SIGKILL, None):
        with subprocess.Popen(
            [sys.executable, "-c", HOLD, str(run.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(UserError, match="is in use by another edgeprune"), run.locked():
                pytest.fail("two at once")
            holder.send_signal(ending) if ending else holder.stdin.close()
            holder.wait(30)
        with run.locked():
            pass


def test_the_lock_is_given_back_after_an_error(run: RunDir) -> None:
    with pytest.raises(ZeroDivisionError), run.locked():
        raise ZeroDivisionError
    with run.locked():
        pass


# --- what is done


def test_a_step_is_done_when_its_files_are_what_they_were(run: RunDir) -> None:
    assert not any(run.done(step) for step in FOLDERS)
    one, two = finish(run, "prune", one="1", two="2")
    assert run.done("prune")
    (run["prune"] / "notes.txt").write_text("somebody's")
    assert run.done("prune"), "files of others are not looked at"
    two.write_text("3")
    assert not run.done("prune")
    two.write_text("2")
    assert run.done("prune")
    one.unlink()
    assert not run.done("prune")


def test_a_step_done_again_takes_back_the_later_ones_only(run: RunDir) -> None:
    for step in FOLDERS:
        finish(run, step, out=step)
    assert all(run.done(step) for step in FOLDERS)
    finish(run, "retrain", out="another")
    assert [step for step in FOLDERS if run.done(step)] == ["teach", "prune", "retrain"]
    assert (run["export"] / "out.txt").read_text() == "export", "the files stay until they are made again"


def test_outputs_in_folders_of_the_step_count_too(run: RunDir) -> None:
    run.begin("measure")
    write_text(run["measure"] / "local" / "ort-sparse.json", "{}")
    run.complete("measure", [run["measure"] / "local" / "ort-sparse.json"], 0.5)
    assert run.done("measure")
    write_text(run["measure"] / "local" / "ort-sparse.json", "[]")
    assert not run.done("measure")


def test_a_finished_step_may_be_accepted_as_it_is_now(run: RunDir) -> None:
    (path,) = finish(run, "measure", out="1")
    finish(run, "report", out="1")
    path.write_text("2")
    run.accept("measure")
    assert run.done("measure")
    assert not run.done("report")
    run.begin("measure")
    assert path.read_text() == "2"


def test_beginning_clears_what_a_killed_process_was_writing_and_nothing_else(run: RunDir) -> None:
    (path,) = finish(run, "measure", out="1")
    for unfinished in (run["measure"] / ".out.txt.x1.tmp", run["measure"] / "local" / ".a.json.x2.tmp"):
        unfinished.parent.mkdir(exist_ok=True)
        unfinished.write_text("half")
    (run["measure"] / "mine.tmp").write_text("not ours")
    run.begin("measure")
    left = {file.name for file in run["measure"].rglob("*") if file.is_file()}
    assert left == {"out.txt", "completed.json", "mine.tmp"}
    assert path.read_text() == "1"


def test_what_changed_since_it_was_finished_is_not_taken_for_finished(run: RunDir) -> None:
    """A step that resumes inside itself goes by its files: one that is not what it was must not be among them."""
    kept, changed = finish(run, "teach", teacher="1", dense="2")
    changed.write_text("truncated")
    run.begin("teach")
    assert kept.read_text() == "1"
    assert not changed.exists()


def test_a_damaged_marker_is_told(run: RunDir) -> None:
    finish(run, "prune", out="1")
    (run["prune"] / "completed.json").write_text('{"step": ')
    with pytest.raises(UserError, match=r"completed\.json is not JSON"):
        run.done("prune")
