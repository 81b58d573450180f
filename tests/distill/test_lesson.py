"""What a lesson adds to the losses: the blend with cross entropy, the teacher, what an interrupted one remembers."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from given_logits import Says, drawn, total
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import CLASSES, synthetic, toy, weights_of

from edgeprune.data import Augment
from edgeprune.data.batches import Batch, Batches
from edgeprune.distill import Lesson, answers, cached, lesson_of, live, needs_teacher
from edgeprune.distill.ca_kld import ca_kld
from edgeprune.distill.ce import ce
from edgeprune.recipe import Objective
from edgeprune.tables import LOSSES, TEMPERATURES, WEIGHTS
from runtimes.errors import UserError


def noise(seed: int = 0, n: int = 16) -> Batch:
    """Images without sense, with labels."""
    draw = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(n, 3, 8, 8, generator=draw), torch.randint(0, CLASSES, (n,), generator=draw))


CHANGES = {
    "loss": "kd",
    "weight": 0.9,
    "weight_schedule": "decayed",
    "temperature": 4.0,
    "temperature_schedule": "annealed",
    "standardise": "none",
    "gamma": "sample",
    "confidence": "softened",
    "square_temperature": False,
}


def test_every_switch_of_the_objective_changes_it() -> None:
    assert set(CHANGES) == set(Objective.model_fields)
    for key, value in CHANGES.items():
        assert total(Objective(**{key: value})) != pytest.approx(total(Objective()), rel=1e-6), key


@given(a=st.floats(0, 1), p=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_the_total_is_the_blend_of_distance_and_cross_entropy(a: float, p: float) -> None:
    s, t, y = drawn()
    for schedule, share in (("constant", a), ("decayed", a * (1 - p))):
        objective = Objective(weight=a, weight_schedule=schedule)
        expected = share * ca_kld(s, t, y, objective).mean() + (1 - share) * ce(s, t, y, objective).mean()
        assert total(objective, p) == pytest.approx(float(expected), rel=1e-5)


# --- with and without a teacher


def network(seed: int, *, training: bool = True) -> nn.Module:
    """A toy network with batch norm."""
    return toy(seed).train(training)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("weight_schedule", WEIGHTS)
def test_every_loss_teaches_the_student_and_leaves_the_teacher(name: str, weight_schedule: str) -> None:
    student, teacher = network(0), network(1)
    before = weights_of(teacher)
    lesson = lesson_of(Objective(loss=name, weight=0.7, weight_schedule=weight_schedule), live(teacher))
    for step in range(2):
        lesson(student, noise(step), step / 2).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in student.parameters())
    assert any(p.grad.abs().max() > 0 for p in student.parameters() if p.grad is not None)
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert all(module.training for module in student.modules())


def test_a_teacher_that_somebody_puts_into_training_goes_back_to_eval() -> None:
    """The test above would not see batch norm move if `live` had put it into `eval()` once and for all."""
    teacher = network(1, training=False)
    lesson = lesson_of(Objective(weight=1.0), live(teacher))
    expected = lesson(network(0), noise(), 0.0).item()
    before = weights_of(teacher)
    teacher.train()
    assert lesson(network(0), noise(), 0.0).item() == expected
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_a_teacher_that_is_the_student_gives_no_gradient() -> None:
    def largest(weight: float) -> float:
        student = network(0, training=False)
        lesson_of(Objective(weight=weight), live(network(0)))(student, noise(), 0.0).backward()
        return max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)

    assert largest(1.0) < 1e-6 * largest(0.0)


class Untouchable(nn.Module):
    """A teacher that must not be asked."""

    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("the teacher was run although the objective does not look at it")


@pytest.mark.parametrize(
    "objective",
    [Objective(weight=0.0), Objective(loss="ce"), Objective(loss="ce", weight=1.0), Objective(loss="dlb", weight=0.0)],
)
@pytest.mark.parametrize("teacher", [None, Untouchable()])
def test_an_objective_of_labels_alone_is_cross_entropy_and_asks_no_teacher(
    objective: Objective, teacher: nn.Module | None
) -> None:
    s, t, y = drawn()
    lesson = lesson_of(objective, live(teacher) if teacher else None)
    assert not needs_teacher(objective)
    for _ in range(2):
        assert lesson(Says(s), Batch(t, y), 0.0).item() == pytest.approx(float(ce(s, t, y, objective).mean()))


def test_who_needs_a_teacher_is_known_and_a_missing_one_told() -> None:
    needing = {name for name in LOSSES if needs_teacher(Objective(loss=name))}
    assert needing == {"ca_kld", "kd", "ldrld"}
    for name in needing:
        with pytest.raises(UserError, match="teacher"):
            lesson_of(Objective(loss=name), None)


def test_logits_in_half_precision_are_compared_in_single() -> None:
    """A GPU's autocast gives bfloat16, whose KL of close distributions would be noise."""
    s, t, y = drawn()
    lesson = lesson_of(Objective(), live(nn.Identity()))
    found = lesson(Says(s.bfloat16()), Batch(t.bfloat16(), y), 0.0)
    assert found.dtype == torch.float32
    exact = lesson(Says(s.bfloat16().double()), Batch(t.bfloat16().double(), y), 0.0)
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


