"""Learning-rate schedules against their closed forms, and what every schedule promises."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.learning_rate import Schedule, constant, cosine, linear, multistep, rate
from edgeprune.tables import LR_SCHEDULES
from runtimes.tables import resolve


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (constant, {0: 1, 0.3: 1, 1: 1}),
        (cosine, {0: 1, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1: 0}),
        (linear, {0: 1, 0.25: 0.75, 1: 0}),
    ],
)
def test_closed_forms(schedule: Schedule, points: dict[float, float]) -> None:
    for p, expected in points.items():
        assert schedule(p) == pytest.approx(expected, abs=1e-12)


def test_multistep_is_colts_recipe_in_fifty_epochs() -> None:
    """Epochs 20, 30 and 45 of 50, x 0.2 each: counted in whole epochs here."""
    for epoch in range(50):
        expected = 1.0 * 0.2 ** ((epoch >= 20) + (epoch >= 30) + (epoch >= 45))
        assert rate(multistep, epoch * 10, 500, 0.0) == pytest.approx(expected)


def test_warmup_rises_in_equal_steps_and_then_the_schedule_runs_whole() -> None:
    factors = [rate(linear, step, 100, 0.2) for step in range(100)]
    assert factors[:20] == pytest.approx([(k + 1) / 21 for k in range(20)])
    assert factors[20] == 1.0
    assert factors[20:] == pytest.approx([1 - k / 80 for k in range(80)])


def test_without_warmup_the_first_step_is_at_the_peak() -> None:
    assert rate(cosine, 0, 10, 0.0) == 1.0
    assert rate(cosine, 0, 1, 0.0) == 1.0
    assert rate(cosine, 5, 10, 0.0) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


# --- what every schedule of the table promises


@pytest.mark.parametrize("name", LR_SCHEDULES)
@given(points=st.lists(st.floats(0, 1), min_size=2, max_size=20))
@settings(max_examples=40, deadline=None)
def test_every_schedule_starts_at_the_peak_and_never_rises(name: str, points: list[float]) -> None:
    schedule: Schedule = resolve(LR_SCHEDULES[name])
    values = [schedule(p) for p in sorted(points)]
    assert schedule(0.0) == 1.0
    assert all(0 <= value <= 1 for value in values)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))


@pytest.mark.parametrize("name", LR_SCHEDULES)
@given(steps=st.integers(1, 300), warmup=st.floats(0, 0.99))
@settings(max_examples=40, deadline=None)
def test_every_rate_of_a_training_is_usable(name: str, steps: int, warmup: float) -> None:
    schedule: Schedule = resolve(LR_SCHEDULES[name])
    factors = [rate(schedule, step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    rising = round(warmup * steps)
    assert factors[:rising] == sorted(factors[:rising])
    assert factors[rising:] == sorted(factors[rising:], reverse=True)
