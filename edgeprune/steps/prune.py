"""1-prune: the mask, and the student under it before any retraining (batch norm re-estimated)."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from edgeprune import prune as pruning
from edgeprune.bench import Bench
from edgeprune.models.checkpoint import save_state
from edgeprune.optimise import top1
from edgeprune.progress import Tick
from edgeprune.prune import masks as masking
from runtimes.files import write_bytes, write_json


def prune(bench: Bench, tick: Tick) -> list[Path]:
    """Score the dense student under the guide, mask it once, and write masks, student and a log of the scoring."""
    folder, recipe = bench.run["prune"], bench.recipe
    if recipe.student.holds == "dense":
        student, batches = bench.dense(), bench.training("prune")
        seed = bench.seed("prune")
        outcome = pruning.prune(
            student, bench.teacher_for(recipe.prune.guide), batches, recipe.prune, recipe.train, seed=seed, on_step=tick
        )
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
    }
    write_json(folder / "scoring.json", scoring)
    write_masks(folder / "masks.safetensors", outcome.masks)
    save_state(student, folder / "student.safetensors", {"role": "pruned"})
    return [folder / name for name in ("scoring.json", "masks.safetensors", "student.safetensors")]


def write_masks(path: Path, masks: masking.Masks) -> None:
    """Masks as safetensors, one byte a weight, in the order of the names."""
    write_bytes(path, save({name: masks[name].to(torch.uint8).contiguous() for name in sorted(masks)}))