# --- answers kept instead of a teacher that runs


def test_kept_answers_are_those_of_the_live_teacher_where_images_are_only_mirrored() -> None:
    data, teacher = synthetic(), toy(3).train()
    before = weights_of(teacher)
    kept = answers(teacher, Batches(data.train, data.preprocess, batch_size=50, device="cpu"))
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    assert kept.shape == (2, len(data.train), CLASSES)
    assert not torch.allclose(kept[0], kept[1], atol=1e-3), "the network does not tell an image from its mirror image"
    for only in (None, np.flatnonzero(data.train.labels < 2)):
        batches = Batches(
            data.train, data.preprocess, batch_size=32, device="cpu", augment=Augment(flip=True), seed=1, only=only
        )
        for batch in batches.epoch(4):
            assert 0 < batch.mirrored.sum() < len(batch)
            torch.testing.assert_close(cached(kept)(batch), live(teacher)(batch), rtol=1e-4, atol=1e-5)


def test_answers_that_were_never_given_are_not_numbers() -> None:
    data = synthetic()
    odd = np.arange(1, len(data.train), 2)
    kept = answers(toy(3), Batches(data.train, data.preprocess, batch_size=50, device="cpu", only=odd))
    assert kept[:, odd].isfinite().all()
    assert kept[:, odd[:-1] + 1].isnan().all()


# --- interrupted lessons


def resumed(lesson: Lesson, fresh: Lesson) -> Lesson:
    """Another lesson with the state of the first, by way of a file."""
    buffer = io.BytesIO()
    torch.save({"lesson": lesson.state_dict()}, buffer)
    buffer.seek(0)
    fresh.load_state_dict(torch.load(buffer, weights_only=True)["lesson"])
    return fresh


def steps(lesson: Lesson, model: nn.Module, begun: int, count: int) -> list[float]:
    """Losses of training steps, over the same batches for the same step."""
    data, losses = synthetic(), []
    batches = Batches(data.train, data.preprocess, batch_size=48, device="cpu", augment=data.augment, seed=2)
    shown = [batch for number in range(3) for batch in batches.epoch(number)]
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for step in range(begun, begun + count):
        optimizer.zero_grad()
        loss = lesson(model, shown[step], step / len(shown))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


OBJECTIVES = [
    *(Objective(loss=name) for name in LOSSES),
    *(Objective(loss="kd", temperature_schedule=name) for name in TEMPERATURES),
    Objective(loss="dlb", weight_schedule="balanced"),
]


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.loss}-{o.temperature_schedule}")
def test_an_interrupted_lesson_goes_on_as_if_it_had_not_been(objective: Objective) -> None:
    teacher = live(toy(5))
    straight, begun = toy(1).train(), toy(1).train()
    expected = steps(lesson_of(objective, teacher), straight, 0, 10)
    lesson = lesson_of(objective, teacher)
    found = steps(lesson, begun, 0, 6)
    found += steps(resumed(lesson, lesson_of(objective, teacher)), copy.deepcopy(begun), 6, 4)
    assert found == expected
    if lesson.state_dict() and objective.loss in ("dlb", "ps_kd"):
        forgetful = steps(lesson_of(objective, teacher), copy.deepcopy(begun), 6, 4)
        assert forgetful != expected[6:], "the state makes no difference"
