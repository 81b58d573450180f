"""How much of what flows through the network flows through each weight, without data (Tanaka et al. 2020, SynFlow)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.data.batches import Batch


def synaptic_flow(
    model: nn.Module, chosen: Mapping[str, Tensor], batches: Iterable[Batch], loss: object
) -> dict[str, Tensor]:
    """d log R / d|w|, of the weights' shapes and in double precision.

    R is the sum of the outputs for an image of ones when every parameter is replaced by its absolute value (arXiv
    2006.05467, equation 2). The paper takes dR / d|w|, which R divides here: the same number for all weights, and the
    product over many layers stays in range. Batch norm is a positive factor and an offset (`eval()`), its running mean
    taken as zero, which it is at initialisation, where the paper prunes; a trained one would cut paths off. 0 where
    nothing flows any more. `model` is spent: it is left in this state.
    """
    ones = torch.ones_like(next(iter(batches)).images[:1], dtype=torch.float64)
    model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        for module in model.modules():
            if isinstance(module, _BatchNorm) and module.running_mean is not None:
                module.running_mean.zero_()
    R = model(ones).sum()
    slopes = torch.autograd.grad(R, list(chosen.values()), materialize_grads=True)
    return {name: slope / R.detach() if R > 0 else slope for name, slope in zip(chosen, slopes, strict=True)}
