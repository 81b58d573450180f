"""How undecided the units behind each layer are: the entropy of their on/off state (Liao et al. 2023, EGP).

"Can Unstructured Pruning Reduce the Depth in Deep Neural Networks?", arXiv 2308.06619, section 3. A unit that is always
on is linear, one that is always off is dead; a layer of such units adds nothing to the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from edgeprune.data.batches import Batch


def entropy(
    model: nn.Module, chosen: Mapping[str, Tensor], batches: Iterable[Batch], loss: object
) -> dict[str, Tensor]:
    """H_l of each layer, a scalar in bits, averaged over the batches; 0 for a layer that no image passes.

    p_c is the share of the batch and of all places at which channel c is positive, and H_l the mean over the channels
    of -[p log2 p + (1 - p) log2(1 - p)]; channels that are always on or always off are left out of the mean, and H_l is
    0 where all are. What is looked at is the output of the batch norm that the layer feeds, or of the layer itself
    where it feeds none: the input of the non-linearity. Where a residual is added in between, the state is taken before
    the addition. The guide is not asked.
    """
    states: dict[str, list[Tensor]] = {name: [] for name in chosen}
    hooks = []
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches):
                if number == 0:
                    units = feeding(model, chosen, batch.images[:2])
                    hooks += [unit.register_forward_hook(_recorder(states[name])) for name, unit in units.items()]
                model(batch.images)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: torch.stack(of_layer).mean() if of_layer else chosen[name].detach().new_zeros(())
        for name, of_layer in states.items()
    }


def feeding(model: nn.Module, names: Iterable[str], images: Tensor) -> dict[str, nn.Module]:
    """The batch norm that is called on each layer's own output, or the layer itself; by running `images` through.

    The tensors decide, not the names or the order of definition, so functional activations do not matter.
    """
    units = {name: model.get_submodule(name) for name in names}
    outputs: list[tuple[str, Tensor]] = []

    def after_layer(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda module, inputs, output: outputs.append((name, output))

    def after_norm(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        units.update({name: module for name, tensor in outputs if tensor is inputs[0]})

    hooks = [unit.register_forward_hook(after_layer(name)) for name, unit in units.items()]
    hooks += [norm.register_forward_hook(after_norm) for norm in model.modules() if isinstance(norm, _BatchNorm)]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return units


def of_states(x: Tensor) -> Tensor:
    """The entropy of one batch of pre-activations (B, C, ...): a scalar, in bits."""
    p = (x > 0).movedim(1, 0).flatten(1).float().mean(dim=1)
    h = -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(p.new_tensor(2.0))
    undecided = (p > 0) & (p < 1)
    return h.sum() / undecided.sum().clamp_min(1)  # the others add nothing to the sum


def _recorder(states: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    return lambda module, inputs, output: states.append(of_states(output))
