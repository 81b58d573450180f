"""Learning-rate schedules against their closed forms, and what every schedule promises."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.learning_rate import (
    ALLR,
    CONSTANT,
    COSINE,
    LINEAR,
    LLR,
    MULTISTEP,
    SLR,
    Schedule,
    adapted_peak,
    norm_drop,
    rate,
    retraining,
)
from edgeprune.recipe import complete
from edgeprune.tables import LR_SCHEDULES
from runtimes.tables import resolve


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (CONSTANT, {0: 1, 0.3: 1, 1: 1}),
        (COSINE, {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
        (LINEAR, {0: 1, 0.25: 0.75, 1: 0}),
    ],
)
def test_closed_forms(schedule: Schedule, points: dict[float, float]) -> None:
    for p, expected in points.items():
        assert schedule.factor(p) == pytest.approx(expected, abs=1e-12)


def test_multistep_is_colts_recipe_in_fifty_epochs() -> None:
    """Epochs 20, 30 and 45 of 50, x 0.2 each: counted in whole epochs here."""
    for epoch in range(50):
        expected = 1.0 * 0.2 ** ((epoch >= 20) + (epoch >= 30) + (epoch >= 45))
        assert rate(MULTISTEP, epoch * 10, 500, 0.0) == pytest.approx(expected)


def test_warmup_rises_in_equal_steps_and_then_the_schedule_runs_whole() -> None:
    factors = [rate(LINEAR, step, 100, 0.2) for step in range(100)]
    assert factors[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    assert factors[20] == 1.0
    assert factors[20:] == pytest.approx([1 - k / 80 for k in range(80)])


def test_without_warmup_the_first_step_is_at_the_peak() -> None:
    assert rate(COSINE, 0, 10, 0.0) == 1.0
    assert rate(COSINE, 0, 1, 0.0) == 1.0
    assert rate(COSINE, 5, 10, 0.0) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


# --- those for retraining


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_slr_compresses_the_original_steps_behind_a_warmup_of_a_tenth(warmup: float) -> None:
    """200 steps: 20 to warm up, whatever the recipe says, and 180 that fall at 40, 60 and 90 % of themselves."""
    factors = [rate(SLR, step, 200, warmup) for step in range(200)]
    assert factors[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    assert factors[20:] == pytest.approx([1.0] * 72 + [0.2] * 36 + [0.04] * 54 + [0.008] * 18)


@pytest.mark.parametrize("schedule", [LLR, ALLR])
def test_llr_falls_to_nothing_behind_the_same_warmup(schedule: Schedule) -> None:
    factors = [rate(schedule, step, 200, 0.3) for step in range(200)]
    assert factors[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    assert factors[20:] == pytest.approx([1 - k / 180 for k in range(180)])


@pytest.mark.parametrize(
    ("drop", "sparsity", "share", "expected"),
    [
        (0.3, 0.81, 0.1, 0.3 / 0.9),  # between the bounds
        (0.05, 0.81, 0.1, 0.1),  # little was taken: a short retraining still gets its share of the peak
        (0.95, 0.81, 0.1, 1.0),  # more than at random: the peak
        (0.3, 0.81, 4.0, 1.0),  # longer than the original training
        (0.0, 0.0, 0.25, 0.25),  # nothing was pruned
    ],
)
def test_the_adapted_peak_by_hand(drop: float, sparsity: float, share: float, expected: float) -> None:
    assert adapted_peak(0.1, drop, sparsity, share) == pytest.approx(0.1 * expected)


def test_the_norm_drop_is_the_distance_to_the_pruned_weights() -> None:
    w = torch.randn(1000, generator=torch.Generator().manual_seed(0)).double()
    pruned = w * (w.abs() > 1)
    expected = float((w - pruned).norm() / w.norm())
    assert norm_drop(float(w.norm()), float(pruned.norm())) == pytest.approx(expected)
    assert norm_drop(float(w.norm()), 0.0) == 1.0
    assert norm_drop(0.0, 0.0) == 0.0


def test_pruning_at_random_is_retrained_from_the_full_peak() -> None:
    """In expectation: lots take sqrt(s) of the norm, which is what the drop is measured by."""
    draw = torch.Generator().manual_seed(0)
    w, kept = torch.randn(200_000, generator=draw), torch.rand(200_000, generator=draw) > 0.7
    drop = norm_drop(float(w.norm()), float((w * kept).norm()))
    assert adapted_peak(0.1, drop, 0.7, 0.0) == pytest.approx(0.1, rel=1e-2)


def test_only_an_adaptive_schedule_moves_the_recipes_peak() -> None:
    stated = {"student": {"model": "digits-cnn", "epochs": 10}, "retrain": {"epochs": 1, "lr": 0.4}}
    for name in LR_SCHEDULES:
        recipe = complete(stated, [f"retrain.lr_schedule={name}"])
        expected = 0.4 * 0.3 / 0.9 if name == "allr" else 0.4
        assert retraining(recipe, 0.3, 0.81).lr == pytest.approx(expected)
    longer = complete(stated, ["retrain.lr_schedule=allr", "retrain.epochs=20"])
    assert retraining(longer, 0.3, 0.81).lr == pytest.approx(0.4)


# --- what every schedule of the table promises


@pytest.mark.parametrize("name", LR_SCHEDULES)
@given(points=st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(max_examples=40, deadline=None)
def test_every_schedule_starts_at_the_peak_and_never_rises(name: str, points: list[float]) -> None:
    schedule: Schedule = resolve(LR_SCHEDULES[name])
    values = [schedule.factor(p) for p in sorted(points)]
    assert schedule.factor(0.0) == 1.0
    assert all(0 <= value <= 1 for value in values)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))


@pytest.mark.parametrize("name", LR_SCHEDULES)
@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.99))
@settings(max_examples=40, deadline=None)
def test_every_rate_of_a_training_is_usable(name: str, steps: int, warmup: float) -> None:
    schedule: Schedule = resolve(LR_SCHEDULES[name])
    factors = [rate(schedule, step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    rising = round((warmup if schedule.warmup is None else schedule.warmup) * steps)
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
