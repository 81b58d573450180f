"""Self-distillation from the last mini-batch (Shen et al. 2022, DLB, arXiv 2203.16172, equations 3 to 5)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill.ce import ce
from edgeprune.distill.kd import kd
from edgeprune.distill.lesson import Parts
from edgeprune.recipe import Objective


class Dlb:
    """Each batch comes twice: at its own step, and augmented anew at the next, where its first logits are the teacher.

        L_distill = T^2 KL(softmax(f_{t-1}(x_{t-1}) / T) || softmax(f_t(x'_{t-1}) / T)),   f_{t-1} without a gradient

    Cross entropy is that of both batches, x_t and x'_{t-1}, together. As in the authors' code each passes the network
    by itself. At the first step there is no last one, and no distance.

    The paper adds alpha * L_distill to the cross entropy. Its alpha is a / (1 - a): `weight` is 0.5 for alpha = 1, the
    whole being 1 - a times the paper's loss. Its T is 3.
    """

    def __init__(self) -> None:
        self.last: dict[str, Tensor] = {}  # of the step before: its images anew, labels, logits

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """Distance of the last batch (b'), cross entropy of both (b' + b); remembers this one."""
        last = self.last
        self.last = {"images": batch.again(), "labels": batch.labels, "logits": logits.detach()}
        if not last:
            labelled = ce(logits, logits, batch.labels, objective)
            return Parts(0.0 * labelled, labelled, logits)
        before = {key: value.to(logits.device) for key, value in last.items()}
        both = torch.cat([model(before["images"]).float(), logits])
        labels = torch.cat([before["labels"], batch.labels])
        now = both[: len(before["labels"])]
        distance = kd(now, before["logits"], before["labels"], objective)
        return Parts(distance, ce(both, both, labels, objective), both)

    def state_dict(self) -> dict[str, Any]:
        """The last batch: images anew, labels, logits."""
        return dict(self.last)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after that batch."""
        self.last = dict(state)
