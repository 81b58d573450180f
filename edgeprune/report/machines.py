"""What the training steps were done with, and a doubt where that is not one machine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune.report.facts import describe
from edgeprune.report.records import Remark
from runtimes.files import read_json

STEPS = ("0-teacher", "1-prune", "2-retrain")  # the steps whose numbers depend on torch, device and threads


def of_training(run: Path) -> dict[str, dict[str, Any]]:
    """The `machine` that each finished step of `STEPS` recorded; a step that recorded none is left out."""
    found = {step: _machine(run / step / "completed.json") for step in STEPS}
    return {step: machine for step, machine in found.items() if machine}


def doubts(training: Mapping[str, Mapping[str, Any]]) -> list[Remark]:
    """One remark where the steps were not all done with the same torch, device and threads."""
    if all(machine == other for machine in training.values() for other in training.values()):
        return []
    done = "; ".join(f"{step} with {text}" for step, text in describe(training))
    message = f"the training steps were not done on one machine: {done}; doing them again need not give the same bytes"
    return [Remark("training", "different-machines", message)]


def _machine(path: Path) -> dict[str, Any]:
    told = read_json(path) if path.is_file() else {}
    machine = told.get("machine") if isinstance(told, dict) else None
    return dict(machine) if isinstance(machine, dict) else {}
