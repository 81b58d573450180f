"""Progressive self-knowledge distillation (Kim et al. 2021, PS-KD, arXiv 2006.12000, equations 3 to 5)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill.ce import ce
from edgeprune.distill.lesson import Parts
from edgeprune.recipe import Objective


class PsKd:
    """What the network said of an image when it last saw it softens the image's label, more and more.

        L = -sum_c [(1 - alpha_t) y_c + alpha_t P_c] log softmax(f(x))_c,   alpha_t = alpha_T t / T_max

    P is the softmax at the last visit (the label itself before the first), t / T_max the progress p of the training,
    counted in steps where the paper counts epochs. alpha_T is `weight`, exactly, in the paper 0.8: the part given here
    is the cross entropy with the label softened by p, of which the lesson takes `weight`. There is no temperature.
    """

    def __init__(self) -> None:
        self.past: Tensor | None = None  # (n, C) softmax by index; rows of zeros were never visited

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """Cross entropy with the softened and with the plain labels, each (b,); remembers the batch's softmax."""
        past = self._room(batch.indices, logits)
        hard = F.one_hot(batch.labels, logits.shape[1]).to(past.dtype)
        said = past[batch.indices]
        said = torch.where(said.sum(dim=1, keepdim=True) > 0, said, hard)
        log_q = F.log_softmax(logits, dim=1)
        distance = -((p * said + (1 - p) * hard) * log_q).sum(dim=1)
        past[batch.indices] = log_q.detach().exp()
        return Parts(distance, ce(logits, logits, batch.labels, objective), logits)

    def state_dict(self) -> dict[str, Any]:
        """The memory, (n, C)."""
        return {} if self.past is None else {"past": self.past}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with that memory."""
        self.past = state["past"].clone() if "past" in state else None

    def _room(self, indices: Tensor, logits: Tensor) -> Tensor:
        """The memory, on the logits' device and long enough for these indices."""
        past = logits.new_zeros(0, logits.shape[1]) if self.past is None else self.past.to(logits.device)
        missing = int(indices.max()) + 1 - len(past)
        self.past = F.pad(past, (0, 0, 0, missing)) if missing > 0 else past
        return self.past
