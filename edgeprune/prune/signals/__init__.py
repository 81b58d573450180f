"""What a criterion may look at beside the weight itself: signals, each declared by the criteria that need it.

There are two kinds. `STATISTICS` are averaged over the batches while the student is fine-tuned under the guide.
`PASSES` have a pass of their own over the data after it, at the weights where the fine-tuning ended; each is one file,
`(model, chosen, batches, loss) -> signal by layer`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from itertools import tee

from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.layers import weights
from edgeprune.prune.signals.moving_average import STATISTICS, MovingAverage
from edgeprune.prune.signals.records import Criterion, Signals, needs
from runtimes.tables import resolve

__all__ = ["DATA_FREE", "PASSES", "STATISTICS", "Criterion", "MovingAverage", "Pass", "Signals", "needs", "passes"]

Loss = Callable[[nn.Module, Batch], Tensor]  # the guide: runs the model on a batch, gives a scalar
Pass = Callable[[nn.Module, Mapping[str, Tensor], Iterable[Batch], Loss], dict[str, Tensor]]

PASSES: Mapping[str, str] = {
    "entropy": "edgeprune.prune.signals.entropy:entropy",
    "fisher_blocks": "edgeprune.prune.signals.fisher_blocks:fisher_blocks",
    "hessian_gradient": "edgeprune.prune.signals.hessian_gradient:hessian_gradient",
    "synaptic_flow": "edgeprune.prune.signals.synaptic_flow:synaptic_flow",
}
DATA_FREE = frozenset({"synaptic_flow"})  # of a batch, only the shape of its images matters


def passes(
    names: Iterable[str], model: nn.Module, chosen: Iterable[str], batches: Iterable[Batch], loss: Loss
) -> dict[str, dict[str, Tensor]]:
    """The signals of `PASSES` called `names`, of the layers called `chosen`: signal -> layer -> tensor.

    Each pass works on a copy of `model`, in the mode (training or not) that it is in: weights, gradients, statistics of
    batch norm and modes of `model` stay as they are, whatever a pass does or raises.
    """
    wanted = sorted(names)
    found = {}
    for name, own in zip(wanted, tee(batches, len(wanted)), strict=True):
        signal: Pass = resolve(PASSES[name])
        twin = copy.deepcopy(model)
        twin.zero_grad(set_to_none=True)
        found[name] = signal(twin, weights(twin, dict.fromkeys(chosen)), own, loss)
    return found
