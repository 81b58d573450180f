"""Synaptic flow (Tanaka et al. 2020, SynFlow, arXiv 2006.05467, equation 2 and algorithm 1), which needs no data.

R is the sum of the outputs for an image of ones through the network of absolute weights. The paper prunes at
initialisation in 100 geometric steps, which is the schedule `staged` with `prune.rounds = 100` and `prune.lr = 0`; the
scores of a single step leave layers empty.
"""

from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs("synaptic_flow")
def synflow(w: Tensor, signals: Signals) -> Tensor:
    """|w| * dR/d|w| / R: the share of the flow that passes the weight; in double precision."""
    return w.abs() * signals["synaptic_flow"]
