"""Magnitude (Han et al. 2015, arXiv 1506.02626): small weights matter least."""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs()
def magnitude(w: Tensor, signals: Signals) -> Tensor:
    """|w|."""
    return w.abs()
