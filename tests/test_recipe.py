"""Recipes: what is written is read back, what is wrong is told by its key, and who overrides whom."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgeprune import tables
from edgeprune.methods import ALIASES, METHODS
from edgeprune.recipe import Recipe, check, complete, differences, load, shipped, to_toml
from runtimes.errors import UserError


def reread(recipe: Recipe, folder: Path) -> Recipe:
    path = folder / "recipe.toml"
    path.write_bytes(to_toml(recipe).encode())
    return load(str(path))


def refusal(*set_: str) -> UserError:
    with pytest.raises(UserError) as told:
        complete({}, set_)
    assert "\n" not in told.value.message + told.value.hint
    return told.value


# --- written and read back


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_recipe_loads_under_its_name_and_comes_back(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert reread(recipe, tmp_path) == recipe
    assert to_toml(reread(recipe, tmp_path)) == to_toml(recipe)


def test_a_written_recipe_states_every_value(tmp_path: Path) -> None:
    """What `recipe.toml` leaves to a default would change with the next version."""
    import tomllib

    stated = tomllib.loads(to_toml(load("quickstart")))
    missing = [key for key in Recipe().model_dump() if key not in stated]
    assert missing == []
    assert set(Recipe().model_dump()["prune"]["guide"]) == set(stated["prune"]["guide"])


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SHARE = st.floats(0, 1, exclude_max=True)
OBJECTIVE = st.fixed_dictionaries(
    {},
    optional={
        "loss": st.sampled_from(sorted(tables.LOSSES)),
        "weight": st.floats(0, 1),
        "temperature": st.floats(1e-6, 1e9),
        "standardise": st.sampled_from(["population", "unbiased", "none"]),
        "gamma": st.one_of(st.sampled_from(["batch", "sample"]), st.floats(0, 1), st.integers(0, 1)),
        "square_temperature": st.booleans(),
    },
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True),
        "seed": st.integers(0, 2**31 - 1),
        "method": st.sampled_from([*METHODS, *ALIASES]),
        "weights_dir": TEXT,
        "data": st.fixed_dictionaries(
            {}, optional={"dir": TEXT, "image_size": st.integers(8, 512), "download": st.booleans()}
        ),
        "teacher": st.fixed_dictionaries({"model": TEXT.map("m".__add__)}, optional={"checkpoint": TEXT}),
        "student": st.fixed_dictionaries({}, optional={"model": TEXT, "lr": st.floats(1e-9, 1e9)}),
        "prune": st.fixed_dictionaries(
            {},
            optional={
                "sparsity": SHARE,
                "skip": st.lists(TEXT, max_size=3),
                "layers": st.lists(st.sampled_from(["conv", "linear"]), max_size=2),
                "epochs": st.floats(0, 1e6),
                "guide": OBJECTIVE,
            },
        ),
        "retrain": st.fixed_dictionaries({}, optional={"objective": OBJECTIVE, "warmup": SHARE}),
        "measure": st.fixed_dictionaries({}, optional={"runtimes": st.lists(st.sampled_from(["ort", "null"]))}),
    },
)


@given(values=VALUES)
@example(values={"data": {"dir": "".join(map(chr, range(256))) + "\u2028\U0001f600"}})
@settings(max_examples=80, deadline=None)
def test_any_recipe_comes_back_equal(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    recipe = complete(values)
    again = reread(recipe, tmp_path_factory.getbasetemp())
    assert again == recipe
    assert differences(recipe, again) == {}


def test_differences_are_told_key_by_key_but_for_what_is_ignored() -> None:
    one, other = complete({}), complete({}, ["prune.sparsity=0.8", "data.dir=/images", "seed=1"])
    told = differences(one, other, ignore=frozenset({"data.dir"}))
    assert list(told) == ["seed", "prune.sparsity"]
    assert told["prune.sparsity"] == "prune.sparsity: 0.9 there, 0.8 here"


# --- who overrides whom


def test_a_method_named_on_the_command_line_is_that_method(tmp_path: Path) -> None:
    """Its name must not stand on another's settings, even over a recipe that states them all."""
    path = tmp_path / "complete.toml"
    path.write_text(to_toml(load("quickstart")))
    recipe = load(str(path), ["prune.sparsity=0.7"], {"method": "magnitude"})
    assert (recipe.method, recipe.prune.criterion, recipe.prune.epochs) == ("magnitude", "magnitude", 0.0)
    assert (recipe.prune.floor, recipe.prune.sparsity) == (0.0, 0.7)
    assert load("cifar10-resnet20", [], {"method": "teacher_guided"}).prune.epochs > 0  # not magnitude's 0
    assert load(str(path), ["prune.floor=0.1"], {"method": "magnitude"}).prune.floor == 0.1


