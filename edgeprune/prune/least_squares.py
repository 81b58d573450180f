"""Least squares: layer by layer, the surviving weights are refitted so that the layer answers as the dense one did.

For a layer with inputs X of the pruned network (im2col, one column per output position) and outputs Y of the dense one,

    minimise |W X + b - Y|^2 + lambda |(W, b) - (W0, b0)|^2   over the weights that the mask keeps,

one normal equation per output, restricted to its support (He et al. 2017, arXiv 1707.06168, for channels; Frantar and
Alistarh 2022, arXiv 2208.11580, for single weights). The ridge holds what the inputs do not determine at its present
value W0, b0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.prune.masks import Masks
from edgeprune.prune.repair import reestimate_batch_norm
from runtimes.errors import UserError

_POSITIONS = 4096  # of a batch's outputs, at most about so many are looked at, spread evenly over its images
_RIDGE = 1e-6  # lambda, in units of the mean of the diagonal of X X^T
_WIDEST = 16384  # inputs of one output; their products with each other take 2 GB


def least_squares(model: nn.Module, dense: nn.Module, masks: Masks, batches: Iterable[Tensor]) -> None:
    """Refit the masked layers of `model` in place, in the order in which they run, then re-estimate batch norm.

    Each layer is fitted on what the ones before, refitted, give it. Pruned weights stay zero, biases are refitted too.
    All batches are held in memory, since they are needed for every layer: each layer costs a forward pass of both
    networks, as far as that layer. A masked layer that is neither linear nor a two-dimensional convolution, or that is
    too wide, is a `UserError`.
    """
    images = list(batches)
    if not images:
        return
    with _evaluating(model, dense):
        for name, calls in _in_order(model, masks, images[0]).items():
            layer = model.get_submodule(name)
            _check(name, layer)
            equations = _Equations(layer)
            for number, batch in enumerate(images):
                inputs = [given for given, _ in _seen(model, name, calls, batch)]
                targets = [answered for _, answered in _seen(dense, name, calls, batch)]
                for x, y in zip(inputs, targets, strict=True):
                    equations.add(*_columns(layer, x, y, seed=number))
            equations.solve(masks[name])
    reestimate_batch_norm(model, images)


class _Reached(Exception):  # noqa: N818 - it is how a forward pass ends early
    pass


def _in_order(model: nn.Module, masks: Masks, images: Tensor) -> dict[str, int]:
    """The masked layers that run, in the order of their first call, and how often each does."""
    calls: dict[str, int] = {}

    def count(name: str) -> Any:
        return lambda *_: calls.update({name: calls.get(name, 0) + 1})

    hooks = [model.get_submodule(name).register_forward_hook(count(name)) for name in masks]
    try:
        model(images[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _seen(model: nn.Module, name: str, calls: int, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The inputs and outputs of a layer at each of its calls; what comes after the last is not computed."""
    seen: list[tuple[Tensor, Tensor]] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append((inputs[0], output))
        if len(seen) == calls:
            raise _Reached

    hook = model.get_submodule(name).register_forward_hook(keep)
    try:
        model(images)
    except _Reached:
        pass
    finally:
        hook.remove()
    return seen


