"""Each gradient criterion against finite differences, and what every criterion of the table promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from toys import Fixed, random_batches, task_of, toy

from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of, live
from edgeprune.prune.score import gather
from edgeprune.prune.signals import PASSES, STATISTICS, Criterion, MovingAverage, Signals, passes
from edgeprune.recipe import Hardware, Objective, Prune
from edgeprune.tables import CRITERIA
from runtimes.tables import resolve

LABELS_ONLY = Objective(loss="ce", weight=0.0)
BETA = 0.7


def criterion(name: str) -> Criterion:
    found: Criterion = resolve(CRITERIA[name])
    return found


def tiny(seed: int = 3) -> nn.Sequential:
    """75 weights in double precision, no batch norm: a loss that can be moved weight by weight."""
    torch.manual_seed(seed)
    conv, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(12, 4)
    return nn.Sequential(conv, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), head).double()


def chosen(model: nn.Sequential) -> dict[str, Tensor]:
    return {"0": model[0].weight, "4": model[4].weight}


def three_batches() -> list[Batch]:
    return [Batch(batch.images.double(), batch.labels) for batch in random_batches(3, channels=1).batches]


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch.images), batch.labels)


def scores(name: str, model: nn.Sequential, batches: list[Batch]) -> dict[str, Tensor]:
    """In double precision and with the weights at rest: the guide of a recipe computes its loss in single precision."""
    needs, average, w = criterion(name).needs, MovingAverage(BETA), chosen(model)
    for batch in batches:
        model.zero_grad()
        cross_entropy(model, batch).backward()
        average.update(w, needs & STATISTICS.keys())
    own = passes(needs & PASSES.keys(), model, w, batches, cross_entropy)
    return {
        layer: criterion(name).score(
            one.detach(),
            average.signals(layer, 0, start=one.detach(), own={key: found[layer] for key, found in own.items()}),
        )
        for layer, one in w.items()
    }


def slopes(value: Callable[[], float | Tensor], w: Tensor, h: float) -> Tensor:
    """d value / dc at c = 1, where c multiplies one weight at a time, by central differences."""
    found = torch.zeros_like(w)
    with torch.no_grad():
        for place in range(w.numel()):
            kept, ends = float(w.view(-1)[place]), []
            for c in (1 + h, 1 - h):
                w.view(-1)[place] = kept * c
                ends.append(float(value()))
            w.view(-1)[place] = kept
            found.view(-1)[place] = (ends[0] - ends[1]) / (2 * h)
    return found


def slopes_of_batches(model: nn.Sequential, w: Tensor, batches: list[Batch]) -> tuple[Tensor, Tensor]:
    """The slopes of each batch's loss (3, ...), and how much each counts in the average (3, 1, ...)."""
    found = torch.stack([slopes(lambda batch=batch: cross_entropy(model, batch), w, 1e-5) for batch in batches])  # type: ignore[misc]
    counts = torch.tensor([BETA**2, BETA, 1.0], dtype=torch.float64) / (BETA**2 + BETA + 1)
    return found, counts.view(3, *([1] * w.dim()))


EXPECTED: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    # from dL/dc of each batch, its weight in the average, and w; dL/dw is dL/dc / w
    "snip": lambda s, a, w: (s * a).sum(dim=0).abs(),
    "prospr": lambda s, a, w: (s * a).sum(dim=0).abs(),
    "taylor": lambda s, a, w: (s.abs() * a).sum(dim=0),
    "weighted_ema_gradient": lambda s, a, w: (s.abs() * a).sum(dim=0),
    "ema_gradient": lambda s, a, w: (s.abs() * a).sum(dim=0) / w.abs(),
    "fisher": lambda s, a, w: (s.square() * a).sum(dim=0),
}


