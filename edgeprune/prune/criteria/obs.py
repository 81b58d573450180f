"""Optimal Brain Surgeon with the empirical Fisher information in blocks (Singh and Alistarh 2020, WoodFisher).

arXiv 2004.14340; after Hassibi and Stork 1992, "Second order derivatives for network pruning: Optimal Brain Surgeon".
Blocks are 128 consecutive weights of a layer. F is damped by 1 % of the layer's mean diagonal, as in GPTQ (Frantar et
al. 2022, arXiv 2210.17323), so that the scale of the guide does not matter; WoodFisher adds a constant. The gradients
are those of batches, see `fisher`. Many small steps are the schedule `staged`.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from edgeprune.prune.signals import Criterion, Signals
from edgeprune.prune.signals.fisher_blocks import blocks, unblocked

DAMPING = 0.01  # of the mean diagonal
_AT_ONCE = 1024  # blocks in double precision


def saliency(w: Tensor, signals: Signals) -> Tensor:
    """w_i^2 / (2 [F^-1]_ii): how much the loss rises when w_i goes and its block makes up for it.

    The inverse is over the weights that are not zero yet: the others cannot make up for anything.
    """
    scores = []
    for F, w_b in zip(_damped(signals["fisher_blocks"], w.numel()), _parts(w.detach()), strict=True):
        inverse = torch.linalg.inv(_restricted(F, w_b != 0))
        scores.append(w_b.square() / (2 * inverse.diagonal(dim1=1, dim2=2)))
    return unblocked(torch.cat(scores), w)


def compensated(w: Tensor, mask: Tensor, signals: Signals) -> Tensor:
    """The minimum of 1/2 dw^T F dw in which every weight outside of `mask` is zero, block by block.

    With S the weights that stay and R those that go, dw_S = F_SS^-1 F_SR w_R: the joint solution for all of R, which is
    dw = -F^-1 E (E^T F^-1 E)^-1 E^T w with the columns of E selecting R. Weights that were zero before change nothing.
    """
    damped, moved = _damped(signals["fisher_blocks"], w.numel()), []
    for F, w_b, stays in zip(damped, _parts(w.detach()), _parts(mask), strict=True):
        gone = w_b.double().masked_fill(stays, 0.0)
        pull = torch.einsum("bij,bj->bi", F, gone).masked_fill(~stays, 0.0)
        dw = torch.linalg.solve(_restricted(F, stays), pull)
        moved.append((w_b + dw).masked_fill(~stays, 0.0).to(w.dtype))
    return unblocked(torch.cat(moved), w)


obs = Criterion(frozenset({"fisher_blocks"}), saliency, compensated)


def _parts(w: Tensor) -> tuple[Tensor, ...]:
    return torch.split(blocks(w), _AT_ONCE)


def _damped(F: Tensor, size: int) -> Iterator[Tensor]:
    """F + lambda I in double precision, part by part; a layer without any gradient gets the identity."""
    mean = F.diagonal(dim1=1, dim2=2).sum(dtype=torch.float64) / size
    damping = torch.where(mean > 0, DAMPING * mean, 1.0)
    eye = torch.eye(F.shape[1], dtype=torch.float64, device=F.device)
    return (part.double() + damping * eye for part in torch.split(F, _AT_ONCE))


def _restricted(F: Tensor, among: Tensor) -> Tensor:
    """F over the weights in `among` (blocks, n); the others stand alone, with ones on the diagonal."""
    both = among.unsqueeze(2) & among.unsqueeze(1)
    return torch.where(both, F, torch.diag_embed((~among).to(F.dtype)))
