"""Masks: which weights are kept, held at exactly zero through training, and identified by one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.layers import weights

Masks = Mapping[str, Tensor]  # layer name -> boolean tensor of the weight's shape, True keeps


def bake(model: nn.Module, masks: Masks) -> None:
    """Set every pruned weight to +0.0, in place."""
    with torch.no_grad():
        for name, w in weights(model, masks).items():
            w.masked_fill_(~masks[name].to(w.device), 0.0)


def hold(optimizer: torch.optim.Optimizer, model: nn.Module, masks: Masks) -> None:
    """Keep the pruned weights at zero after every step of `optimizer`, whatever momentum and weight decay do."""
    placed = {
        name: mask.to(w.device) for (name, mask), w in zip(masks.items(), weights(model, masks).values(), strict=True)
    }
    optimizer.register_step_post_hook(lambda *_: bake(model, placed))


def of_zeros(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """The masks that a pruned network implies: False wherever a weight of the named layers is zero."""
    return {name: w.detach() != 0 for name, w in weights(model, dict.fromkeys(names)).items()}


def sha256(masks: Masks) -> str:
    """A hash of names, shapes and bits, in the order of the names: equal masks have equal hashes everywhere."""
    digest = hashlib.sha256()
    for name in sorted(masks):
        bits = masks[name].cpu().numpy()
        digest.update(f"{name}:{bits.shape}\n".encode())
        digest.update(np.packbits(bits).tobytes())
    return digest.hexdigest()
