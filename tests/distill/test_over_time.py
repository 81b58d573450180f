"""The weight of the distillation and its temperature, over a training and against the student."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from given_logits import Says, drawn, total
from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of, live
from edgeprune.distill.kd import kd
from edgeprune.distill.temperature import Annealed, Learned
from edgeprune.distill.weight import balanced, decayed
from edgeprune.recipe import Objective
from runtimes.errors import UserError

# --- the weight


def test_the_weight_decays_to_nothing() -> None:
    nothing = torch.zeros(())
    found = [decayed(0.8, p, nothing, nothing, nothing) for p in (0.0, 0.25, 1.0)]
    assert found == pytest.approx([0.8, 0.6, 0.0])


def gradient(objective: Objective, p: float = 0.0) -> Tensor:
    """Of the whole objective, at the student's logits."""
    s, t, y = drawn()
    student = Says(s)
    lesson_of(objective, live(nn.Identity()))(student, Batch(t, y), p).backward()
    assert student.logits.grad is not None
    return student.logits.grad


@pytest.mark.parametrize(("weight", "ratio"), [(0.5, 1.0), (0.75, 3.0), (0.1, 1 / 9)])
@pytest.mark.parametrize("loss", ["ca_kld", "kd", "ldrld"])
def test_balanced_parts_pull_in_the_proportion_of_the_weight(loss: str, weight: float, ratio: float) -> None:
    """With D and E the gradients of each part alone: the blend is a D + (1 - a) E, and the norms are in proportion."""
    D, E = gradient(Objective(loss=loss, weight=1.0)), gradient(Objective(loss="ce"))
    found = gradient(Objective(loss=loss, weight=weight, weight_schedule="balanced"))
    a = float(torch.linalg.lstsq(torch.stack([D.flatten(), E.flatten()], 1), found.flatten()).solution[0])
    torch.testing.assert_close(found, a * D + (1 - a) * E, rtol=1e-4, atol=1e-6)
    assert a * D.norm() / ((1 - a) * E.norm()) == pytest.approx(ratio, rel=1e-3)


def test_where_a_part_does_not_pull_there_is_nothing_to_balance() -> None:
    z = torch.randn(3, 4, requires_grad=True)
    some, none = z.square().mean(), 0.0 * z.mean()
    for distance, labelled in ((none, some), (some, none), (none, none)):
        assert float(balanced(0.3, 0.0, distance, labelled, z)) == pytest.approx(0.3)
    assert float(balanced(0.3, 0.0, some, some, z)) == pytest.approx(0.3)
    assert not torch.as_tensor(balanced(0.3, 0.0, some, 2 * some, z)).requires_grad


# --- the temperature


def test_the_temperature_anneals_to_one() -> None:
    assert [Annealed(5.0)(p) for p in (0.0, 0.5, 1.0)] == [5.0, 3.0, 1.0]
    objective = Objective(loss="kd", temperature=5.0, temperature_schedule="annealed")
    assert total(objective, 0.5) == pytest.approx(total(Objective(loss="kd", temperature=3.0)))


def test_a_learned_temperature_climbs_the_loss_by_its_finite_difference() -> None:
    s, t, y = drawn()
    temperature = Learned(3.0)

    def loss(T: Tensor) -> Tensor:
        return kd(s, t, y, Objective().model_copy(update={"temperature": T})).mean()

    def at(theta: float) -> float:
        return float(loss(torch.tensor(1 + 20 / (1 + math.exp(-theta)), dtype=torch.float64)))

    theta, h, velocity = float(temperature.theta), 1e-5, 0.0
    for p, strength in ((0.0, 0.0), (1 / 48, 0.5), (10 / 240, 1.0), (1.0, 1.0)):
        velocity = 0.9 * velocity + strength * (at(theta + h) - at(theta - h)) / (2 * h)
        theta += 0.05 * velocity
        temperature.learn(loss, p)
        assert float(temperature.theta) == pytest.approx(theta, rel=1e-8)
    assert temperature(1.0) == pytest.approx(1 + 20 / (1 + math.exp(-theta)))
    assert abs(temperature(1.0) - 3.0) > 1e-3


@pytest.mark.parametrize("loss", ["ca_kld", "kd", "ldrld"])
def test_a_student_that_stands_still_meets_the_temperature_that_is_hardest_for_it(loss: str) -> None:
    s, t, y = drawn()
    lesson = lesson_of(Objective(loss=loss, weight=1.0, temperature_schedule="learned"), live(nn.Identity()))
    for _ in range(250):
        last = lesson(Says(s), Batch(t, y), 0.9).item()
    at_all = [Objective(loss=loss, weight=1.0, temperature=T) for T in np.linspace(1.01, 20.99, 100)]
    losses = [lesson_of(objective, live(nn.Identity()))(Says(s), Batch(t, y), 0.9).item() for objective in at_all]
    assert last == pytest.approx(max(losses), rel=0.01)
    assert last > 1.01 * losses[10], "T = 3 is as hard already"


def test_a_learned_temperature_leaves_the_students_gradient_as_it_is() -> None:
    learned, constant = (gradient(Objective(temperature_schedule=name), 0.5) for name in ("learned", "constant"))
    torch.testing.assert_close(learned, constant)


@pytest.mark.parametrize("temperature", [1.0, 21.0])
def test_a_learned_temperature_cannot_start_at_its_ends(temperature: float) -> None:
    with pytest.raises(UserError, match="between 1 and 21"):
        lesson_of(Objective(temperature=temperature, temperature_schedule="learned"), live(nn.Identity()))


def test_without_a_teacher_no_temperature_is_learned() -> None:
    with pytest.raises(UserError, match="no teacher"):
        lesson_of(Objective(loss="cs_kd", temperature_schedule="learned"), None)
