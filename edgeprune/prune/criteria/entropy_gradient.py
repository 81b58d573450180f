"""The hybrid of entropy and gradient that Alim et al. 2025 (arXiv 2511.16653) name as future work.

They give no formula; the form is ours: their guided gradient within the layer, EGP's entropy (Liao et al. 2023, arXiv
2308.06619) between the layers.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("abs_gradient", "entropy")
def entropy_gradient(w: Tensor, signals: Signals) -> Tensor:
    """H_l * EMA|g|."""
    return signals["abs_gradient"] * signals["entropy"]
