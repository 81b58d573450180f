"""Prospect pruning (Alizadeh et al. 2022, ProsPr, arXiv 2202.08132), in its first-order form.

dL(w_K)/dm at m = 1, where w_0 * m is trained for K steps to w_K: with the steps' own dependence on m left out this is
g(w_K) * w_0. The last scoring batch is the paper's outer one, those before it make the K steps (`prune.lr` their rate);
`prune.beta = 0` takes its gradient alone, as the paper does, and a larger beta averages over the last ones. Afterwards
the weights go back to w_0: `prune.rewind`. Under a self-distillation guide this is EPSD (Chen et al. 2024, arXiv
2402.00084).
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("gradient")
def prospr(w: Tensor, signals: Signals) -> Tensor:
    """|w_0 * EMA g|, w_0 being the weight before the pass."""
    return (signals.start * signals["gradient"]).abs()
