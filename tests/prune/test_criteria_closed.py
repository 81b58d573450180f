"""Criteria that have a closed form or a brute force of their own: magnitudes, LAMP, entropy, OBS, synaptic flow."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.prune.allocate import by_global_ranking
from edgeprune.prune.criteria.entropy import entropy
from edgeprune.prune.criteria.entropy_gradient import entropy_gradient
from edgeprune.prune.criteria.lamp import lamp
from edgeprune.prune.criteria.magnitude import magnitude
from edgeprune.prune.criteria.obs import DAMPING, obs
from edgeprune.prune.criteria.synflow import synflow
from edgeprune.prune.signals import Signals, passes
from edgeprune.prune.signals.fisher_blocks import BLOCK


def plain(w: Tensor, **values: Tensor) -> Signals:
    return Signals(values, 0, w)


def unasked(model: nn.Module, batch: Batch) -> Tensor:
    raise AssertionError("needs no loss")


def test_magnitude_is_the_size_of_the_weight() -> None:
    w = torch.tensor([[-2.0, 0.0], [0.5, 1.0]])
    assert magnitude.score(w, plain(w)).tolist() == [[2.0, 0.0], [0.5, 1.0]]


# --- LAMP


@given(values=st.lists(st.integers(-6, 6), min_size=1, max_size=24))
@settings(max_examples=60, deadline=None)
def test_lamp_is_the_share_of_what_is_left_when_the_weights_turn_comes(values: list[int]) -> None:
    """Two loops over the definition; equal weights are in the order of their place, the later one the smaller."""
    w = torch.tensor(values, dtype=torch.float64)
    found = lamp.score(w, plain(w))
    for u, score in enumerate(found.tolist()):
        left = sum(
            x**2 for v, x in enumerate(values) if abs(x) > abs(values[u]) or (abs(x) == abs(values[u]) and v <= u)
        )
        assert score == pytest.approx(values[u] ** 2 / left if left else 0.0)


def test_lamp_empties_no_layer_before_all_are_down_to_one_weight() -> None:
    torch.manual_seed(0)
    layers = {"large": 100 * torch.randn(8, 8), "small": 1e-3 * torch.randn(4, 4), "one": torch.full((1,), 1e-6)}
    found = {name: lamp.score(w, plain(w)) for name, w in layers.items()}
    assert by_global_ranking(found, 78 / 81, 0.0) == {"large": 1, "small": 1, "one": 1}
    sizes = {name: w.abs() for name, w in layers.items()}
    assert by_global_ranking(sizes, 78 / 81, 0.0) == {"large": 3, "small": 0, "one": 0}, "magnitude alone does"


# --- entropy


def test_the_entropy_scores_weigh_the_layer_as_a_whole() -> None:
    w, H, g = torch.tensor([[1.0, -3.0]]), torch.tensor(0.25), torch.tensor([[8.0, 2.0]])
    found = entropy.score(w, plain(w, entropy=H))
    assert found.tolist() == [[0.25, 0.75]]
    assert found.mean() == H * w.abs().mean(), "EGP's importance of the layer"
    assert entropy_gradient.score(w, plain(w, entropy=H, abs_gradient=g)).tolist() == [[2.0, 0.5]]


# --- OBS


def one_layer() -> tuple[Tensor, Tensor, Tensor]:
    """200 weights in two blocks, some of them pruned before: w, the batch gradients, and F as the pass gathers it."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 10, bias=False), nn.Tanh(), nn.Linear(10, 1)).double()
    with torch.no_grad():
        model[0].weight[torch.rand(10, 20) < 0.2] = 0.0
    batches = [Batch(torch.randn(4, 20, dtype=torch.float64), torch.zeros(4).long()) for _ in range(9)]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch.images).square().mean()

    F = passes(["fisher_blocks"], model, ["0"], batches, loss)["fisher_blocks"]["0"]
    rows = [torch.autograd.grad(loss(model, batch), model[0].weight)[0].flatten() for batch in batches]
    return model[0].weight.detach(), torch.stack(rows), F


def curvature(gradients: Tensor, block: slice) -> Tensor:
    """F of one block by its definition, damped by a share of the whole layer's mean diagonal."""
    F = sum(torch.outer(g[block], g[block]) for g in gradients) / len(gradients)
    assert isinstance(F, Tensor)
    return F + DAMPING * gradients.square().mean() * torch.eye(len(F), dtype=F.dtype)


def constrained(H: Tensor, w: Tensor, gone: list[int]) -> Tensor:
    """The minimum of 1/2 dw^T H dw with dw = -w where `gone`, by its KKT system."""
    E = torch.eye(len(w), dtype=w.dtype)[:, gone]
    corner = torch.zeros(len(gone), len(gone), dtype=w.dtype)
    system = torch.cat([torch.cat([H, E], dim=1), torch.cat([E.T, corner], dim=1)])
    right = torch.cat([torch.zeros_like(w), -w[gone]])
    return torch.linalg.solve(system, right)[: len(w)]


def cost(H: Tensor, dw: Tensor) -> float:
    return float(dw @ H @ dw) / 2


BLOCKS = (slice(0, BLOCK), slice(BLOCK, 200))


