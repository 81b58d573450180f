"""Signals with a pass of their own: explicit Hessians, outer products, entropies; and nothing is left behind."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from toys import random_batches, same, toy, weights_of

from edgeprune.data.batches import Batch
from edgeprune.models.resnet_cifar import resnet20
from edgeprune.prune.signals import PASSES, passes
from edgeprune.prune.signals.entropy import feeding, of_states
from edgeprune.prune.signals.fisher_blocks import BLOCK, blocks, unblocked


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.images), batch.labels)


def tiny() -> nn.Sequential:
    """50 weights and a few more that are not asked for, in double precision."""
    torch.manual_seed(3)
    conv, head = nn.Conv2d(1, 2, 3), nn.Linear(8, 4)
    return nn.Sequential(conv, nn.Softplus(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), head).double()


def double_batches(count: int) -> list[Batch]:
    return [Batch(batch.images.double(), batch.labels) for batch in random_batches(count, channels=1).batches]


def entropy_of(*shares: float) -> float:
    """The mean over channels that are neither always on nor always off, in bits."""
    undecided = [p for p in shares if 0 < p < 1]
    return sum(-p * math.log2(p) - (1 - p) * math.log2(1 - p) for p in undecided) / max(1, len(undecided))


def test_hessian_gradient_is_the_explicit_hessian_times_the_gradient() -> None:
    model, batches = tiny(), double_batches(3)
    chosen = {"0.weight": model[0].weight, "4.weight": model[4].weight}

    def loss(flat: Tensor) -> Tensor:
        parts = flat.split([p.numel() for p in chosen.values()])
        moved = {name: part.view_as(p) for part, (name, p) in zip(parts, chosen.items(), strict=True)}
        losses = [F.cross_entropy(functional_call(model, moved, b.images), b.labels) for b in batches]
        return torch.stack(losses).mean()

    at = parameters_to_vector(chosen.values()).detach()
    H = torch.autograd.functional.hessian(loss, at)
    g = torch.autograd.functional.jacobian(loss, at)
    assert isinstance(H, Tensor)
    assert isinstance(g, Tensor)
    expected = [torch.zeros_like(p) for p in chosen.values()]
    vector_to_parameters(H @ g, expected)
    found = passes(["hessian_gradient"], model, ["0", "4"], iter(batches), cross_entropy)["hessian_gradient"]
    for value, layer in zip(expected, ("0", "4"), strict=True):
        torch.testing.assert_close(found[layer], value)
        assert not found[layer].requires_grad


def test_a_linear_loss_has_no_curvature() -> None:
    model = nn.Linear(3, 2)
    batch = Batch(torch.randn(4, 3), torch.zeros(4).long())
    found = passes(["hessian_gradient"], nn.Sequential(model), ["0"], [batch], lambda m, b: m(b.images).sum())
    assert torch.equal(found["hessian_gradient"]["0"], torch.zeros(2, 3))


def test_fisher_blocks_are_the_mean_of_outer_products() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 5), nn.Tanh(), nn.Linear(5, 4)).double()
    batches = [Batch(torch.randn(6, 64, dtype=torch.float64), torch.arange(6) % 4) for _ in range(4)]
    found = passes(["fisher_blocks"], model, ["0", "2"], batches, cross_entropy)["fisher_blocks"]
    for layer, number in (("0", 3), ("2", 1)):
        w = model.get_submodule(layer).weight
        assert isinstance(w, Tensor)
        g = torch.stack([torch.autograd.grad(cross_entropy(model, batch), w)[0].flatten() for batch in batches])
        whole = torch.einsum("mi,mj->ij", g, g) / len(batches)
        padded = F.pad(whole, (0, number * BLOCK - w.numel()) * 2)
        assert found[layer].shape == (number, BLOCK, BLOCK)
        for block in range(number):
            inside = slice(block * BLOCK, (block + 1) * BLOCK)
            torch.testing.assert_close(found[layer][block], padded[inside, inside])


@pytest.mark.parametrize("shape", [(1,), (128,), (3, 5, 3, 3), (129,)])
def test_blocks_are_undone(shape: tuple[int, ...]) -> None:
    w = torch.randn(shape)
    assert torch.equal(unblocked(blocks(w), w), w)
    last = w.contiguous(memory_format=torch.channels_last) if w.dim() == 4 else w
    assert torch.equal(blocks(last), blocks(w))


# --- the entropy of on/off states


def test_the_entropy_of_states_in_closed_form() -> None:
    """Three channels of eight places: on at 2, always on, at 4; one that is exactly zero everywhere is off."""
    x = torch.full((2, 4, 2, 2), -1.0)
    x[0, 0, 0], x[:, 1], x[0, 2], x[:, 3] = 1.0, 2.0, 1.0, 0.0
    assert float(of_states(x)) == pytest.approx(entropy_of(0.25, 1.0, 0.5, 0.0))
    assert float(of_states(torch.ones(4, 3))) == 0.0
    linear = torch.tensor([[1.0, -1.0], [-1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    assert float(of_states(linear)) == pytest.approx(entropy_of(0.25, 0.25))


def test_the_entropy_of_a_layer_is_that_behind_its_norm_averaged_over_the_batches() -> None:
    model, batches = toy(2).eval(), random_batches(3).batches
    with torch.no_grad():
        model.norm1.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr, operator]
        found = passes(["entropy"], model, ["stem", "depthwise", "hidden"], batches, cross_entropy)["entropy"]
        expected = dict.fromkeys(found, 0.0)
        for batch in batches:
            parts = {}
            x = batch.images
            for name, module in model.named_children():
                parts[name] = x = module(x)
            for name, unit in {"stem": "norm1", "depthwise": "depthwise", "hidden": "hidden"}.items():
                channels = parts[unit].transpose(0, 1).flatten(1)
                shares = [float((channel > 0).sum()) / channel.numel() for channel in channels]
                expected[name] += entropy_of(*shares) / len(batches)
    assert {name: float(h) for name, h in found.items()} == pytest.approx(expected, rel=1e-5)
    assert len({round(h, 6) for h in expected.values()}) == 3


class Tangled(nn.Module):
    """Norms in another order than they are called in, an identity in between, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_b, self.norm_a = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.a, self.b, self.unused = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.bare = nn.Conv2d(4, 4, 1)
        self.between = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm_a(self.between(self.a(x))))
        x = self.bare(x)
        out: Tensor = F.relu(self.norm_b(self.b(x)) + x).mean(dim=(2, 3))
        return out


