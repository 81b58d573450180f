"""The empirical Fisher information in blocks along the diagonal (Singh and Alistarh 2020, arXiv 2004.14340)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from edgeprune.data.batches import Batch

BLOCK = 128  # weights; as in M-FAC (Frantar et al. 2021, arXiv 2107.03356)


def fisher_blocks(
    model: nn.Module,
    chosen: Mapping[str, Tensor],
    batches: Iterable[Batch],
    loss: Callable[[nn.Module, Batch], Tensor],
) -> dict[str, Tensor]:
    """F = 1/M sum_m g_m g_m^T within blocks of `BLOCK` consecutive weights of a layer: (blocks, BLOCK, BLOCK).

    g_m is the gradient of the guide's mean over batch m, as in M-FAC and WoodFisher, which average over small batches
    too. The last block is filled up with zeros. This takes `BLOCK` numbers of memory for each weight.
    """
    sums = {name: _zeros(w) for name, w in chosen.items()}
    count = 0
    for batch in batches:
        found = torch.autograd.grad(loss(model, batch), list(chosen.values()), materialize_grads=True)
        for total, g in zip(sums.values(), found, strict=True):
            rows = blocks(g)
            total.baddbmm_(rows.unsqueeze(2), rows.unsqueeze(1))
        count += 1
    return {name: total.div_(count) for name, total in sums.items()}


def blocks(w: Tensor) -> Tensor:
    """The values of `w` in rows of `BLOCK`, the last one filled up with zeros: (blocks, BLOCK)."""
    return pad(w.flatten(), (0, -w.numel() % BLOCK)).view(-1, BLOCK)


def unblocked(rows: Tensor, like: Tensor) -> Tensor:
    """What `blocks` did, undone: a tensor of the shape of `like`."""
    return rows.flatten()[: like.numel()].view_as(like)


def _zeros(w: Tensor) -> Tensor:
    return w.detach().new_zeros(-(-w.numel() // BLOCK), BLOCK, BLOCK)
