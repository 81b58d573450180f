"""N:M sparsity (Mishra et al. 2021, arXiv 2104.08378): of every M consecutive input channels, N are kept.

The groups run along dim 1 of the weight (input channels of a convolution, the reduction axis of a linear layer) at each
kernel position, aligned at multiples of M: what NVIDIA's sparse tensor cores and TensorRT accept for 2:4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.layers import Layer


@dataclass(frozen=True)
class NOfM:
    """Keep exactly `n` of every aligned group of `m` input channels."""

    n: int
    m: int

    @property
    def name(self) -> str:
        """`2:4` and the like."""
        return f"{self.n}:{self.m}"

    def refuses(self, layer: Layer) -> str | None:
        """Groups need a dense layer whose input channels divide by M; the classifier's few outputs gain nothing."""
        if layer.kind == "norm":
            return "a norm has no input channels to group"
        if layer.classifier:
            return "the classifier stays dense under N:M"
        if layer.groups > 1:
            return f"{layer.groups} groups: N:M needs a convolution that reads all its input channels"
        if layer.shape[1] % self.m:
            return f"{layer.shape[1]} input channels are not a multiple of {self.m}"
        return None

    def holds(self, mask: Tensor) -> bool:
        """Whether every group along dim 1 of `mask` (K, C, ...) keeps `n` at most; C that M does not divide never."""
        if mask.ndim < 2 or mask.shape[1] % self.m:
            return False
        return int(mask.movedim(1, -1).reshape(-1, self.m).sum(dim=1).max()) <= self.n

    def keep(self, scores: Tensor, count: int) -> Tensor:
        """The `n` best of each group along dim 1 of `scores` (K, C, ...).

        While more than N/M are to be kept, groups are whole or follow the pattern, those that lose least first, so that
        at least `count` weights stay.
        """
        last = scores.movedim(1, -1)
        groups = last.reshape(-1, self.m)
        order = groups.argsort(dim=1, descending=True, stable=True)
        kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order[:, : self.n], True)
        whole = len(groups) - (scores.numel() - count) // (self.m - self.n)
        if whole > 0:
            lost = groups.gather(1, order[:, self.n :]).sum(dim=1)
            kept[lost.argsort(descending=True, stable=True)[:whole]] = True
        return kept.view(last.shape).movedim(-1, 1)


TWO_OF_FOUR = NOfM(2, 4)
ONE_OF_FOUR = NOfM(1, 4)
