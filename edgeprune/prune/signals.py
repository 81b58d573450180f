"""What a criterion may look at: statistics of the gradient, gathered while the student learns under the guide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

# name -> what one batch contributes, from the gradient and the weight it was taken at (same shape as the weight)
STATISTICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_gradient": lambda g, w: g.abs(),
    "abs_gradient_weight": lambda g, w: (g * w).abs(),
}


@dataclass(frozen=True)
class Signals:
    """Of one layer: its averaged statistics (each of the weight's shape), and a seed for criteria that draw lots."""

    averages: Mapping[str, Tensor]
    seed: int

    def __getitem__(self, statistic: str) -> Tensor:
        return self.averages[statistic]


@dataclass(frozen=True)
class Criterion:
    """A formula for the importance of each weight and the statistics it needs."""

    needs: frozenset[str]
    score: Callable[[Tensor, Signals], Tensor]

    def __call__(self, w: Tensor, signals: Signals) -> Tensor:
        """Scores of the weight's shape; larger is kept."""
        return self.score(w, signals)


def needs(*statistics: str) -> Callable[[Callable[[Tensor, Signals], Tensor]], Criterion]:
    """Declare which of `STATISTICS` a criterion's formula reads; `signals` gathers only those."""
    return lambda score: Criterion(frozenset(statistics), score)


class MovingAverage:
    """Exponential moving average with bias correction (Kingma and Ba 2015, Adam, algorithm 1):

    m_t = beta * m_{t-1} + (1 - beta) * x_t, and m_t / (1 - beta^t), which for beta = 0 is the last x and tends to the
    plain mean as beta tends to 1. The correction is one scalar for all weights and so cannot change a global ranking.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.t = 0
        self._m: dict[tuple[str, str], Tensor] = {}

    def update(self, layers: Mapping[str, Tensor], statistics: Iterable[str]) -> None:
        """Take in one batch: `layers` maps names to weights whose `.grad` is filled (None counts as zero)."""
        self.t += 1
        for name, w in layers.items():
            for statistic in statistics:
                m = self._m.setdefault((name, statistic), w.detach().new_zeros(w.shape))
                m.mul_(self.beta)
                if w.grad is not None:
                    m.add_(STATISTICS[statistic](w.grad.float(), w.detach()), alpha=1 - self.beta)

    def signals(self, layer: str, seed: int) -> Signals:
        """The corrected averages of one layer."""
        correction = 1 - self.beta**self.t
        return Signals({key[1]: m / correction for key, m in self._m.items() if key[0] == layer}, seed)
