"""What learning is made of, for scoring and retraining alike: batches, the optimiser, a backward pass, a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count as counting
from itertools import islice
from typing import Protocol

import torch
from torch import nn

from edgeprune.data.batches import Batch
from edgeprune.distill import Lesson
from edgeprune.recipe import Hardware
from runtimes.errors import UserError


class Batches(Protocol):
    """Labelled images in batches, the same for the same epoch number."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of one epoch, on the training device."""
        ...


def leading(batches: Batches, count: int, *, begun: int = 0) -> Iterator[Batch]:
    """`count` batches of epochs 0, 1, 2, ... after the first `begun`; whole epochs before them are not prepared."""
    first, skipped = divmod(begun, len(batches))
    endless = (batch for number in counting(first) for batch in batches.epoch(number))
    return islice(endless, skipped, skipped + count)


def no_tick(done: int, total: int, note: str) -> None:
    """For callers who do not want to be told."""


def device_of(shared: Hardware) -> torch.device:
    """The device a recipe asks for, its threads set; `cuda` where torch sees no GPU is a `UserError`."""
    if shared.threads:
        torch.set_num_threads(shared.threads)
    if shared.hardware == "cuda" and not torch.cuda.is_available():
        raise UserError("train.hardware = 'cuda', but torch sees no CUDA device", "set train.hardware=auto or cpu")
    return torch.device("cuda" if shared.hardware != "cpu" and torch.cuda.is_available() else "cpu")


def sgd(model: nn.Module, lr: float, shared: Hardware) -> torch.optim.SGD:
    """A fresh optimiser with the recipe's momentum and weight decay."""
    momentum, nesterov = shared.momentum, shared.nesterov and shared.momentum > 0
    return torch.optim.SGD(model.parameters(), lr, momentum, weight_decay=shared.weight_decay, nesterov=nesterov)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step, of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def backward(model: nn.Module, lesson: Lesson, batch: Batch, p: float) -> float:
    """One forward and backward pass (bfloat16 on a GPU that has it) at progress `p` of a training, from 0 to 1.

    Its loss; `UserError` if that is not finite.
    """
    device = batch.images.device.type
    bf16 = device == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        loss = lesson(model, batch, p)
    loss.backward()  # type: ignore[no-untyped-call]
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(
            f"the training diverged: its loss is {value}", "lower the learning rate of this step, --set ...lr="
        )
    return value


def top1(model: nn.Module, batches: Batches) -> float:
    """The share of images whose largest logit is their label's, in percent, in `eval()` and without bfloat16."""
    model.eval()
    hits = seen = 0
    with torch.no_grad():
        for batch in batches.epoch(0):
            hits += int((model(batch.images).argmax(dim=1) == batch.labels).sum())
            seen += len(batch)
    return 100.0 * hits / seen
