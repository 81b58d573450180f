"""What learning is made of, for scoring and retraining alike: batches, the optimiser, a backward pass, a score."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count as counting
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor, nn

from edgeprune.distill import Criterion
from edgeprune.recipe import Hardware
from runtimes.errors import UserError


class Batches(Protocol):
    """Images and labels in batches, the same for the same epoch number."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B, C, H, W) float32, normalised, and labels (B,), on the training device."""
        ...


def leading(batches: Batches, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The first `count` batches of epochs 0, 1, 2, ..."""
    return islice((batch for number in counting() for batch in batches.epoch(number)), count)


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


def backward(model: nn.Module, criterion: Criterion, images: Tensor, labels: Tensor) -> float:
    """One forward and backward pass (bfloat16 on a GPU that has it); the loss, `UserError` if it is not finite."""
    bf16 = images.device.type == "cuda" and torch.cuda.is_bf16_supported()
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=bf16):
        loss = criterion(model(images), images, labels)
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
        for images, labels in batches.epoch(0):
            hits += int((model(images).argmax(dim=1) == labels).sum())
            seen += len(labels)
    return 100.0 * hits / seen
