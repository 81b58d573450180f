"""What a study writes, from cells whose numbers are known: tables, differences, the plot, and what counts as done."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from study_cells import fail, finish, study

from edgeprune.study import to_markdown, to_svg
from edgeprune.study.conduct import Asked, overview, to_do, write
from edgeprune.study.plan import Cell, Plan
from edgeprune.study.results import rows
from runtimes.errors import UserError

METHODS = ["magnitude", "random", "lamp", "teacher_guided"]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Two sparsities, three seeds; at 90 % two methods are done, one has failed once, one was never run."""
    made = study(tmp_path, methods=METHODS, sparsities=[0.9, 0.98], seeds=[0, 1, 2], baseline="random")
    for seed, (ours, other) in enumerate([(60.0, 57.0), (62.0, 60.0), (64.0, 63.0)]):
        finish(made, Cell("magnitude", 0.9, seed), ours)
        finish(made, Cell("random", 0.9, seed), other)
    finish(made, Cell("lamp", 0.9, 0), 61.5, warnings=("layer a lost all",))
    fail(made, Cell("lamp", 0.9, 1), "the training diverged: its loss is nan")
    return made


def table(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of all tables under a heading, by their first cell."""
    section = text.split(f"## {heading}")[1].split("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def test_a_table_says_mean_deviation_and_number_of_seeds(plan: Plan) -> None:
    told = table(to_markdown.render(plan, rows(plan)), "90 %")
    assert told["`magnitude`"] == ["62.00", "2.00", "3", "40.00", "10", "2.50"]
    assert told["`random`"] == ["60.00", "3.00", "3", "40.00", "10", "2.50"]
    assert told["`lamp`"][:3] == ["61.50", "\N{EM DASH}", "1, 1 failed, 1 not run"]
    assert told["`teacher_guided`"][:3] == ["not run", "\N{EM DASH}", "0"]


def test_a_sparsity_without_a_cell_is_not_run(plan: Plan) -> None:
    told = table(to_markdown.render(plan, rows(plan)), "98 %")
    assert [told[f"`{name}`"][0] for name in METHODS] == ["not run"] * 4
    assert {row[0] for name, row in told.items() if "\N{MINUS SIGN}" in name} == {"not run"}


def test_differences_are_paired_and_one_seed_gets_no_interval(plan: Plan) -> None:
    told = table(to_markdown.render(plan, rows(plan)), "90 %")
    half = 4.302653 / 3**0.5  # of 3, 2, 1
    minus = "\N{MINUS SIGN}"
    assert told[f"`magnitude` {minus} `random`"] == ["+2.00", f"{minus}{half - 2:.2f} to +{2 + half:.2f}", "3"]
    assert told[f"`magnitude` {minus} `lamp`"] == [f"{minus}1.50", "none: one seed has no spread", "1"]
    assert told[f"`lamp` {minus} `random`"] == ["+4.50", "none: one seed has no spread", "1"]
    assert told[f"`magnitude` {minus} `teacher_guided`"] == ["not run", "\N{EM DASH}", "0"]
    assert f"`random` {minus} `magnitude`" not in told


def test_state_shared_networks_failures_and_warnings_are_told(plan: Plan) -> None:
    text = to_markdown.render(plan, rows(plan))
    assert "7 of 24 cells done, 1 failed, 16 not run" in text
    assert "Dense start: test top-1 96.00 %. Teacher: test top-1 96.00 %." in text, "one value a seed: 95, 96, 97"
    assert "Achieved: 90.00 % of the prunable weights; 89.00 % of" in text
    assert "- `lamp-0.9-s1`: the training diverged: its loss is nan" in text
    assert "- `lamp-0.9-s0`: layer a lost all" in text
    assert '- all cells: `data.name = "synthetic"`' in text
    assert "- a processor, torch 2.0, 1 thread a cell, 2 cells at once" in text


def test_cells_of_a_seed_that_began_elsewhere_are_told(plan: Plan) -> None:
    assert "same networks" not in to_markdown.render(plan, rows(plan))
    finish(plan, Cell("random", 0.9, 1), 60.0, start={"dense": "trained anew"})
    assert "The cells of seed 1 did not all begin from the same networks" in to_markdown.render(plan, rows(plan))


def test_json_has_every_cell_and_the_same_numbers(plan: Plan) -> None:
    write(plan)
    told = json.loads((plan.folder / "study.json").read_text())
    assert len(told["cells"]) == 24
    states = [cell["state"] for cell in told["cells"]]
    assert {state: states.count(state) for state in states} == {"done": 7, "failed": 1, "not run": 16}
    (line,) = [line for line in told["aggregates"][0]["lines"] if line["method"] == "magnitude"]
    assert line["test_top1"] == {"mean": 62.0, "deviation": 2.0, "n": 3}


def test_published_numbers_stand_apart(tmp_path: Path) -> None:
    published = [{"what": "the paper", "source": "somewhere", "sparsity": 0.9841, "test_top1": 90.79, "minutes": 27.82}]
    text = to_markdown.render(made := study(tmp_path, published=published), rows(made))
    assert table(text, "Published elsewhere")["the paper"] == ["98.41", "90.79", "27.82", "somewhere"]


# --- the plot


def labels(svg: bytes) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314


def test_the_plot_names_every_method_and_what_was_not_run(plan: Plan) -> None:
    told = labels(to_svg.render(plan, rows(plan)))
    for name in ("magnitude", "random", "lamp", "teacher_guided (not run)", "dense", "90 %", "98 %"):
        assert told.count(name) == 1, name


def test_equal_cells_give_equal_bytes_and_other_cells_do_not(plan: Plan) -> None:
    first = to_svg.render(plan, rows(plan))
    assert to_svg.render(plan, rows(plan)) == first
    assert not re.search(rb"\d{4}-\d\d-\d\d", first)
    finish(plan, Cell("lamp", 0.98, 0), 30.0)
    assert to_svg.render(plan, rows(plan)) != first


def test_a_plot_of_nothing_is_still_one(tmp_path: Path) -> None:
    made = study(tmp_path)
    told = labels(to_svg.render(made, rows(made)))
    assert {"magnitude (not run)", "random (not run)"} < set(told)
    assert "dense" not in told


# --- what counts as done


def standing(plan: Plan) -> dict[str, str]:
    return {row.cell.name: row.state for row in rows(plan)}


def test_done_and_failed_cells_are_not_run_again_unless_asked(plan: Plan) -> None:
    found = rows(plan)
    assert [cell.name for cell in to_do(found, Asked())][:2] == ["teacher_guided-0.9-s0", "teacher_guided-0.9-s1"]
    assert len(to_do(found, Asked())) == 16
    assert {*to_do(found, Asked(again=True))} - {*to_do(found, Asked())} == {Cell("lamp", 0.9, 1)}
    assert len(to_do(found, Asked(limit=3))) == 3


@pytest.mark.parametrize(
    ("only", "number"),
    [
        (("lamp",), 4),
        (("@0.9",), 4),
        (("lamp@0.98", "random@0.98"), 6),
        (("lamp-0.98-s2",), 1),
        (("magnitude@0.9",), 0),
    ],
)
def test_cells_are_chosen_by_method_and_sparsity(only: tuple[str, ...], number: int, plan: Plan) -> None:
    assert len(to_do(rows(plan), Asked(only=only))) == number


def test_a_choice_of_nothing_is_a_mistake(plan: Plan) -> None:
    with pytest.raises(UserError, match="unknown cells 'lamb'"):
        to_do(rows(plan), Asked(only=("lamb",)))


def test_one_missing_file_is_one_cell_to_run(plan: Plan) -> None:
    before = standing(plan)
    plan.result(Cell("random", 0.9, 1)).unlink()
    assert standing(plan) == {**before, "random-0.9-s1": "not run"}


def test_a_result_of_another_recipe_counts_as_none_and_says_why(plan: Plan, tmp_path: Path) -> None:
    changed: dict[str, Any] = {"data": {"name": "synthetic"}, "retrain": {"epochs": 2}}
    now = study(tmp_path, methods=METHODS, sparsities=[0.9, 0.98], seeds=[0, 1, 2], set=changed)
    found = {row.cell.name: row for row in rows(now)}
    assert found["magnitude-0.9-s0"].state == "outdated"
    assert "retrain.epochs was 1.0, is 2.0" in found["magnitude-0.9-s0"].note
    assert found["magnitude-0.9-s0"].result is None
    assert Cell("magnitude", 0.9, 0) in to_do(rows(now), Asked())
    text = to_markdown.render(now, rows(now))
    assert "0 of 24 cells done, 0 failed, 24 not run (8 have a result of another recipe, which is not shown)" in text


def test_an_overview_lists_the_cells_and_what_comes_next(plan: Plan) -> None:
    told = dict(line.split(None, 1) for line in overview(str(plan.folder), Asked(limit=1)))
    assert told["magnitude-0.9-s0"] == "60.00 % in 10 s"
    assert told["lamp-0.9-s1"] == "failed: the training diverged: its loss is nan"
    assert [name for name, line in told.items() if line.endswith("next")] == ["teacher_guided-0.9-s0"]


@pytest.mark.parametrize("damage", ["", "{}", '{"state": "done", "test_top1": 1}'])
def test_a_damaged_result_is_told(damage: str, plan: Plan) -> None:
    path = plan.result(Cell("random", 0.9, 1))
    path.write_text(damage)
    with pytest.raises(UserError, match=re.escape(path.name)):
        rows(plan)


def test_a_result_under_another_cells_name_is_told(plan: Plan) -> None:
    plan.result(Cell("random", 0.9, 1)).write_bytes(plan.result(Cell("random", 0.9, 0)).read_bytes())
    with pytest.raises(UserError, match="another cell"):
        rows(plan)
