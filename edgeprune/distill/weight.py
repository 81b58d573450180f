"""The weight a of the distillation in L = a * L_distill + (1 - a) * CE, over a training and its batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# (the objective's weight, progress 0 .. 1, mean distance, mean cross entropy, the student's logits) -> a
Weight = Callable[[float, float, Tensor, Tensor, Tensor], float | Tensor]


def constant(weight: float, p: float, distance: Tensor, labelled: Tensor, logits: Tensor) -> float:
    """a = weight."""
    return weight


def decayed(weight: float, p: float, distance: Tensor, labelled: Tensor, logits: Tensor) -> float:
    """a = weight * (1 - p): the teacher's part fades linearly, the last steps are the labels' alone."""
    return weight * (1.0 - p)


def balanced(weight: float, p: float, distance: Tensor, labelled: Tensor, logits: Tensor) -> float | Tensor:
    """The a at which both parts pull equally hard at the student's logits z in this batch (scalar, no gradient).

    With D = |d L_distill / dz| and E = |d CE / dz|, Frobenius norms over the batch:

        a D / ((1 - a) E) = weight / (1 - weight),   a = weight E / (weight E + (1 - weight) D)

    so 0.5 makes them equal. Where one part does not pull at all there is nothing to balance, and a = weight.

    Ours. GradNorm (Chen et al. 2018, arXiv 1711.02257) compares the gradients at the last shared layer's weights; those
    at the logits, through which both parts reach every weight, need no backward pass through the network.
    """
    D, E = _pull(distance, logits), _pull(labelled, logits)
    a = weight * E / (weight * E + (1 - weight) * D)
    return torch.where((D > 0) & (E > 0), a, weight)


def _pull(loss: Tensor, logits: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True, materialize_grads=True)
    return gradient.square().sum().sqrt()
