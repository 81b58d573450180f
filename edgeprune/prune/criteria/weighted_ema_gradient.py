"""|w| * EMA|g|: the paper's guided gradient, weighted by what removing the weight would move.

For gradients scattered normally about zero EMA|g| is proportional to sqrt(F_ii), the empirical Fisher information, so
this ranks like w^2 F: Optimal Brain Damage (LeCun et al. 1989, equation 5) with the Fisher diagonal for the Hessian's.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("abs_gradient")
def weighted_ema_gradient(w: Tensor, signals: Signals) -> Tensor:
    """|w| * EMA|g|."""
    return w.abs() * signals["abs_gradient"]