def test_defaults_then_method_then_recipe_then_command_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('method = "magnitude"\n[prune]\nsparsity = 0.7\nfloor = 0.1\n')
    recipe = load(str(path))
    assert Recipe().prune.criterion == "weighted_ema_gradient"
    assert (recipe.prune.criterion, recipe.prune.epochs) == ("magnitude", 0.0), "the method is above the defaults"
    assert recipe.prune.floor == 0.1, "the recipe is above its method, which says 0"
    assert load(str(path), extra={"prune": {"sparsity": 0.6}}).prune.sparsity == 0.6, "options are above the recipe"
    both = load(str(path), ["prune.sparsity=0.5"], {"prune": {"sparsity": 0.6}})
    assert both.prune.sparsity == 0.5, "--set is above the options"
    assert (both.prune.floor, both.prune.criterion) == (0.1, "magnitude"), "and moves nothing else"


def test_a_method_from_the_command_line_brings_its_settings() -> None:
    named = {name: complete({}, extra={"method": name}) for name in (*METHODS, *ALIASES)}
    assert named["default"].prune == named[ALIASES["default"]].prune
    assert named["random"].prune.allocation == "uniform"
    assert named["teacher_guided_ce"].retrain.objective.loss == "ce"
    assert named["teacher_guided"].retrain.objective.loss == "ca_kld"
    assert complete({}, ["method=magnitude"]).prune == named["magnitude"].prune


@pytest.mark.parametrize("former", METHODS)
def test_a_complete_recipe_under_another_method_keeps_nothing_of_the_former(former: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(complete({}, extra={"method": former, "prune": {"sparsity": 0.7}})))
    for name in METHODS:
        expected = complete({}, extra={"method": name, "prune": {"sparsity": 0.7}})
        assert load(str(path), extra={"method": name}) == expected


def test_of_several_settings_the_last_counts() -> None:
    assert complete({}, ["seed=1", "seed=2"]).seed == 2


def test_a_recipe_may_extend_another(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "quickstart"\nname = "mine"\n[prune]\nsparsity = 0.5\n')
    mine, theirs = load(str(path)), load("quickstart")
    assert (mine.name, mine.prune.sparsity) == ("mine", 0.5)
    assert (mine.teacher, mine.retrain) == (theirs.teacher, theirs.retrain)


def test_a_recipe_that_extends_itself_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, below in (("a", "a.toml"), ("b", "c.toml"), ("c", "b.toml"), ("d", "nowhere")):
        Path(f"{name}.toml").write_text(f'extends = "{below}"\n')
    for name in ("a", "b", "c"):
        with pytest.raises(UserError, match="extends"):
            load(f"{name}.toml")
    with pytest.raises(UserError, match="unknown recipe 'nowhere'"):
        load("d.toml")


# --- from the shell


@pytest.mark.parametrize(
    ("setting", "key", "expected"),
    [
        ("prune.sparsity=0.95", "sparsity", 0.95),
        ("prune.skip=['stem', 'layer1.*']", "skip", ("stem", "layer1.*")),
        ("prune.epochs=2", "epochs", 2.0),
        ("prune.criterion=taylor", "criterion", "taylor"),
        ("prune.criterion='taylor'", "criterion", "taylor"),
        (" prune.criterion = taylor ", "criterion", "taylor"),
    ],
)
def test_settings_are_toml_or_a_bare_word(setting: str, key: str, expected: object) -> None:
    assert getattr(complete({}, [setting]).prune, key) == expected


def test_settings_of_every_type() -> None:
    recipe = complete(
        {},
        [
            "data.download=false",
            "data.dir=/images of mine",
            "student.model=package.module:factory",
            "prune.guide.gamma=0.5",
            "prune.guide.standardise=none",
            "retrain.objective={loss = 'kd', temperature = 4}",
            "train.hardware=cpu",
            "name=mine-2.0",
        ],
    )
    assert recipe.data.download is False
    assert recipe.data.dir == "/images of mine"
    assert recipe.student.model == "package.module:factory"
    assert recipe.prune.guide.gamma == 0.5
    assert recipe.retrain.objective.temperature == 4.0
    assert recipe.retrain.objective.weight == 0.5, "the rest of the table stays"
    assert recipe.name == "mine-2.0"


@pytest.mark.parametrize("setting", ["prune.sparsity", "=0.9", "prune..sparsity=1", "1a=2", ""])
def test_a_setting_that_is_none_is_told(setting: str) -> None:
    assert "KEY=VALUE" in refusal(setting).message


# --- what is wrong is told by its key


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("prune.sparsity=1.0", "prune.sparsity"),
        ("prune.sparsity=-0.1", "prune.sparsity"),
        ("prune.sparsity=nan", "prune.sparsity"),
        ("prune.sparsity=half", "prune.sparsity"),
        ("prune.guide.temperature=0", "prune.guide.temperature"),
        ("prune.guide.weight=1.1", "prune.guide.weight"),
        ("prune.guide.gamma=1.5", "prune.guide.gamma"),
        ("prune.guide.gamma=always", "prune.guide.gamma"),
        ("prune.beta=1.0", "prune.beta"),
        ("prune.repair_batches=0", "prune.repair_batches"),
        ("prune.layers=['norm']", "prune.layers"),
        ("prune=0.9", "prune"),
        ("retrain.epochs=-1", "retrain.epochs"),
        ("retrain.lr=0", "retrain.lr"),
        ("student.lr=inf", "student.lr"),
        ("student.holds=nothing", "student.holds"),
        ("train.batch_size=1", "train.batch_size"),
        ("train.hardware=tpu", "train.hardware"),
        ("data.validation=0", "data.validation"),
        ("data.validation=1", "data.validation"),
        ("measure.batch=0", "measure.batch"),
        ("seed=-1", "seed"),
        ("seed=0.5", "seed"),
        ("name='a/b'", "name"),
        ("name=''", "name"),
        ("method=5", "method"),
    ],
)
def test_a_value_out_of_range_or_of_another_type_names_its_key(setting: str, key: str) -> None:
    assert key in refusal(setting).message


