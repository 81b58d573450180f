"""What a pruning schedule works with: the student, what it learns from, and what the recipe asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeprune.distill import Teacher
from edgeprune.layers import weights
from edgeprune.optimise import Batches, no_tick
from edgeprune.progress import Tick
from edgeprune.prune.patterns import Pattern
from edgeprune.recipe import Recipe

Part = Callable[[Sequence[int]], tuple[Batches, Batches]]


@dataclass(frozen=True)
class Task:
    """One network to prune, in place.

    `chosen` names the layers that are pruned. `part` gives the training and the validation batches of some classes
    only, which keep their numbers. `checkpoints` is a folder for what a schedule with trainings of its own must save.
    """

    student: nn.Module
    teacher: Teacher | None
    batches: Batches
    validation: Batches
    recipe: Recipe
    pattern: Pattern
    chosen: tuple[str, ...]
    part: Part
    checkpoints: Path
    seed: int
    on_step: Tick = field(default=no_tick)

    def weights(self) -> dict[str, Tensor]:
        """The weights that are pruned, by layer name."""
        return weights(self.student, dict.fromkeys(self.chosen))


class Seen:
    """How many images have gone forward and backward through a network."""

    def __init__(self) -> None:
        self.images = 0


@contextmanager
def counting(model: nn.Module) -> Iterator[Seen]:
    """Count the images of every forward pass through `model`, or a deep copy of it, that a backward pass may follow."""
    seen = Seen()

    def count(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.images += len(inputs[0]) * torch.is_grad_enabled()

    hook = model.register_forward_pre_hook(count)
    try:
        yield seen
    finally:
        hook.remove()
