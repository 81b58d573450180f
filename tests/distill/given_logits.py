"""Logits that are given: for tests in which no network has to compute any."""

import torch
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of, live
from edgeprune.recipe import Objective


class Says(nn.Module):
    """A network that gives these logits, whatever it sees."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits


def drawn(n: int = 5, classes: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a student and of a teacher (n, classes), and labels (n,)."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, n, classes, generator=draw, dtype=torch.float64)
    return 2 * student, 5 * teacher, torch.randint(0, classes, (n,), generator=draw)


def total(objective: Objective, p: float = 0.5) -> float:
    """The whole objective on given logits; the images are the teacher's logits, which it hands through."""
    s, t, y = drawn()
    return lesson_of(objective, live(nn.Identity()))(Says(s), Batch(t, y), p).item()