@pytest.mark.parametrize("layer", ["0", "4"])
def test_the_gradient_criteria_are_slopes_of_the_loss_where_connections_begin_to_vanish(layer: str) -> None:
    model, batches = tiny(), three_batches()
    w = chosen(model)[layer]
    found, counts = slopes_of_batches(model, w, batches)
    for name, formula in EXPECTED.items():
        expected = formula(found, counts, w.detach())
        torch.testing.assert_close(scores(name, model, batches)[layer], expected, rtol=1e-5, atol=1e-8)


def test_snip_lets_batches_cancel_and_taylor_does_not() -> None:
    model, batches = tiny(), three_batches()
    snip, taylor = (scores(name, model, batches)["4"] for name in ("snip", "taylor"))
    assert (snip <= taylor * (1 + 1e-9)).all()
    assert (snip < 0.9 * taylor).any()


@pytest.mark.parametrize("taught", [False, True])
def test_the_scoring_pass_takes_its_gradients_from_the_guide(taught: bool) -> None:
    """As a recipe has it, with a teacher and without; in single precision, so more coarsely."""
    model, batches = tiny(), three_batches()[:1]
    teacher = live(tiny(5))
    guide = Objective(weight=0.5) if taught else LABELS_ONLY
    settings = Prune(criterion="taylor", guide=guide, lr=0.0, layers=("conv", "linear"))
    task = task_of(model, settings, Path(), batches=Fixed(batches), teacher=teacher)
    signals, _ = gather(task, criterion("taylor"), None, 0, 1)
    lesson = lesson_of(guide, teacher)
    for layer, w in chosen(model).items():
        slope = slopes(lambda: lesson(model, batches[0], 0.0), w, 3e-2).abs()
        score = criterion("taylor").score(w.detach(), signals[layer])
        torch.testing.assert_close(score, slope, rtol=2e-2, atol=2e-2 * float(slope.max()))


def test_the_guide_decides_what_a_gradient_criterion_finds_important() -> None:
    found = []
    for guide in (LABELS_ONLY, Objective(weight=1.0)):
        settings = Prune(criterion="ema_gradient", guide=guide, lr=0.0)
        task = task_of(tiny(), settings, Path(), batches=Fixed(three_batches()), teacher=live(tiny(5)))
        found.append(gather(task, criterion("ema_gradient"), None, 0, 1)[0]["0"]["abs_gradient"])
    assert not torch.allclose(*found, rtol=0.1)


def test_taylor_is_what_removing_a_weight_costs_where_the_loss_is_linear() -> None:
    """Brute force: each weight is set to zero in turn. With a linear loss the first-order expansion is exact."""
    torch.manual_seed(0)
    w, direction = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)

    def loss(weight: Tensor) -> Tensor:
        return (weight * direction).sum()

    leaf = w.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    values = {"abs_gradient_weight": STATISTICS["abs_gradient_weight"](leaf.grad, w)}
    found = criterion("taylor").score(w, Signals(values, 0, w))
    for place in range(w.numel()):
        without = w.clone()
        without.view(-1)[place] = 0.0
        assert float(found.view(-1)[place]) == pytest.approx(abs(float(loss(w) - loss(without))))


def test_taylor_takes_each_product_at_the_weight_of_its_own_batch() -> None:
    """While the student learns w moves, so that EMA|g w| is not |w| EMA|g|; without learning both are the same."""
    for lr, equal in ((0.5, False), (0.0, True)):
        found = []
        for name in ("taylor", "weighted_ema_gradient"):
            model = tiny()
            settings = Prune(criterion=name, guide=LABELS_ONLY, lr=lr)
            task = task_of(model, settings, Path(), batches=Fixed(three_batches()))
            signals, _ = gather(task, criterion(name), None, 0, 1)
            found.append(criterion(name).score(model[0].weight.detach(), signals["0"]))
        assert torch.allclose(*found) is equal