def test_the_norm_behind_a_layer_is_found_by_what_is_called_on_its_output() -> None:
    model = Tangled()
    units = feeding(model, ["a", "b", "bare", "unused"], torch.randn(2, 3, 4, 4))
    assert units == {"a": model.norm_a, "b": model.norm_b, "bare": model.bare, "unused": model.unused}
    found = passes(["entropy"], model, ["a", "unused"], random_batches(1).batches, cross_entropy)["entropy"]
    assert float(found["unused"]) == 0.0
    assert float(found["a"]) > 0.0


def test_functional_activations_and_residuals_do_not_matter() -> None:
    model = resnet20(classes=4, channels=3)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    units = feeding(model, names, torch.randn(2, 3, 8, 8))
    assert units == {name: model.get_submodule(name.replace("conv", "bn")) for name in names}


# --- what is left behind


@pytest.mark.parametrize("name", PASSES)
@pytest.mark.parametrize("training", [True, False])
def test_a_pass_leaves_the_model_as_it_was(name: str, training: bool) -> None:
    model = toy(0).train(training)
    model.norm1.eval()  # type: ignore[union-attr, operator]
    batches = random_batches(2).batches
    cross_entropy(model, batches[0]).backward()
    before, modes = weights_of(model), {n: m.training for n, m in model.named_modules()}
    gradients = {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}

    def fails(model: nn.Module, batch: Batch) -> Tensor:
        model.eval()(batch.images)
        raise RuntimeError("in the middle")

    found = passes([name], model, ["stem", "conv"], batches, cross_entropy)[name]
    assert list(found) == ["stem", "conv"]
    if name in ("fisher_blocks", "hessian_gradient"):
        with pytest.raises(RuntimeError, match="in the middle"):
            passes([name], model, ["stem"], batches, fails)
    assert same(before, weights_of(model))
    assert modes == {n: m.training for n, m in model.named_modules()}
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    for n, p in model.named_parameters():
        assert (p.grad is None) == (gradients[n] is None)
        assert p.grad is None or torch.equal(p.grad, gradients[n])  # type: ignore[arg-type]


def test_every_pass_sees_all_batches_even_of_an_iterator() -> None:
    """Several passes at once over an iterator give what each gives alone over a list."""
    model, batches = toy(0), random_batches(3).batches
    together = passes(PASSES, model, ["conv"], iter(batches), cross_entropy)
    assert together.keys() == PASSES.keys()
    for name in PASSES:
        alone = passes([name], model, ["conv"], batches, cross_entropy)
        assert torch.equal(together[name]["conv"], alone[name]["conv"])
    assert passes([], model, ["conv"], iter(batches), cross_entropy) == {}