@pytest.mark.parametrize(
    ("setting", "nearest"),
    [
        ("prune.sparsty=0.9", "sparsity"),
        ("prun.sparsity=0.9", "prune"),
        ("retrain.objective.temprature=4", "temperature"),
        ("seeds=1", "seed"),
    ],
)
def test_an_unknown_key_gets_the_nearest(setting: str, nearest: str) -> None:
    told = refusal(setting)
    assert told.message.startswith("unknown recipe key")
    assert f"did you mean '{nearest}'?" in told.hint


@pytest.mark.parametrize(
    ("setting", "kind", "nearest"),
    [
        ("method=teacher_guidet", "method", "teacher_guided"),
        ("data.name=cifar-10", "data set", "cifar10"),
        ("prune.criterion=magnitud", "criterion", "magnitude"),
        ("prune.allocation=globl", "allocation", "global"),
        ("prune.pattern=2:5", "pattern", "2:4"),
        ("prune.repair=batchnorm", "repair", "batch_norm"),
        ("prune.guide.loss=ca-kld", "loss", "ca_kld"),
        ("retrain.objective.loss=kdd", "loss", "kd"),
        ("teacher.lr_schedule=cosin", "learning-rate schedule", "cosine"),
        ("student.lr_schedule=cosin", "learning-rate schedule", "cosine"),
        ("retrain.lr_schedule=cosin", "learning-rate schedule", "cosine"),
        ("export.target=jetson-orni", "target", "jetson-orin"),
        ("measure.protocol=quik", "protocol", "quick"),
        ("measure.runtimes=['orrt']", "runtime", "ort"),
    ],
)
def test_every_name_is_looked_up_and_gets_the_nearest(setting: str, kind: str, nearest: str) -> None:
    told = refusal(setting)
    assert told.message.startswith(f"unknown {kind} '")
    assert f"did you mean '{nearest}'?" in told.hint


@pytest.mark.parametrize("pattern", ["2:4", "1:4"])
def test_a_pattern_that_fixes_the_sparsity_refuses_another_one(pattern: str) -> None:
    fixed = 1 - int(pattern[0]) / 4
    assert complete({}, [f"prune.pattern={pattern}", f"prune.sparsity={fixed}"]).prune.sparsity == fixed
    told = refusal(f"prune.pattern={pattern}", "prune.sparsity=0.9")
    assert f"{fixed:g}" in told.message
    assert f"prune.sparsity={fixed:g}" in told.hint


def test_a_teachers_checkpoint_without_its_network_is_told_not_ignored() -> None:
    assert "teacher.pt" in refusal("teacher.checkpoint=teacher.pt").message
    assert complete({}, ["teacher.checkpoint=teacher.pt", "teacher.model=resnet56-cifar"]).teacher.checkpoint


def test_a_recipe_that_is_not_there_or_not_toml_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown recipe 'quickstrat'") as told:
        load("quickstrat")
    assert "did you mean 'quickstart'?" in told.value.hint
    with pytest.raises(UserError, match="no recipe at"):
        load(str(tmp_path / "none.toml"))
    for content in (b"[prune\n", b"\xff\xfe", b"name = 'a'\nname = 'b'\n"):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.toml is not TOML"):
            load(str(tmp_path / "bad.toml"))


def test_recipes_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().prune.sparsity = 0.5  # type: ignore[misc]
    with pytest.raises(UserError):
        check({"prune": {"sparsity": 2}})


# --- what it costs to import


IMPORTED = "print(sorted({{'torch', 'torchvision', 'numpy', 'pydantic'}} & set(sys.modules)))"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import edgeprune.recipe", {"numpy", "pydantic"}),
        ("import edgeprune.tables, edgeprune.pipeline, edgeprune.verbs", {"numpy", "pydantic"}),
        ("import edgeprune.cli", set()),
    ],
)
def test_nothing_heavy_is_imported(code: str, allowed: set[str]) -> None:
    said = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; {IMPORTED.format()}"], capture_output=True, text=True, check=True
    )
    assert set(eval(said.stdout)) <= allowed  # noqa: S307 - our own print


def test_help_is_answered_without_torch_pydantic_or_numpy() -> None:
    code = (
        "import sys, atexit; sys.argv = ['edgeprune', '--help']; from edgeprune.cli import main\n"
        f"atexit.register(lambda: {IMPORTED.format()}); main()"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"
    assert "prune" in said.stdout
