"""Layer-adaptive magnitude (Lee et al. 2021, LAMP, arXiv 2010.07611).

Magnitude compares weights of layers of different scale. LAMP divides each square by the sum of those that are there
when the weight's turn comes, which makes the score the distortion of the layer relative to what is left of it.
"""

import torch
from torch import Tensor

from edgeprune.prune.signals import Signals, needs


@needs()
def lamp(w: Tensor, signals: Signals) -> Tensor:
    """w_u^2 / sum of w_v^2 over v >= u, weights in ascending order of size; zeros get 0.

    The largest weight of each layer scores 1, so no layer is emptied before all are down to one weight. Of equal
    weights the one that comes first counts as the larger.
    """
    order = w.abs().flatten().argsort(descending=True, stable=True)
    squares = w.flatten()[order].double().square()
    shares = torch.where(squares > 0, squares / squares.cumsum(dim=0), 0.0)
    return torch.empty_like(shares).scatter_(0, order, shares).view(w.shape)
