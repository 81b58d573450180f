"""Each criterion against finite differences or the removal of every single weight, and what all of them promise."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toys import Fixed, random_batches, toy

from edgeprune.distill import criterion_of
from edgeprune.prune import gather
from edgeprune.prune.signals import STATISTICS, Criterion, Signals
from edgeprune.recipe import Hardware, Objective, Prune
from edgeprune.tables import CRITERIA
from runtimes.tables import resolve

LABELS_ONLY = Objective(loss="ce", weight=0.0)


def criterion(name: str) -> Criterion:
    found: Criterion = resolve(CRITERIA[name])
    return found


def tiny() -> nn.Module:
    """75 weights in double precision, no batch norm: a loss that can be moved weight by weight."""
    torch.manual_seed(3)
    conv, head = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(12, 4)
    return nn.Sequential(conv, nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), head).double()


def one_batch() -> Fixed:
    return Fixed([(images.double(), labels) for images, labels in random_batches(1, channels=1).batches])


def scores(
    name: str, model: nn.Module, batches: Fixed, guide: Objective, teacher: nn.Module | None
) -> dict[str, Tensor]:
    """The criterion as `prune` takes it: signals from a scoring pass that leaves the weights where they are."""
    settings = Prune(criterion=name, guide=guide).model_copy(update={"lr": 0.0})
    chosen = {"0": model[0].weight, "4": model[4].weight}  # type: ignore[index]
    signals, _ = gather(model, teacher, batches, chosen, settings, Hardware(), seed=0)
    return {layer: criterion(name)(w.detach(), signals[layer]) for layer, w in chosen.items()}


def slopes(model: nn.Module, loss: object, w: Tensor, h: float) -> Tensor:
    """|dL/dw| by central differences, weight by weight."""
    found = torch.zeros_like(w)
    with torch.no_grad():
        for place in range(w.numel()):
            values, kept = [], float(w.view(-1)[place])
            for step in (h, -h):
                w.view(-1)[place] = kept + step
                values.append(float(loss()))  # type: ignore[operator]
            w.view(-1)[place] = kept
            found.view(-1)[place] = abs(values[0] - values[1]) / (2 * h)
    return found


@pytest.mark.parametrize("taught", [False, True])
def test_the_gradient_criteria_are_the_slopes_of_the_guide(taught: bool) -> None:
    model, batches = tiny(), one_batch()
    teacher = tiny().requires_grad_(False) if taught else None
    if teacher is not None:
        for p in teacher.parameters():
            p.mul_(1.5)
    guide = Objective(weight=0.5) if taught else LABELS_ONLY
    found = {name: scores(name, model, batches, guide, teacher) for name in CRITERIA}
    ((images, labels),) = batches.batches
    compute = criterion_of(guide, teacher)
    # With a teacher the loss is taken in single precision, so the step must be larger and the comparison coarser.
    h, tolerance = (1e-2, 2e-2) if taught else (1e-5, 1e-5)
    for layer, module in (("0", model[0]), ("4", model[4])):  # type: ignore[index]
        w = module.weight.detach()
        slope = slopes(model, lambda: compute(model(images), images, labels), module.weight, h)
        close = {"rtol": tolerance, "atol": tolerance * float(slope.max()), "check_dtype": False}
        torch.testing.assert_close(found["ema_gradient"][layer], slope, **close)
        torch.testing.assert_close(found["taylor"][layer], slope * w.abs(), **close)
        torch.testing.assert_close(found["weighted_ema_gradient"][layer], slope * w.abs(), **close)
        assert torch.equal(found["magnitude"][layer], w.abs())


def test_taylor_is_what_removing_a_weight_costs_where_the_loss_is_linear() -> None:
    """Brute force: each weight is set to zero in turn. With a linear loss the first-order expansion is exact."""
    torch.manual_seed(0)
    w, direction = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)

    def loss(weight: Tensor) -> Tensor:
        return (weight * direction).sum()

    leaf = w.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    found = criterion("taylor")(w, Signals({"abs_gradient_weight": STATISTICS["abs_gradient_weight"](leaf.grad, w)}, 0))
    for place in range(w.numel()):
        without = w.clone()
        without.view(-1)[place] = 0.0
        assert float(found.view(-1)[place]) == pytest.approx(abs(float(loss(w) - loss(without))))


def test_taylor_takes_each_product_at_the_weight_of_its_own_batch() -> None:
    """While the student learns w moves, so that EMA|g w| is not |w| EMA|g|; without learning both are the same."""
    guide = Prune(criterion="taylor", guide=LABELS_ONLY, lr=0.5)
    for settings, equal in ((guide, False), (guide.model_copy(update={"lr": 0.0}), True)):
        model = tiny()
        batches = Fixed([(i.double(), y) for i, y in random_batches(3, channels=1).batches])
        both = (
            settings.model_copy(update={"criterion": "taylor"}),
            settings.model_copy(update={"criterion": "weighted_ema_gradient"}),
        )
        found = []
        for one in both:
            model = tiny()
            chosen = {"0": model[0].weight}  # type: ignore[index]
            signals, _ = gather(model, None, batches, chosen, one, Hardware(), seed=0)
            found.append(criterion(one.criterion)(chosen["0"].detach(), signals["0"]))
        assert torch.allclose(*found) is equal


def test_the_guide_decides_what_a_gradient_criterion_finds_important() -> None:
    batches, teacher = one_batch(), tiny()
    with torch.no_grad():
        for p in teacher.parameters():
            p.neg_()
    by_labels = scores("ema_gradient", tiny(), batches, LABELS_ONLY, None)
    by_teacher = scores("ema_gradient", tiny(), batches, Objective(weight=1.0), teacher)
    assert not torch.allclose(by_labels["0"], by_teacher["0"], rtol=0.1)


def test_lots_are_uniform_and_follow_the_seed_alone() -> None:
    w = torch.randn(64, 32, 3, 3)
    drawn = [criterion("random")(one, Signals({}, seed)) for one, seed in ((w, 1), (-2 * w, 1), (w, 2))]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    deciles = torch.histc(drawn[0], bins=10, min=0, max=1) / w.numel()
    assert (deciles - 0.1).abs().max() < 0.01


# --- what every criterion of the table promises


@pytest.mark.parametrize("name", CRITERIA)
def test_every_criterion_keeps_the_contract(name: str) -> None:
    found = criterion(name)
    assert found.needs <= STATISTICS.keys()
    model = toy(0)
    chosen = {layer: getattr(model, layer).weight for layer in ("stem", "conv", "depthwise", "hidden")}
    settings = Prune(criterion=name, guide=Objective(weight=0.5))
    results = []
    for _ in range(2):
        model.load_state_dict(toy(0).state_dict())
        signals, losses = gather(model, toy(1), random_batches(2), chosen, settings, Hardware(), seed=5)
        assert len(losses) == 2
        assert all(set(of_layer.averages) == found.needs for of_layer in signals.values())
        results.append({layer: found(w.detach(), signals[layer]) for layer, w in chosen.items()})
    for layer, w in chosen.items():
        score = results[0][layer]
        assert score.shape == w.shape
        assert torch.isfinite(score).all()
        assert (score >= 0).all()
        assert not score.requires_grad
        assert torch.equal(score, results[1][layer])
