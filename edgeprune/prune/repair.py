"""What is mended in a pruned network before it is retrained or judged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.prune.masks import Masks

# (pruned network, mended in place; the dense one; masks; images) -> None
Repair = Callable[[nn.Module, nn.Module, Masks, Iterable[Tensor]], None]


def nothing(model: nn.Module, dense: nn.Module, masks: Masks, batches: Iterable[Tensor]) -> None:
    """Leave the network as it is."""


def batch_norm(model: nn.Module, dense: nn.Module, masks: Masks, batches: Iterable[Tensor]) -> None:
    """Re-estimate the statistics of batch norm; no weight moves."""
    reestimate_batch_norm(model, batches)


def reestimate_batch_norm(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running mean and variance of every batch norm by those of the activations over `batches`, in place.

    Pruning shifts the activations, and the old statistics then normalise wrongly. The variance is that of all batches
    together, E[var + mean^2] - E[mean]^2, as in Wu and Johnson 2021 ("Rethinking 'Batch' in BatchNorm", section 3),
    not the mean of the batches' variances; batches should be of equal size. Only the norms are in training mode
    meanwhile: dropout is off, as it will be when the statistics are used. The weights do not move.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    moments = {norm: _Moments() for norm in norms}
    hooks = [norm.register_forward_pre_hook(moments[norm]) for norm in norms]
    modes = {module: module.training for module in model.modules()}
    kept = [norm.momentum for norm in norms]
    try:
        model.eval()
        with torch.no_grad():
            for norm in norms:
                norm.train().momentum = 0.0  # normalises with the batch, leaves the statistics alone
            for images in batches:
                model(images)
            for norm in norms:
                moments[norm].write(norm)
    finally:
        for norm, momentum, hook in zip(norms, kept, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()
        for module, training in modes.items():
            module.training = training


class _Moments:
    """Averages of the batches' means and second moments, per channel, in double precision."""

    def __init__(self) -> None:
        self.n = 0
        self.mean: Any = 0.0
        self.square: Any = 0.0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        x = inputs[0].detach().double()
        axes = [axis for axis in range(x.dim()) if axis != 1]
        self.n += 1
        self.mean = self.mean + (x.mean(dim=axes) - self.mean) / self.n
        self.square = self.square + (x.square().mean(dim=axes) - self.square) / self.n

    def write(self, norm: _BatchNorm) -> None:
        if self.n and norm.running_mean is not None and norm.running_var is not None:
            norm.running_mean.copy_(self.mean)
            norm.running_var.copy_((self.square - self.mean**2).clamp_min(0.0))
