"""The product of the loss's Hessian and its gradient: how the gradient's norm changes with each weight (GraSP)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from edgeprune.data.batches import Batch


def hessian_gradient(
    model: nn.Module,
    chosen: Mapping[str, Tensor],
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
) -> dict[str, Tensor]:
    """H g of the guide averaged over all batches, over the chosen weights alone; of the weights' shapes.

    Wang et al. 2020 (arXiv 2002.07376), algorithm 2: g is gathered over all batches first and held fixed, then the
    derivative of g^T grad L is, batch by batch. The batches are held in memory, since they are needed twice.
    """
    held, w = list(batches), list(chosen.values())
    g = [torch.zeros_like(one) for one in w]
    for batch in held:
        _add(g, torch.autograd.grad(loss(model, batch), w, materialize_grads=True), len(held))
    hg = [torch.zeros_like(one) for one in w]
    for batch in held:
        slope = torch.autograd.grad(loss(model, batch), w, create_graph=True, materialize_grads=True)
        z = torch.stack([(mean * one).sum() for mean, one in zip(g, slope, strict=True)]).sum()
        if z.requires_grad:  # not where the loss is linear in all of them
            _add(hg, torch.autograd.grad(z, w, materialize_grads=True), len(held))
    return dict(zip(chosen, hg, strict=True))


def _add(sums: list[Tensor], values: Iterable[Tensor], count: int) -> None:
    with torch.no_grad():
        for total, value in zip(sums, values, strict=True):
            total.add_(value, alpha=1 / count)
