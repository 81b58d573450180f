"""The score of Alim et al. 2025 (arXiv 2511.16653): the averaged size of the gradient of CE + CA-KLD.

That the gradients are averaged exponentially with bias correction is the paper's; that their absolute value is what
is averaged is our reading (the signed average vanishes near convergence), see docs/design/0002-the-method.md.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("abs_gradient")
def ema_gradient(w: Tensor, signals: Signals) -> Tensor:
    """EMA|g|."""
    return signals["abs_gradient"]
