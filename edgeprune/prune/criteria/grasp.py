"""Gradient signal preservation (Wang et al. 2020, GraSP, arXiv 2002.07376, section 4).

Removing w_i changes the squared norm of the gradient g by -2 w_i (H g)_i to first order, and with it what training can
gain. The paper's score is S = -w * Hg, and the largest S are removed; here larger is kept, so it is the negative, and
may be below zero. The published method prunes at initialisation with gradients at fixed weights (`prune.lr = 0`) and
divides the logits by 200, which is a choice of the loss: this is the plain Hg of whatever guide is set.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("hessian_gradient")
def grasp(w: Tensor, signals: Signals) -> Tensor:
    """w * Hg = -S: the weights are kept whose removal would weaken the gradient most."""
    return w * signals["hessian_gradient"]
