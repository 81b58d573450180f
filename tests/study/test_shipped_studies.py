"""The studies that ship: each can be read, the digits have every method, the paper's grid has the paper's rows."""

from __future__ import annotations

import pytest
from architecture_rules import ROOT

from edgeprune.methods import ALIASES, METHODS
from edgeprune.study.plan import read_plan, shipped
from edgeprune.study.results import rows

PAPER = {"paper/cifar10": (0.505, 50.46), "paper/cifar100": (0.51, 50.75), "paper/tinyimagenet": (0.505, 50.02)}
STUDIES = sorted(
    path.parent.relative_to(ROOT / "studies").as_posix() for path in (ROOT / "studies").rglob("study.toml")
)


def test_they_are_found_by_name() -> None:
    assert {"digits", "cifar10-resnet20", *PAPER} == set(STUDIES) <= shipped().keys()


@pytest.mark.parametrize("name", STUDIES)
def test_each_can_be_read_with_the_results_that_are_there(name: str) -> None:
    plan = read_plan(str(ROOT / "studies" / name))
    assert {row.state for row in rows(plan)} <= {"done", "failed", "not run"}, "an outdated result is committed"
    cells = {cell.name for cell in plan.recipes}
    strange = [path.name for path in plan.folder.glob("cells/*") if path.stem not in cells]
    assert not strange, "results of cells that the study has no more"


def test_the_digits_have_every_method() -> None:
    study = read_plan(str(ROOT / "studies" / "digits")).study
    assert {ALIASES.get(name, name) for name in study.methods} == set(METHODS)


@pytest.mark.parametrize(("name", "low"), PAPER.items())
def test_the_papers_grid_has_its_rows_and_sparsities(name: str, low: tuple[float, float]) -> None:
    study = read_plan(str(ROOT / "studies" / name)).study
    assert study.sparsities == (0.985, low[0])
    assert low[1] in [round(100 * one.sparsity, 2) for one in study.published if one.sparsity]
    rivals = {f"{loss}_{way}" for loss in ("cs_kd", "ps_kd", "dlb") for way in ("simple", "epsd")}
    assert {"teacher_guided", "teacher_guided_ce", "colt", "egp", "imp_slr", "default", *rivals} == set(study.methods)
