"""Connection sensitivity (Lee et al. 2019, SNIP, arXiv 1810.02340, section 4).

dL/dc at c = 1, where c multiplies the weight: how the loss answers when a connection begins to vanish. The published
method prunes once, at initialisation, with gradients at fixed weights: `prune.lr = 0`. Dividing by the sum over all
weights, as the paper does, changes no ranking and is left out. `taylor` differs in averaging the absolute values.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("gradient")
def snip(w: Tensor, signals: Signals) -> Tensor:
    """|w * EMA g|: batches whose gradients disagree cancel."""
    return (w * signals["gradient"]).abs()
