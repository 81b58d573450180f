"""Lots: the control that every criterion has to beat."""

import torch
from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs()
def random(w: Tensor, signals: Signals) -> Tensor:
    """Uniform on [0, 1), drawn on the CPU from the layer's own seed: the same on every device."""
    generator = torch.Generator().manual_seed(signals.seed)
    return torch.rand(w.shape, generator=generator).to(w.device)
