"""Studies for tests: a study.toml in a folder, and cells with results that nobody computed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeprune.study.plan import Cell, Plan, fingerprint, read_plan, settings
from edgeprune.study.results import Failed, Finished, Machine, Seconds, write_result

STUDY: dict[str, Any] = {
    "name": "tiny",
    "recipe": "quickstart",
    "methods": ["magnitude", "random"],
    "sparsities": [0.9],
    "seeds": [0, 1],
    "ours": "magnitude",
    "set": {
        "data": {"name": "synthetic"},
        "train": {"batch_size": 64},
        "teacher": {"epochs": 1},
        "student": {"epochs": 1},
        "prune": {"epochs": 1, "repair_batches": 2},
        "retrain": {"epochs": 1},
    },
}
MACHINE = Machine(torch="2.0", device="a processor", threads=1, workers=2)


def write_study(folder: Path, **changes: Any) -> Path:
    """A study.toml in `folder`: `STUDY` with `changes`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "study.toml"
    path.write_text("\n".join(f"{key} = {_toml(value)}" for key, value in {**STUDY, **changes}.items()) + "\n")
    return path


def study(folder: Path, **changes: Any) -> Plan:
    """The plan of such a study."""
    return read_plan(str(write_study(folder, **changes)))


def finish(plan: Plan, cell: Cell, test_top1: float, **changes: Any) -> Path:
    """Write the result of a cell as if it had been run."""
    told: dict[str, Any] = {
        "dense_test_top1": 95.0 + cell.seed,
        "teacher_test_top1": 96.0,
        "validation_top1_before": 40.0,
        "validation_top1_after": test_top1 + 1,
        "sparsity_achieved": cell.sparsity,
        "sparsity_paper": cell.sparsity - 0.01,
        "mask_sha256": "0" * 64,
        "wall_clock_s": Seconds(prune=1.0, retrain=9.0),
        "epochs_equivalent": 2.5,
        "start": {"dense": str(cell.seed)},
        "warnings": (),
    }
    write_result(plan.result(cell), Finished(**_told(plan, cell), test_top1=test_top1, **{**told, **changes}))
    return plan.result(cell)


def fail(plan: Plan, cell: Cell, message: str) -> None:
    """Write the result of a cell as if it had failed."""
    write_result(plan.result(cell), Failed(**_told(plan, cell), message=message))


def _told(plan: Plan, cell: Cell) -> dict[str, Any]:
    recipe = plan.recipes[cell]
    return {
        "method": cell.method,
        "sparsity": cell.sparsity,
        "seed": cell.seed,
        "recipe": settings(recipe),
        "recipe_sha256": fingerprint(recipe),
        "machine": MACHINE,
    }


def _toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f'"{key}" = {_toml(inner)}' for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
