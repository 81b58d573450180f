"""A control: as many weights of each layer as the criterion and the allocation say, but which of them is drawn by lot.

A mask that is no better than its shuffled self carries an allocation to the layers and nothing more (Frankle et al.
2021, "Pruning Neural Networks at Initialization: Why Are We Missing the Mark?", arXiv 2009.08576, section 5).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.layers import Layer
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED


@dataclass(frozen=True)
class Shuffled:
    """Keep `count` weights of those that are alive, by lot."""

    name: str = "shuffled"

    def refuses(self, layer: Layer) -> str | None:
        """Every layer can be pruned weight by weight."""
        return None

    def keep(self, scores: Tensor, count: int) -> Tensor:
        """`count` of the finite `scores` (any shape), equally likely; the lots follow from the scores' order.

        Scores that are a mask of `count` weights stay as they are.
        """
        best, least = scores == scores.max(), scores == scores.min()
        if int(best.sum()) == count and int(least.sum()) == scores.numel() - count:
            return best  # a mask, which fits itself
        order = scores.detach().flatten().argsort(stable=True).cpu()
        digest = hashlib.sha256(order.numpy().tobytes()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        lots = torch.rand(scores.shape, generator=generator).to(scores.device)
        return UNSTRUCTURED.keep(lots.where(scores.isfinite(), -1.0), count)


SHUFFLED = Shuffled()
