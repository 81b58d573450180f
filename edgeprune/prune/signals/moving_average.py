"""Averages of what the gradient does while the student is fine-tuned under the guide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from edgeprune.prune.signals.records import Signals

# name -> what one batch contributes, from the gradient and the weight it was taken at (same shape as the weight)
STATISTICS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_gradient": lambda g, w: g.abs(),
    "abs_gradient_weight": lambda g, w: (g * w).abs(),
    "gradient": lambda g, w: g,
    "squared_gradient": lambda g, w: g.square(),
}


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
                m = self._m.setdefault((name, statistic), _zeros(w))
                m.mul_(self.beta)
                if w.grad is not None:
                    m.add_(STATISTICS[statistic](w.grad.to(m.dtype), w.detach()), alpha=1 - self.beta)

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on averaging."""
        return {"t": self.t, "m": dict(self._m)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.t, self._m = state["t"], dict(state["m"])

    def signals(self, layer: str, seed: int, *, start: Tensor, own: Mapping[str, Tensor]) -> Signals:
        """All signals of one layer: the corrected averages, and `own`, those that had a pass of their own.

        `start` is the weight before the first batch.
        """
        correction = 1 - self.beta**self.t
        averages = {statistic: m / correction for (name, statistic), m in self._m.items() if name == layer}
        return Signals({**averages, **own}, seed, start)


def _zeros(w: Tensor) -> Tensor:
    """At least in single precision: an average of small steps would not move in a shorter one."""
    return torch.zeros_like(w, dtype=torch.promote_types(w.dtype, torch.float32), requires_grad=False)
