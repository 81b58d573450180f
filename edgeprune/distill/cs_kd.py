"""Class-wise self-knowledge distillation (Yun et al. 2020, CS-KD, arXiv 2003.13964, equations 1 and 2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill.ce import ce
from edgeprune.distill.kd import kd
from edgeprune.distill.lesson import Parts
from edgeprune.recipe import Objective


class CsKd:
    """The network's answer to another image of the same class is the teacher.

        L_distill = T^2 KL(softmax(f(x') / T) || softmax(f(x) / T)),   f(x') without a gradient

    As in the authors' code the partner x' passes the network in the mode it is in, so that batch norm sees it while
    training; unlike there it is never x itself, unless x is alone in its class.

    The paper adds lambda * L_distill to the cross entropy. Its lambda is a / (1 - a): `weight` is 0.5 for lambda = 1,
    and 0.75 for its 3 on fine-grained classes, the whole being 1 - a times the paper's loss. Its T is 4.
    """

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """Distance to the partners' logits, and cross entropy of the batch, each (b,)."""
        with torch.no_grad():
            partners = model(batch.partners()).float()
        distance = kd(logits, partners, batch.labels, objective)
        return Parts(distance, ce(logits, partners, batch.labels, objective), logits)

    def state_dict(self) -> dict[str, Any]:
        """Nothing is remembered."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing was remembered."""
