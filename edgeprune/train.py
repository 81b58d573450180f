"""Training: one straight loop for a CPU and a GPU, seeded, checkpointed after every epoch.

On a CPU the same recipe and seed give bit-identical weights, interrupted or not: an epoch's batches, augmentation and
dropout depend on (seed, epoch) alone. On a GPU the data stays resident and the forward pass runs in bfloat16.
"""

from __future__ import annotations

import math
import time
from itertools import islice
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor, nn

from edgeprune import learning_rate
from edgeprune.distill import Lesson
from edgeprune.optimise import Batches, backward, no_tick, set_rate, sgd, top1
from edgeprune.progress import Tick
from edgeprune.prune import masks as masking
from edgeprune.prune.task import counting
from edgeprune.recipe import Hardware, Training
from edgeprune.resuming import Stateful, load_progress, save_progress
from edgeprune.tables import LR_SCHEDULES
from runtimes.tables import pick, resolve

Epoch = dict[str, float]  # a row of history.json


def train(
    model: nn.Module,
    batches: Batches,
    validation: Batches,
    lesson: Lesson,
    settings: Training,
    shared: Hardware,
    *,
    seed: int,
    checkpoint: Path,
    masks: masking.Masks | None = None,
    on_step: Tick = no_tick,
) -> list[Epoch]:
    """Train `model` in place and return its history; it ends with the weights of the best validation epoch.

    Of equally good epochs the last counts. Resumes from `checkpoint` where there is one, and removes nothing: the
    caller deletes it once its result is saved.
    With `masks`, pruned weights are zero before the first and after every step. A loss that is not finite: `UserError`.
    """
    optimizer = sgd(model, settings.lr, shared)
    if masks:
        masking.hold(optimizer, model, masks)
    schedule: learning_rate.Schedule = resolve(pick(LR_SCHEDULES, settings.lr_schedule, "learning-rate schedule"))
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "lesson": lesson}
    told = load_progress(checkpoint, parts)
    history: list[Epoch] = told.get("history", [])
    best: dict[str, Tensor] = told.get("best", {})
    masking.bake(model, masks or {})
    steps = round(settings.epochs * len(batches))
    epochs = math.ceil(steps / len(batches))
    for epoch in range(len(history), epochs):
        started, losses = time.perf_counter(), list[float]()
        model.train()
        torch.manual_seed(seed * 10_007 + epoch)
        begun = epoch * len(batches)
        with counting(model) as seen:
            for step, batch in enumerate(islice(batches.epoch(epoch), steps - begun), start=begun):
                set_rate(optimizer, settings.lr * learning_rate.rate(schedule, step, steps, settings.warmup))
                optimizer.zero_grad(set_to_none=True)
                losses.append(backward(model, lesson, batch, step / steps))
                optimizer.step()
                on_step(step + 1, steps, f"epoch {epoch + 1}/{epochs}")
        accuracy = top1(model, validation)
        seconds = time.perf_counter() - started
        row = {"epoch": epoch + 1, "loss": fmean(losses), "validation_top1": accuracy, "images": seen.images}
        history.append({**row, "lr": optimizer.param_groups[0]["lr"], "seconds": round(seconds, 3)})
        if accuracy >= max(row["validation_top1"] for row in history):
            best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
        save_progress(checkpoint, parts, history=history, best=best)
    if best:
        model.load_state_dict(best)
        masking.bake(model, masks or {})
    return history
