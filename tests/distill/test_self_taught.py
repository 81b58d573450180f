"""Losses without a teacher, against their formulas in plain loops: other images of the class, and the past."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from toys import CLASSES, synthetic, toy

from edgeprune.data.batches import Batch, Batches
from edgeprune.distill import lesson_of
from edgeprune.recipe import Objective


def softmax(row: Tensor, T: float = 1.0) -> list[float]:
    e = [math.exp(float(z) / T) for z in row]
    return [x / sum(e) for x in e]


def divergence(p: list[float], q: list[float]) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def distilled(teacher: Tensor, student: Tensor, T: float) -> float:
    rows = [divergence(softmax(t, T), softmax(s, T)) for t, s in zip(teacher, student, strict=True)]
    return T * T * sum(rows) / len(rows)


def cross_entropy(logits: Tensor, labels: Tensor) -> float:
    return -sum(math.log(softmax(row)[int(y)]) for row, y in zip(logits, labels, strict=True)) / len(labels)


def batches() -> Batches:
    data = synthetic()
    return Batches(data.train, data.preprocess, batch_size=40, device="cpu", augment=data.augment, seed=4)


def seen(model: nn.Module, images: Tensor) -> Tensor:
    """What a network in the same state would answer; the network itself is left as it is."""
    with torch.no_grad():
        logits: Tensor = copy.deepcopy(model)(images)
    return logits


def norms(model: nn.Module) -> list[Tensor]:
    return [value.clone() for key, value in model.state_dict().items() if "running" in key]


# --- cs_kd


@pytest.mark.parametrize(("a", "T"), [(0.5, 4.0), (0.75, 1.0)])
def test_cs_kd_learns_from_the_partners_answer(a: float, T: float) -> None:
    model = toy().train()
    objective = Objective(loss="cs_kd", weight=a, temperature=T)
    for batch in list(batches().epoch(0))[:2]:
        out, other = seen(model, batch.images), seen(model, batch.partners())
        expected = a * distilled(other, out, T) + (1 - a) * cross_entropy(out, batch.labels)
        assert lesson_of(objective, None)(model, batch, 0.3).item() == pytest.approx(expected, rel=1e-4)


def test_cs_kd_sends_no_gradient_through_the_partner_but_shows_it_to_batch_norm() -> None:
    """The gradient is that with the partner's logits given; in `eval()` the statistics would not have seen them."""
    (batch, *_) = batches().epoch(0)
    model, twin = toy().train(), toy().train()
    lesson_of(Objective(loss="cs_kd", weight=1.0, temperature=2.0), None)(model, batch, 0.0).backward()
    logits = twin(batch.images)
    with torch.no_grad():
        given = twin(batch.partners())
    p = (given / 2).softmax(1)
    (4 * (p * (p.log() - (logits / 2).log_softmax(1))).sum(1).mean()).backward()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(one, other) for one, other in zip(norms(model), norms(twin), strict=True))


# --- ps_kd


def test_ps_kd_softens_each_label_by_the_last_answer_to_that_image() -> None:
    """Three epochs, the memory kept by hand in a dictionary; the network changes in between."""
    model, lesson = toy().train(), lesson_of(Objective(loss="ps_kd", weight=0.8), None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    memory: dict[int, list[float]] = {}
    shown = [batch for number in range(3) for batch in batches().epoch(number)]
    softened = 0
    for step, batch in enumerate(shown):
        alpha, out, loss = 0.8 * step / len(shown), seen(model, batch.images), 0.0
        for index, row, label in zip(batch.indices.tolist(), out, batch.labels.tolist(), strict=True):
            q = softmax(row)
            hard = [float(c == label) for c in range(CLASSES)]
            past = memory.get(index, hard)
            loss -= sum(((1 - alpha) * y + alpha * P) * math.log(x) for y, P, x in zip(hard, past, q, strict=True))
            softened += index in memory
            memory[index] = q
        optimizer.zero_grad()
        found = lesson(model, batch, step / len(shown))
        assert found.item() == pytest.approx(loss / len(batch), rel=1e-4)
        found.backward()
        optimizer.step()
    assert softened > len(shown) * 20


def test_ps_kd_is_cross_entropy_at_every_first_visit() -> None:
    lesson, plain = (lesson_of(Objective(loss=name, weight=0.8), None) for name in ("ps_kd", "ce"))
    model = toy().eval()
    for batch in batches().epoch(0):
        assert lesson(model, batch, 0.9).item() == pytest.approx(plain(model, batch, 0.9).item())


def test_ps_kd_remembers_images_that_come_late() -> None:
    """Indices grow, in any order; a hole in between stays unvisited."""
    images, model = torch.randn(3, 3, 8, 8), toy().eval()
    labels = torch.tensor([0, 1, 2])
    lesson = lesson_of(Objective(loss="ps_kd", weight=1.0), None)
    for places in ([5, 1, 0], [9, 5, 2]):
        lesson(model, Batch(images, labels, torch.tensor(places)), 1.0)
    past = lesson.state_dict()["past"]
    assert past.shape == (10, CLASSES)
    assert past.sum(1).tolist() == pytest.approx([1, 1, 1, 0, 0, 1, 0, 0, 0, 1])


# --- dlb


@pytest.mark.parametrize(("a", "T"), [(0.5, 3.0), (0.3, 1.0)])
def test_dlb_shows_the_last_batch_again_and_holds_it_to_its_first_answer(a: float, T: float) -> None:
    model = toy().train()
    lesson = lesson_of(Objective(loss="dlb", weight=a, temperature=T), None)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    last: tuple[Batch, Tensor] | None = None
    for batch in batches().epoch(1):
        out = seen(model, batch.images)
        if last is None:
            expected = (1 - a) * cross_entropy(out, batch.labels)
        else:
            again = seen(model, last[0].again())
            both, labels = torch.cat([again, out]), torch.cat([last[0].labels, batch.labels])
            expected = a * distilled(last[1], again, T) + (1 - a) * cross_entropy(both, labels)
            assert distilled(last[1], again, T) > 0
        optimizer.zero_grad()
        found = lesson(model, batch, 0.0)
        assert found.item() == pytest.approx(expected, rel=1e-4)
        found.backward()
        optimizer.step()
        last = batch, out


def test_dlb_has_nothing_to_say_to_a_network_that_stands_still() -> None:
    """Made by hand, a batch's second view is its first; the same weights in `eval()` answer it alike."""
    model = toy().eval()
    lesson = lesson_of(Objective(loss="dlb", weight=1.0), None)
    draw = torch.Generator().manual_seed(0)
    for n in (6, 4, 6):  # of changing length
        batch = Batch(torch.randn(n, 3, 8, 8, generator=draw), torch.randint(0, CLASSES, (n,), generator=draw))
        model.zero_grad()
        found = lesson(model, batch, 0.0)
        found.backward()
        assert abs(found.item()) < 1e-6
        assert max(float(p.grad.abs().max()) for p in model.parameters() if p.grad is not None) < 1e-6
