"""What passes between gathering and scoring: the signals of a layer, and the criterion that reads them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

Score = Callable[[Tensor, "Signals"], Tensor]
Update = Callable[[Tensor, Tensor, "Signals"], Tensor]


@dataclass(frozen=True)
class Signals:
    """Of one layer: its signals by name, a seed for criteria that draw lots, and the weight before the pass."""

    values: Mapping[str, Tensor]
    seed: int
    start: Tensor

    def __getitem__(self, name: str) -> Tensor:
        """One of `STATISTICS` (of the weight's shape) or of `PASSES` (see there)."""
        return self.values[name]


@dataclass(frozen=True)
class Criterion:
    """The importance of each weight.

    needs: the names of the signals that are read. score: (w, signals) -> scores of the weight's shape; larger is kept.
    update: (w, mask, signals) -> the weight with those that stay (mask True) making up for those that go, or None
    where they stay as they are; what it gives for the others is not looked at.
    """

    needs: frozenset[str]
    score: Score
    update: Update | None = None


def needs(*names: str) -> Callable[[Score], Criterion]:
    """Declare which signals a criterion's formula reads; only those are gathered."""
    return lambda score: Criterion(frozenset(names), score)
