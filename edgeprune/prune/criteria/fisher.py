"""Optimal Brain Damage with the diagonal of the empirical Fisher information for the Hessian's.

LeCun et al. 1989, equation 5, with E[g_i^2] for h_ii; Theis et al. 2018 (arXiv 1801.05787) prune by it. The gradients
are those of batches, not of single images: for batches of B images E[g^2] = F / B + (1 - 1 / B) (mean g)^2, which is
the information over B where the mean gradient is near zero, that is near a minimum of the guide.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("squared_gradient")
def fisher(w: Tensor, signals: Signals) -> Tensor:
    """w^2 EMA[g^2]; OBD's factor 1/2 changes no ranking and is left out."""
    return w.square() * signals["squared_gradient"]
