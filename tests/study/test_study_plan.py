"""STUDY.toml becomes cells with recipes: what wins over what, what is refused, and which results belong to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_cells import STUDY, study, write_study

from edgeprune.methods import METHODS
from edgeprune.recipe import Recipe, load
from edgeprune.study.plan import Cell, fingerprint, read_plan, settings, shared_name, shared_recipe, shipped
from runtimes.errors import UserError


def with_values(recipe: Recipe, table: str, **values: Any) -> Recipe:
    part = getattr(recipe, table).model_copy(update=values)
    return recipe.model_copy(update={table: part})


def test_the_cells_are_the_whole_grid_and_methods_stand_together(tmp_path: Path) -> None:
    plan = study(tmp_path, sparsities=[0.9, 0.98], seeds=[3, 4])
    assert [cell.name for cell in plan.recipes] == [
        f"{method}-{sparsity}-s{seed}"
        for sparsity in ("0.9", "0.98")
        for seed in (3, 4)
        for method in ("magnitude", "random")
    ]
    for cell, recipe in plan.recipes.items():
        assert (recipe.method, recipe.prune.sparsity, recipe.seed) == (cell.method, cell.sparsity, cell.seed)
        assert recipe.retrain.epochs == 1
        assert recipe.retrain.lr == load("quickstart").retrain.lr


def test_a_method_wins_over_the_budget_and_the_study_over_the_method(tmp_path: Path) -> None:
    assert METHODS["magnitude"]["prune"]["epochs"] == 0
    plan = study(tmp_path, methods=["magnitude", "teacher_guided"], method={"teacher_guided": {"prune": {"beta": 0.5}}})
    plain, guided = (plan.recipes[Cell(name, 0.9, 0)] for name in ("magnitude", "teacher_guided"))
    assert (plain.prune.epochs, guided.prune.epochs) == (0, 1)
    assert plain.prune.floor == 0.0, "the quickstart's own method has a floor, and it must not leak into another"
    assert (plain.prune.beta, guided.prune.beta) == (Recipe().prune.beta, 0.5)


def test_a_budget_covers_scoring_and_retraining(tmp_path: Path) -> None:
    own = {"teacher_guided": {"prune": {"epochs": 0.75}}}
    plan = study(tmp_path, methods=["magnitude", "teacher_guided", "fisher"], epochs=3.0, set={}, method=own)
    spent = {cell.method: (recipe.prune.epochs, recipe.retrain.epochs) for cell, recipe in plan.recipes.items()}
    assert spent == {"magnitude": (0, 3), "teacher_guided": (0.75, 2.25), "fisher": (2, 1)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metods": ["random"]}, "unknown study key 'metods'"),
        ({"methods": ["magnitud"]}, "unknown method 'magnitud'"),
        ({"methods": []}, "methods = []"),
        ({"methods": ["random", "random"], "ours": ""}, "stands there twice"),
        ({"sparsities": [1.0]}, "sparsities.0 = 1.0"),
        ({"seeds": [0.5]}, "seeds.0 = 0.5"),
        ({"ours": "lamp"}, "unknown method of the study 'lamp'"),
        ({"baseline": "lamp"}, "unknown method of the study 'lamp'"),
        ({"workers": 0}, "workers = 0"),
        ({"recipe": "quickstrat"}, "unknown recipe 'quickstrat'"),
        ({"recipe": "mine.toml"}, "mine.toml"),
        ({"set": {"retrain": {"epoch": 1}}}, "unknown recipe key 'retrain.epoch'"),
        ({"set": {"prune": {"sparsity": 0.5}}}, "set.prune.sparsity"),
        ({"set": {"seed": 1}}, "set.seed"),
        ({"method": {"lamp": {}}}, "unknown method of the study 'lamp'"),
        ({"method": {"random": {"student": {"epochs": 99}}}}, "method.random.student"),
        ({"method": {"random": {"prune": {"sparsity": 0.1}}}}, "method.random.prune.sparsity"),
        ({"epochs": 1.5}, "set: retrain.epochs follows from the study's epochs"),
        ({"epochs": 1.5, "set": {}, "method": {"random": {"retrain": {"epochs": 1}}}}, "random: retrain.epochs"),
        ({"epochs": 1.5, "set": {}, "methods": ["taylor"], "ours": ""}, "taylor-0.9-s0 scores for 2 epochs"),
        ({"published": [{"what": "x"}]}, "published.0.source"),
        ({"published": [{"what": "x", "source": "y", "minuets": 1}]}, "unknown study key 'published.0.minuets'"),
    ],
)
def test_a_mistake_is_told_with_its_key(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        study(tmp_path, **changes)
    assert words in refused.value.message
    assert "\n" not in refused.value.message + refused.value.hint


def test_a_study_is_found_by_file_folder_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_study(tmp_path / "studies" / "own" / "one")
    monkeypatch.chdir(tmp_path)
    assert shipped()["own/one"] == Path("studies/own/one/study.toml")
    for where in (str(path), str(path.parent), "own/one"):
        assert read_plan(where).study.name == "tiny"
    for where in ("own/two", "nowhere.toml", str(tmp_path)):
        with pytest.raises(UserError):
            read_plan(where)
    path.write_text("name = ")
    with pytest.raises(UserError, match="not TOML"):
        read_plan("own/one")


def test_a_recipe_lies_beside_its_study(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('extends = "quickstart"\n[retrain]\nlr = 0.5\n')
    assert study(tmp_path, recipe="mine.toml").recipes[Cell("random", 0.9, 0)].retrain.lr == 0.5


def where_it_lies(recipe: Recipe) -> Recipe:
    moved = with_values(recipe, "data", dir="elsewhere", download=False)
    return with_values(moved, "train", threads=7, hardware="cpu").model_copy(
        update={"weights_dir": "there", "name": "x"}
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (where_it_lies, True),
        (lambda recipe: with_values(recipe, "measure", batch=8), True),
        (lambda recipe: with_values(recipe, "retrain", lr=0.3), False),
        (lambda recipe: with_values(recipe, "prune", sparsity=0.91), False),
        (lambda recipe: with_values(recipe, "data", split_seed=1), False),
        (lambda recipe: recipe.model_copy(update={"seed": 9}), False),
    ],
)
def test_a_fingerprint_tells_what_is_computed_and_not_where(
    change: Callable[[Recipe], Recipe], same: bool, tmp_path: Path
) -> None:
    recipe = study(tmp_path).recipes[Cell("random", 0.9, 0)]
    assert (fingerprint(change(recipe)) == fingerprint(recipe)) is same


def test_a_checkpoint_counts_by_its_name() -> None:
    def told(checkpoint: str) -> dict[str, Any]:
        return settings(with_values(Recipe(), "student", checkpoint=checkpoint))

    assert told("/somewhere/a.pt") == told("a.pt") != told("b.pt")
    assert "/somewhere" not in str(told("/somewhere/a.pt"))


def test_cells_share_teacher_and_start_of_their_seed(tmp_path: Path) -> None:
    plan = study(tmp_path, methods=["magnitude", "teacher_guided"], sparsities=[0.9, 0.98])
    shared = {cell: shared_name(recipe) for cell, recipe in plan.recipes.items()}
    assert len(set(shared.values())) == 2
    assert all(name.startswith(f"shared-s{cell.seed}-") for cell, name in shared.items())
    assert len({shared_recipe(recipe) for recipe in plan.recipes.values()}) == 2
    longer = study(tmp_path, set={**STUDY["set"], "student": {"epochs": 2}})
    assert not set(shared.values()) & {shared_name(recipe) for recipe in longer.recipes.values()}


def test_one_start_serves_all_seeds_where_both_networks_come_from_checkpoints(tmp_path: Path) -> None:
    plan = study(tmp_path, recipe="cifar10-resnet20", seeds=[0, 1, 2], set={})
    assert len({shared_name(recipe) for recipe in plan.recipes.values()}) == 1
    assert len({shared_recipe(recipe) for recipe in plan.recipes.values()}) == 1