def test_prospr_is_the_slope_of_the_loss_after_training_the_masked_weights() -> None:
    """Another route: autograd through w = w_0 * m + (what the steps added), the steps' gradients held fixed.

    This is EPSD's saliency, too, whose guide is a plain loss here. The toy has batch norm and learns meanwhile.
    """
    model, batches, lr = toy(0), random_batches(3), 0.1
    settings = Prune(criterion="prospr", guide=LABELS_ONLY, lr=lr, beta=0.0)
    shared = Hardware(momentum=0.0, weight_decay=5e-4)
    signals, _ = gather(
        task_of(model, settings, Path(), batches=batches, shared=shared), criterion("prospr"), None, 0, 1
    )

    start = {name: p.detach().clone() for name, p in toy(0).named_parameters()}
    trained, fresh = {name: p.clone() for name, p in start.items()}, toy(0).train()
    for batch in batches.batches[:-1]:
        leaves = {name: p.clone().requires_grad_() for name, p in trained.items()}
        loss = F.cross_entropy(functional_call(fresh, leaves, batch.images), batch.labels)
        for name, g in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
            trained[name] -= lr * g
    m = {name: torch.ones_like(p, requires_grad=True) for name, p in start.items()}
    masked = {name: start[name] * m[name] + (trained[name] - start[name]) for name in start}
    outer = batches.batches[-1]
    F.cross_entropy(functional_call(fresh, masked, outer.images), outer.labels).backward()
    for layer, of_layer in signals.items():
        slope = m[f"{layer}.weight"].grad
        assert slope is not None
        w = model.get_submodule(layer).weight.detach()
        torch.testing.assert_close(criterion("prospr").score(w, of_layer), slope.abs(), rtol=1e-3, atol=1e-6)


def test_grasp_keeps_what_would_weaken_the_gradient_if_it_went() -> None:
    """w_i (H g)_i is half the slope of the squared gradient norm in c_i; a removal moves c_i from 1 towards 0."""
    model, batches = tiny(), three_batches()
    w = list(chosen(model).values())

    def squared_norm() -> float:
        with torch.enable_grad():
            loss = torch.stack([cross_entropy(model, batch) for batch in batches]).mean()
            return float(sum(g.square().sum() for g in torch.autograd.grad(loss, w)))

    for layer, score in scores("grasp", model, batches).items():
        expected = slopes(squared_norm, chosen(model)[layer], 1e-4) / 2
        torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-8)
        assert (score > 0).any()
        assert (score < 0).any()


def test_lots_are_uniform_and_follow_the_seed_alone() -> None:
    w = torch.randn(64, 32, 3, 3)
    drawn = [criterion("random").score(one, Signals({}, seed, one)) for one, seed in ((w, 1), (-2 * w, 1), (w, 2))]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    deciles = torch.histc(drawn[0], bins=10, min=0, max=1) / w.numel()
    assert (deciles - 0.1).abs().max() < 0.01


# --- what every criterion of the table promises


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_keeps_the_contract(name: str) -> None:
    found = criterion(name)
    assert found.needs <= STATISTICS.keys() | PASSES.keys()
    results = []
    for _ in range(2):
        model = toy(0)
        settings = Prune(criterion=name, guide=Objective(weight=0.5), layers=("conv", "linear"), skip=("head",))
        task = task_of(model, settings, Path(), batches=random_batches(2), seed=5)
        signals, _ = gather(task, found, None, 0, 1)
        assert all(of_layer.values.keys() == found.needs for of_layer in signals.values())
        w = {layer: weight.detach() for layer, weight in task.weights().items()}
        results.append({layer: found.score(w[layer], signals[layer]) for layer in w})
        for layer, weight in w.items():
            mask = torch.rand(weight.shape) < 0.5
            if found.update is not None:
                updated = found.update(weight, mask, signals[layer])
                assert updated.shape == weight.shape
                assert updated.dtype == weight.dtype
                assert torch.isfinite(updated[mask]).all()
    for layer, score in results[0].items():
        assert score.shape == w[layer].shape
        assert torch.isfinite(score).all()
        assert name == "grasp" or (score >= 0).all()
        assert not score.requires_grad
        assert torch.equal(score, results[1][layer])
    assert torch.cat([score.flatten() for score in results[0].values()]).unique().numel() > 100