def _columns(layer: nn.Module, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (groups, D, n) and outputs (groups, K / groups, n) of a layer at n positions, in double precision.

    Of a convolution's outputs, the same number of positions from every image, drawn at random.
    """
    if isinstance(layer, nn.Linear):
        return x.flatten(0, -2).T[None].double(), y.flatten(0, -2).T[None].double()
    assert isinstance(layer, nn.Conv2d)  # noqa: S101
    places = y[0, 0].numel()
    each = min(places, max(1, _POSITIONS // len(x)))
    draw = torch.Generator().manual_seed(seed)
    drawn = torch.rand(len(x), places, generator=draw).argsort(dim=1)[:, :each].to(x.device)
    image, row, column = torch.arange(len(x), device=x.device)[:, None], drawn // y.shape[3], drawn % y.shape[3]
    inputs, outputs = _patches(layer, x, y)[image, :, row, column], y[image, :, row, column]
    return _grouped(inputs, layer.groups), _grouped(outputs, layer.groups)


def _patches(conv: nn.Conv2d, x: Tensor, y: Tensor) -> Tensor:
    """A view (b, C, H', W', kh, kw): the inputs of every output position, padded as the layer pads them."""
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    padded = F.pad(x, conv._reversed_padding_repeated_twice, mode=mode)
    b, c, h, w = padded.stride()
    down, right = conv.stride
    size = (*padded.shape[:2], *y.shape[2:], *conv.kernel_size)
    return padded.as_strided(size, (b, c, h * down, w * right, h * conv.dilation[0], w * conv.dilation[1]))


def _grouped(positions: Tensor, groups: int) -> Tensor:
    """(b, n, groups d, ...) -> (groups, D, b n), in double precision."""
    one_by_one = positions.flatten(0, 1).double()
    return one_by_one.reshape(len(one_by_one), groups, -1).permute(1, 2, 0)


class _Equations:
    """The normal equations of one layer: G = X X^T (groups, D, D) and H = X Y^T (groups, D, K / groups).

    A bias is one more input, which is always 1.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.layer: Any = layer
        self.G: Any = 0.0
        self.H: Any = 0.0

    def add(self, x: Tensor, y: Tensor) -> None:
        """Take in inputs (groups, D, n) and wanted outputs (groups, K / groups, n)."""
        if self.layer.bias is not None:
            x = torch.cat([x, x.new_ones(len(x), 1, x.shape[2])], dim=1)
        self.G = self.G + x @ x.mT
        self.H = self.H + x @ y.mT

    def solve(self, mask: Tensor) -> None:
        """Write the solution into the layer; what the mask prunes is zero."""
        layer, weight = self.layer, self.layer.weight
        support = mask.to(weight.device).flatten(1)
        rows = weight.detach().flatten(1).double()
        if layer.bias is not None:
            support = torch.cat([support, support.new_ones(len(support), 1)], dim=1)
            rows = torch.cat([rows, layer.bias.detach()[:, None].double()], dim=1)
        fitted = torch.where(support, rows, 0.0)
        per_group = len(rows) // len(self.G)
        for k, row in enumerate(fitted):
            group, output = divmod(k, per_group)
            _fit(row, support[k], self.G[group], self.H[group, :, output])
        layer.weight.copy_(fitted[:, : weight[0].numel()].view_as(weight))
        if layer.bias is not None:
            layer.bias.copy_(fitted[:, -1])


def _fit(row: Tensor, support: Tensor, G: Tensor, H: Tensor) -> None:
    """Move `row` (D,), in place, to the solution of (G + lambda I) d = H - G row on its support."""
    at = support.nonzero().squeeze(1)
    if not len(at):
        return
    inner = G[at[:, None], at]
    ridge = _RIDGE * G.diagonal().mean().clamp_min(torch.finfo(G.dtype).tiny)
    inner.diagonal().add_(ridge)
    row[at] += torch.linalg.solve(inner, H[at] - G[at] @ row)


def _check(name: str, layer: nn.Module) -> None:
    without = "set prune.repair=batch_norm, or leave the layer out: prune.skip"
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise UserError(f"least squares cannot refit layer {name}, a {type(layer).__name__}", without)
    if layer.weight[0].numel() > _WIDEST:
        raise UserError(f"least squares cannot refit layer {name}: {layer.weight[0].numel()} inputs", without)


@contextmanager
def _evaluating(*networks: nn.Module) -> Iterator[None]:
    """All of them in `eval()` and without gradients; afterwards every module is in the mode that it was in."""
    modes = {module: module.training for network in networks for module in network.modules()}
    for network in networks:
        network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
