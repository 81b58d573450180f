"""Training: one straight loop for a CPU and a GPU, seeded, checkpointed after every epoch.

On a CPU the same recipe and seed give bit-identical weights, interrupted or not: an epoch's batches, augmentation and
dropout depend on (seed, epoch) alone. On a GPU the data stays resident and the forward pass runs in bfloat16.
"""

from __future__ import annotations

import io
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import learning_rate
from edgeprune.distill import Criterion
from edgeprune.optimise import Batches, Tick, backward, no_tick, sgd, top1
from edgeprune.prune import masks as masking
from edgeprune.recipe import Hardware, Training
from edgeprune.tables import LR_SCHEDULES
from runtimes.errors import UserError
from runtimes.files import write_bytes
from runtimes.tables import pick, resolve

Epoch = dict[str, float]  # a row of history.json


def train(
    model: nn.Module,
    batches: Batches,
    validation: Batches,
    criterion: Criterion,
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
        masking.bake(model, masks)
        masking.hold(optimizer, model, masks)
    schedule: learning_rate.Schedule = resolve(pick(LR_SCHEDULES, settings.lr_schedule, "learning-rate schedule"))
    history, best = _resume(checkpoint, model, optimizer)
    steps = settings.epochs * len(batches)
    for epoch in range(len(history), settings.epochs):
        started, total = time.perf_counter(), 0.0
        model.train()
        torch.manual_seed(seed * 10_007 + epoch)
        for index, (images, labels) in enumerate(batches.epoch(epoch)):
            step = epoch * len(batches) + index
            for group in optimizer.param_groups:
                group["lr"] = settings.lr * learning_rate.rate(schedule, step, steps, settings.warmup)
            optimizer.zero_grad(set_to_none=True)
            total += backward(model, criterion, images, labels)
            optimizer.step()
            on_step(step + 1, steps, f"epoch {epoch + 1}/{settings.epochs}")
        accuracy = top1(model, validation)
        seconds = time.perf_counter() - started
        history.append(_row(epoch, total / len(batches), accuracy, optimizer.param_groups[0]["lr"], seconds))
        if accuracy >= max(row["validation_top1"] for row in history):
            best = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
        _save(checkpoint, model, optimizer, history, best)
    if best:
        model.load_state_dict(best)
    return history


def _row(epoch: int, loss: float, accuracy: float, lr: float, seconds: float) -> Epoch:
    return {"epoch": epoch + 1, "loss": loss, "validation_top1": accuracy, "lr": lr, "seconds": round(seconds, 3)}


def _save(path: Path, model: nn.Module, optimizer: Any, history: list[Epoch], best: dict[str, Tensor]) -> None:
    buffer = io.BytesIO()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": history, "best": best}
    torch.save(state, buffer)
    write_bytes(path, buffer.getvalue())


def _resume(path: Path, model: nn.Module, optimizer: Any) -> tuple[list[Epoch], dict[str, Tensor]]:
    if not path.is_file():
        return [], {}
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is damaged: {error!s:.120}", "delete it: the step then starts over") from error
    return list(state["history"]), dict(state["best"])
