"""The moving average against its closed form, and what its bias correction can and cannot change."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edgeprune.prune.allocate import by_global_ranking
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.prune.signals import STATISTICS, MovingAverage, Signals


def averaged(beta: float, gradients: list[Tensor | None]) -> Tensor:
    w = torch.zeros(3, requires_grad=True)
    average = MovingAverage(beta)
    for g in gradients:
        w.grad = g
        average.update({"layer": w}, ["abs_gradient"])
    return of(average, "layer")["abs_gradient"]


def of(average: MovingAverage, layer: str) -> Signals:
    return average.signals(layer, 0, start=torch.zeros(3), own={})


GRADIENTS = st.lists(st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3), min_size=1, max_size=12)


@given(beta=st.floats(0, 0.999), rows=GRADIENTS)
@settings(max_examples=50, deadline=None)
def test_it_is_the_weighted_mean_of_the_closed_form(beta: float, rows: list[list[float]]) -> None:
    """m_t / (1 - beta^t) = sum_i beta^(t - i) |g_i| / sum_i beta^(t - i)."""
    t = len(rows)
    weights = [beta ** (t - i) for i in range(1, t + 1)]
    expected = [sum(b * abs(row[k]) for b, row in zip(weights, rows, strict=True)) / sum(weights) for k in range(3)]
    found = averaged(beta, [torch.tensor(row) for row in rows])
    assert found.tolist() == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_its_limits_are_the_last_batch_and_the_plain_mean() -> None:
    gradients = [torch.randn(3) for _ in range(20)]
    torch.testing.assert_close(averaged(0.0, list(gradients)), gradients[-1].abs())
    mean = torch.stack(gradients).abs().mean(dim=0)
    torch.testing.assert_close(averaged(0.9999, list(gradients)), mean, rtol=2e-3, atol=1e-4)


def test_a_weight_without_a_gradient_counts_as_zero() -> None:
    g = torch.tensor([1.0, -2.0, 3.0])
    torch.testing.assert_close(averaged(0.5, [g, None]), g.abs() * 0.25 / 0.75)


@given(beta=st.floats(0.5, 0.99), t=st.integers(1, 30), seed=st.integers(0, 5))
@settings(max_examples=25, deadline=None)
def test_the_bias_correction_does_not_change_the_mask(beta: float, t: int, seed: int) -> None:
    """One scalar for all weights: the ranking over all layers, and with it the mask, stays as it is."""
    torch.manual_seed(seed)
    layers = {"a": torch.zeros(5, 7, requires_grad=True), "b": torch.zeros(30, requires_grad=True)}
    average = MovingAverage(beta)
    raw = {name: torch.zeros(w.shape) for name, w in layers.items()}
    for _ in range(t):
        for name, w in layers.items():
            w.grad = torch.randn(w.shape)
            raw[name] = beta * raw[name] + (1 - beta) * w.grad.abs()
        average.update(layers, ["abs_gradient"])
    corrected = {name: of(average, name)["abs_gradient"] for name in layers}
    masks = []
    for scores in (raw, corrected):
        counts = by_global_ranking(scores, 0.8, 0.0)
        masks.append(torch.cat([UNSTRUCTURED.keep(score, counts[name]).flatten() for name, score in scores.items()]))
    assert torch.equal(*masks)


def test_each_statistic_is_averaged_and_only_those_that_are_asked_for() -> None:
    """beta = 0 gives the last batch: g = (-3, 1/2) at w = (2, -4)."""
    w = torch.tensor([2.0, -4.0], requires_grad=True)
    expected = {
        "abs_gradient": [3.0, 0.5],
        "abs_gradient_weight": [6.0, 2.0],
        "gradient": [-3.0, 0.5],
        "squared_gradient": [9.0, 0.25],
    }
    assert expected.keys() == STATISTICS.keys()
    for name, values in expected.items():
        average = MovingAverage(0.0)
        for g in ([7.0, 7.0], [-3.0, 0.5]):
            w.grad = torch.tensor(g)
            average.update({"a": w, "b": w}, [name])
        found = average.signals("a", 4, start=w.detach(), own={"entropy": torch.tensor(0.5)})
        assert {key: value.tolist() for key, value in found.values.items()} == {name: values, "entropy": 0.5}
        assert found.seed == 4


def test_an_average_of_half_precision_weights_is_kept_in_single_precision() -> None:
    w = torch.zeros(1, dtype=torch.bfloat16, requires_grad=True)
    average = MovingAverage(0.999)
    for _ in range(1000):
        w.grad = torch.ones_like(w)
        average.update({"a": w}, ["abs_gradient"])
    assert float(of(average, "a")["abs_gradient"]) == pytest.approx(1.0, rel=1e-3)
