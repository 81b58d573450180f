"""The temperature T of the distillation over a training: it stands, it falls, or it is learnt against the student."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from runtimes.errors import UserError

SPAN = 20.0  # T is learnt between 1 and 1 + SPAN
LR, MOMENTUM = 0.05, 0.9  # of the learnt temperature
GROWTH = 10 / 240  # share of the training in which the reversed gradient comes to its full strength


class Temperature(Protocol):
    """T as a function of the progress p of a training, from 0 to 1."""

    def __call__(self, p: float) -> float:
        """T at progress p."""
        ...

    def learn(self, loss: Callable[[Tensor], Tensor], p: float) -> None:
        """Look at the distillation loss (scalar) as a function of T (scalar), and move."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        ...


class Constant:
    """T, throughout."""

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def __call__(self, p: float) -> float:
        return self.temperature

    def learn(self, loss: Callable[[Tensor], Tensor], p: float) -> None:
        pass

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


class Annealed(Constant):
    """T + (1 - T) p: linearly from T to 1, where the teacher is as sure as it really is."""

    def __call__(self, p: float) -> float:
        return self.temperature + (1.0 - self.temperature) * p


class Learned:
    """The global curriculum temperature (Li et al. 2023, CTKD, arXiv 2211.16231, equations 3 to 5).

        T = 1 + 20 sigmoid(theta),   theta <- theta + lr * lambda(p) * d L_distill / d theta

    The gradient is reversed: theta climbs the loss that the student descends, which makes the lesson harder, at
    first softly: lambda grows as a cosine from 0 to 1 over the first 10 of the paper's 240 epochs and then stands.

    As in the authors' code theta moves by SGD with momentum 0.9 at rate 0.05. Unlike there it starts at the T of the
    objective (theirs at theta = 1, T = 15.6), its rate does not decay with the student's, it does not decay itself, and
    the loss it climbs is L_distill, not a * L_distill.
    """

    def __init__(self, temperature: float) -> None:
        if not 1.0 < temperature < 1.0 + SPAN:
            raise UserError(
                f"a temperature that is learned lies between 1 and {1 + SPAN:g}; it cannot start at {temperature:g}",
                "set temperature=3",
            )
        share = (temperature - 1.0) / SPAN
        self.theta = torch.tensor(math.log(share / (1.0 - share)), dtype=torch.float64)
        self.velocity = torch.zeros_like(self.theta)

    def __call__(self, p: float) -> float:
        return float(1.0 + SPAN * self.theta.sigmoid())

    def learn(self, loss: Callable[[Tensor], Tensor], p: float) -> None:
        with torch.enable_grad():
            theta = self.theta.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(1.0 + SPAN * theta.sigmoid()), theta)
        strength = 0.5 * (1.0 - math.cos(math.pi * min(1.0, p / GROWTH)))
        self.velocity = MOMENTUM * self.velocity + strength * gradient
        self.theta = self.theta + LR * self.velocity

    def state_dict(self) -> dict[str, Any]:
        return {"theta": self.theta, "velocity": self.velocity}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.theta, self.velocity = state["theta"].clone(), state["velocity"].clone()
