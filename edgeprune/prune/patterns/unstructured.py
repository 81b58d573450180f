"""Any weight may go: the finest pattern, used by sparse CPU kernels and by nothing in TensorRT."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edgeprune.layers import Layer


@dataclass(frozen=True)
class Unstructured:
    """Keep the `count` highest scores, wherever they are."""

    name: str = "unstructured"

    def refuses(self, layer: Layer) -> str | None:
        """Every layer can be pruned weight by weight."""
        return None

    def keep(self, scores: Tensor, count: int) -> Tensor:
        """The `count` largest of `scores` (any shape); exact, ties by position."""
        order = scores.flatten().argsort(descending=True, stable=True)
        kept = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
        kept[order[:count]] = True
        return kept.view_as(scores)


UNSTRUCTURED = Unstructured()