def test_the_saliency_of_obs_is_the_least_rise_of_the_loss_when_the_weight_goes() -> None:
    w, gradients, F = one_layer()
    found = obs.score(w, plain(w, fisher_blocks=F)).flatten()
    for block in BLOCKS:
        alive = w.flatten()[block].nonzero().flatten()
        H, values = curvature(gradients, block)[alive][:, alive], w.flatten()[block][alive]
        for place, i in enumerate(alive.tolist()):
            least = cost(H, constrained(H, values, [place]))
            assert float(found[block][i]) == pytest.approx(least, rel=1e-6)
    assert (found[w.flatten() == 0] == 0).all()


def test_the_update_of_obs_is_the_joint_minimum_for_all_that_go() -> None:
    w, gradients, F = one_layer()
    mask = (w != 0) & (torch.rand(w.shape) < 0.5)
    assert obs.update is not None
    found = obs.update(w, mask, plain(w, fisher_blocks=F)).flatten()
    assert (found[~mask.flatten()] == 0).all()
    for block in BLOCKS:
        alive = w.flatten()[block].nonzero().flatten()
        H, values = curvature(gradients, block)[alive][:, alive], w.flatten()[block][alive]
        gone = (~mask.flatten()[block][alive]).nonzero().flatten().tolist()
        expected = values + constrained(H, values, gone)
        torch.testing.assert_close(found[block][alive], expected, rtol=1e-6, atol=1e-9)
        joint = cost(H, found[block][alive] - values)
        removed = torch.zeros_like(values).index_copy(0, torch.tensor(gone), -values[gone])
        single = sum((constrained(H, values, [i]) for i in gone), torch.zeros_like(values))
        single[gone] = -values[gone]
        assert joint < cost(H, removed)
        assert joint < cost(H, single), "the sum of single updates is no minimum"


def test_obs_without_any_gradient_is_magnitude_and_moves_nothing() -> None:
    w, mask = torch.randn(3, 50), torch.rand(3, 50) < 0.5
    signals = plain(w, fisher_blocks=torch.zeros(2, BLOCK, BLOCK))
    torch.testing.assert_close(obs.score(w, signals), w.square() / 2, check_dtype=False)
    assert obs.update is not None
    assert torch.equal(obs.update(w, mask, signals), w * mask)


# --- synaptic flow


def flow(model: nn.Module, names: list[str], shape: tuple[int, ...]) -> dict[str, Tensor]:
    batch = Batch(torch.randn(5, *shape), torch.zeros(5).long())
    signal = passes(["synaptic_flow"], model, names, [batch], unasked)["synaptic_flow"]
    weights = {name: model.get_submodule(name).weight.detach() for name in names}  # type: ignore[union-attr, operator]
    return {name: synflow.score(w, plain(w, synaptic_flow=signal[name])) for name, w in weights.items()}


def test_synflow_is_the_share_of_the_paths_through_the_weight() -> None:
    """Every path of a small perceptron, one by one."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(3, 4, bias=False), nn.ReLU(), nn.Linear(4, 2, bias=False))
    first, last = (model[i].weight.detach().double().abs() for i in (0, 2))
    through = {"0": torch.zeros_like(first), "2": torch.zeros_like(last)}
    for i, j, k in product(range(3), range(4), range(2)):
        path = first[j, i] * last[k, j]
        through["0"][j, i] += path
        through["2"][k, j] += path
    R = through["0"].sum()
    for name, score in flow(model, ["0", "2"], (3,)).items():
        torch.testing.assert_close(score, through[name] / R)
        assert float(score.sum()) == pytest.approx(1.0), "what flows through one layer flows through all"


def test_synflow_is_what_the_sum_of_outputs_loses_with_the_weight_even_behind_batch_norm() -> None:
    """Brute force: R is linear in every single weight, so that removing it takes exactly its score."""
    torch.manual_seed(4)
    conv, norm, head = nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Linear(12, 2)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), head)

    def R(kernel: Tensor, matrix: Tensor) -> float:
        patches = torch.ones(2 * 2 * 2, dtype=torch.float64)
        value = kernel.flatten(1) @ patches + conv.bias.detach().double().abs()  # type: ignore[union-attr]
        scale = norm.weight.detach().double().abs() / (norm.running_var.double() + norm.eps).sqrt()  # type: ignore[union-attr]
        units = (value * scale + norm.bias.detach().double().abs()).repeat_interleave(4)
        return float((matrix @ units + head.bias.detach().double().abs()).sum())

    kernel, matrix = conv.weight.detach().double().abs(), head.weight.detach().double().abs()
    found = flow(model, ["0", "4"], (2, 3, 3))
    for name, w in (("0", kernel), ("4", matrix)):
        for place in range(w.numel()):
            without = w.clone()
            without.view(-1)[place] = 0.0
            rest = R(without, matrix) if name == "0" else R(kernel, without)
            assert float(found[name].view(-1)[place]) == pytest.approx(1 - rest / R(kernel, matrix), rel=1e-6)


def test_synflow_stays_in_range_in_a_deep_network_and_where_nothing_flows() -> None:
    torch.manual_seed(0)
    deep = nn.Sequential(*(nn.Linear(50, 50, bias=False) for _ in range(60)))
    with torch.no_grad():
        for layer in deep:
            layer.weight.mul_(300)
    for score in flow(deep, ["0", "59"], (50,)).values():
        assert float(score.sum()) == pytest.approx(1.0)
    with torch.no_grad():
        deep[30].weight.zero_()
    assert all((score == 0).all() for score in flow(deep, ["0", "30", "59"], (50,)).values())
