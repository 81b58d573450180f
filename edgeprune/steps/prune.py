"""1-prune: the mask, and the student under it before any retraining (batch norm re-estimated)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save
from torch import nn

from edgeprune import prune as pruning
from edgeprune.models.checkpoint import save_state
from edgeprune.optimise import top1
from edgeprune.progress import Tick
from edgeprune.prune import masks as masking
from edgeprune.prune.task import Task
from edgeprune.workbench import Workbench
from runtimes.files import write_bytes, write_json


def prune(bench: Workbench, tick: Tick) -> list[Path]:
    """Prune the dense student by the recipe's schedule, and write masks, student and a log of the scoring."""
    folder, recipe = bench.run["prune"], bench.recipe
    if recipe.student.holds == "dense":
        student = bench.dense()
        task, reasons = _task(bench, student, folder, tick)
        outcome = pruning.prune(task, reasons)
    else:
        student = bench.from_user("student")
        outcome = pruning.already_pruned(student, bench.pattern(), recipe.prune)
    scoring = {
        "mask_sha256": masking.sha256(outcome.masks),
        "validation_top1": top1(student, bench.validation()),
        "kept": {name: int(mask.sum()) for name, mask in outcome.masks.items()},
        "reasons": outcome.reasons,
        "warnings": list(outcome.warnings),
        "guide_loss": list(outcome.guide_loss),
        "student_images": outcome.student_images,
    }
    write_json(folder / "scoring.json", scoring)
    write_masks(folder / "masks.safetensors", outcome.masks)
    save_state(student, folder / "student.safetensors", {"role": "pruned"})
    return [folder / name for name in ("scoring.json", "masks.safetensors", "student.safetensors")]


def _task(bench: Workbench, student: nn.Module, folder: Path, tick: Tick) -> tuple[Task, dict[str, str]]:
    """What there is to prune, and why the other layers stay dense."""
    recipe, pattern = bench.recipe, bench.pattern()
    chosen, reasons = pruning.choose(student, pattern, recipe.prune)
    task = Task(
        student=student,
        teacher=bench.teacher_for(recipe.prune.guide, recipe.retrain.objective),
        batches=bench.training("prune"),
        validation=bench.validation(),
        recipe=recipe,
        pattern=pattern,
        chosen=chosen,
        part=lambda classes: (bench.training("prune", classes), bench.validation(classes)),
        checkpoints=folder / "rounds",
        seed=bench.seed("prune"),
        on_step=tick,
    )
    return task, reasons


def write_masks(path: Path, masks: masking.Masks) -> None:
    """Masks as safetensors, one byte a weight, in the order of the names."""
    write_bytes(path, save({name: masks[name].to(torch.uint8).contiguous() for name in sorted(masks)}))
