"""Entropy-guided pruning (Liao et al. 2023, EGP, arXiv 2308.06619): layers whose units always do the same go first.

The layer's mean of the score, H_l * mean |w_l|, is the paper's importance I_l of the layer; the allocation `egp` turns
it into the paper's budget, and within a layer the smallest weights go. The paper prunes by halves, each followed by a
whole training, and only convolutions that feed a ReLU directly; here any layer has an entropy, see the signal.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("entropy")
def entropy(w: Tensor, signals: Signals) -> Tensor:
    """|w| * H_l."""
    return w.abs() * signals["entropy"]
