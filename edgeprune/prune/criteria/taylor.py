"""First-order Taylor expansion of the loss at a removed weight (Molchanov et al. 2017, arXiv 1611.06440, eq. 7)."""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("abs_gradient_weight")
def taylor(w: Tensor, signals: Signals) -> Tensor:
    """EMA|g * w|, each product taken at the weight of its own batch."""
    return signals["abs_gradient_weight"]
