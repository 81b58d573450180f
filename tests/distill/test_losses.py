"""Every loss against a plain numpy oracle, example by example; its gradient against the oracle's finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor, nn
from toys import CLASSES, random_batches, toy, weights_of

from edgeprune.distill import Loss, criterion_of, needs_teacher
from edgeprune.distill.divergence import standardise
from edgeprune.recipe import Objective
from edgeprune.tables import LOSSES
from runtimes.errors import UserError
from runtimes.tables import resolve

SWITCHES = [
    Objective(standardise=deviation, gamma=gamma, confidence=confidence, square_temperature=square, temperature=T)
    for deviation, gamma, confidence, square, T in product(
        ("population", "unbiased", "none"),
        ("batch", "sample", 0.0, 0.3, 1.0),
        ("raw", "softened"),
        (True, False),
        (1.0, 3.0),
    )
]


def logits(n: int = 5, classes: int = 10, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Student, teacher (n, classes), labels (n,), in double precision."""
    draw = np.random.default_rng(seed)
    return draw.normal(0, 2, (n, classes)), draw.normal(0, 5, (n, classes)), draw.integers(0, classes, n)


# --- the oracle: one example at a time, from the definitions


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def z_scored(z: np.ndarray, deviation: str) -> np.ndarray:
    if deviation == "none":
        return z
    sigma = math.sqrt(sum((x - z.mean()) ** 2 for x in z) / (len(z) - (deviation == "unbiased")))
    return np.array([(x - z.mean()) / (sigma + 1e-7) for x in z])


def divergence(p: np.ndarray, q: np.ndarray) -> float:
    return sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))


def oracle_ce(s: np.ndarray, t: np.ndarray, y: np.ndarray, o: Objective) -> np.ndarray:
    return np.array([-math.log(softmax(row)[label]) for row, label in zip(s, y, strict=True)])


def oracle_kd(s: np.ndarray, t: np.ndarray, y: np.ndarray, o: Objective) -> np.ndarray:
    T = o.temperature
    rows = [divergence(softmax(b / T), softmax(a / T)) for a, b in zip(s, t, strict=True)]
    return np.array(rows) * (T**2 if o.square_temperature else 1)


def oracle_ca_kld(s: np.ndarray, t: np.ndarray, y: np.ndarray, o: Objective) -> np.ndarray:
    T = o.temperature
    q = [softmax(z_scored(row, o.standardise) / T) for row in s]
    p = [softmax(z_scored(row, o.standardise) / T) for row in t]
    sure = [max(softmax(row)) if o.confidence == "raw" else max(soft) for row, soft in zip(t, p, strict=True)]
    gamma = {"batch": [np.mean(sure)] * len(s), "sample": sure}.get(str(o.gamma), [o.gamma] * len(s))
    rows = [g * divergence(b, a) + (1 - g) * divergence(a, b) for g, a, b in zip(gamma, p, q, strict=True)]
    return np.array(rows) * (T**2 if o.square_temperature else 1)


ORACLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Objective], np.ndarray]] = {
    "ca_kld": oracle_ca_kld,
    "ce": oracle_ce,
    "kd": oracle_kd,
}


def loss_of(name: str) -> Loss:
    found: Loss = resolve(LOSSES[name])
    return found


def tensors(*values: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(value.copy()) for value in values)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("n", "classes"), [(4, 10), (1, 2)])
def test_each_loss_is_the_definition_example_by_example(name: str, n: int, classes: int) -> None:
    s, t, y = logits(n, classes)
    for objective in SWITCHES:
        found = loss_of(name)(*tensors(s, t, y), objective)
        assert found.shape == (n,)
        np.testing.assert_allclose(found.numpy(), ORACLES[name](s, t, y, objective), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_the_gradient_is_the_finite_difference_of_the_definition(name: str) -> None:
    """Through the mean and the deviation, too: the oracle standardises the moved logits anew."""
    s, t, y = logits(n=2, classes=5)
    h = 1e-6
    for objective in SWITCHES[::3]:
        student, teacher, labels = tensors(s, t, y)
        loss_of(name)(student.requires_grad_(), teacher, labels, objective).sum().backward()
        for i, c in np.ndindex(s.shape):
            moved = s.copy(), s.copy()
            moved[0][i, c] += h
            moved[1][i, c] -= h
            up, down = (ORACLES[name](m, t, y, objective).sum() for m in moved)
            assert student.grad is not None
            assert float(student.grad[i, c]) == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("deviation", ["population", "unbiased"])
def test_nothing_pulls_along_the_mean_and_the_scale_of_the_students_logits(deviation: str) -> None:
    """Standardised logits do not change under z -> a z + b, so the gradient has no part along 1 and along z - mean."""
    s, t, y = logits()
    student, teacher, labels = tensors(s, t, y)
    objective = Objective(standardise=deviation)
    loss_of("ca_kld")(student.requires_grad_(), teacher, labels, objective).sum().backward()
    g = student.grad
    assert g is not None
    assert g.norm() > 1e-3
    assert g.sum(dim=1).abs().max() < 1e-12
    assert (g * (student - student.mean(dim=1, keepdim=True))).sum(dim=1).abs().max() < 1e-6


def test_kl_is_summed_over_the_classes_not_averaged() -> None:
    """A certain teacher over an undecided student is log C away. `kl_div(reduction="mean")` would say log C / C."""
    classes = 50
    teacher, student = torch.zeros(2, classes), torch.zeros(2, classes)
    teacher[:, 3] = 1000.0
    labels = torch.full((2,), 3)
    plain = Objective(temperature=1.0, standardise="none", gamma=0.0)
    for name in ("kd", "ca_kld"):
        assert loss_of(name)(student, teacher, labels, plain).tolist() == pytest.approx([math.log(classes)] * 2)


ROWS = arrays(np.float64, st.tuples(st.just(1), st.integers(2, 60)), elements=st.floats(-1e3, 1e3, width=32))


@given(row=ROWS)
@settings(max_examples=50, deadline=None)
def test_no_standardised_logit_exceeds_the_root_of_c_minus_1(row: np.ndarray) -> None:
    z = standardise(torch.from_numpy(row), "population")
    assert z.abs().max() <= math.sqrt(row.shape[1] - 1) * (1 + 1e-9)


@given(row=ROWS, T=st.floats(1, 10))
@settings(max_examples=50, deadline=None)
def test_the_teacher_is_never_surer_than_the_bound(row: np.ndarray, T: float) -> None:
    C = row.shape[1]
    bound = 1 / (1 + (C - 1) * math.exp(-C / (T * math.sqrt(C - 1))))
    sure = (standardise(torch.from_numpy(row), "population") / T).softmax(dim=1).max()
    assert sure <= bound * (1 + 1e-9)


@pytest.mark.parametrize(("C", "T", "percent"), [(10, 3, 25.2), (100, 3, 22.4), (200, 5, 7.9), (10, 5, 17.8)])
def test_a_one_hot_teacher_reaches_the_bound(C: int, T: float, percent: float) -> None:
    row = torch.zeros(1, C, dtype=torch.float64)
    row[0, 0] = 7.0
    sure = float((standardise(row, "population") / T).softmax(dim=1).max())
    assert sure == pytest.approx(1 / (1 + (C - 1) * math.exp(-C / (T * math.sqrt(C - 1)))), rel=1e-6)
    assert 100 * sure == pytest.approx(percent, abs=0.1)


@pytest.mark.parametrize("name", ["ca_kld", "kd"])
def test_a_student_that_equals_its_teacher_is_at_rest(name: str) -> None:
    s, _, y = logits()
    for objective in SWITCHES[::4]:
        student, teacher, labels = tensors(s, s, y)
        found = loss_of(name)(student.requires_grad_(), teacher, labels, objective)
        found.sum().backward()
        assert student.grad is not None
        assert found.abs().max() < 1e-13
        assert student.grad.abs().max() < 1e-13


def test_a_self_taught_network_gets_no_gradient_from_distillation() -> None:
    ((images, labels),) = random_batches(1).batches
    student, teacher = toy(0).eval(), toy(0)
    criterion_of(Objective(weight=1.0), teacher)(student(images), images, labels).backward()
    largest = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
    criterion_of(Objective(weight=0.0), teacher)(student(images), images, labels).backward()
    from_labels = max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None)
    assert largest < 1e-6 * from_labels


def test_gamma_leads_from_the_plain_kl_to_the_reverse_one() -> None:
    s, t, y = tensors(*logits())

    def ca_kld(gamma: float) -> Tensor:
        return loss_of("ca_kld")(s, t, y, Objective(standardise="none", gamma=gamma))

    plain, reverse = loss_of("kd")(s, t, y, Objective()), loss_of("kd")(t, s, y, Objective())
    torch.testing.assert_close(ca_kld(0.0), plain)
    torch.testing.assert_close(ca_kld(1.0), reverse)
    torch.testing.assert_close(ca_kld(0.25), 0.75 * plain + 0.25 * reverse)


def test_forward_and_reverse_agree_where_teacher_and_student_are_close() -> None:
    """Both are half the squared Fisher length of the step, up to third order."""
    s, t, y = logits()
    near = s + 1e-4 * t
    values = [loss_of("ca_kld")(*tensors(s, near, y), Objective(gamma=gamma)).numpy() for gamma in (0.0, 1.0)]
    np.testing.assert_allclose(values[0], values[1], rtol=1e-3)


CHANGES = {
    "loss": "kd",
    "weight": 0.9,
    "temperature": 4.0,
    "standardise": "none",
    "gamma": "sample",
    "confidence": "softened",
    "square_temperature": False,
}


def total(objective: Objective) -> float:
    """The whole objective on fixed logits: the images are the teacher's logits, the teacher hands them through."""
    s, t, y = tensors(*logits())
    return float(criterion_of(objective, nn.Identity())(s, t, y))


def test_every_switch_of_the_objective_changes_it() -> None:
    assert set(CHANGES) == set(Objective.model_fields)
    for key, value in CHANGES.items():
        assert total(Objective(**{key: value})) != pytest.approx(total(Objective()), rel=1e-6), key


def test_the_temperature_squared_is_exactly_that() -> None:
    for loss, T in product(("kd", "ca_kld"), (0.5, 2.0, 5.0)):
        values = [
            total(Objective(loss=loss, weight=1.0, temperature=T, square_temperature=square))
            for square in (True, False)
        ]
        assert values[0] == pytest.approx(T**2 * values[1], rel=1e-6)


@given(a=st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_the_total_is_the_blend_of_distance_and_cross_entropy(a: float) -> None:
    s, t, y = logits()
    objective = Objective(weight=a)
    expected = a * oracle_ca_kld(s, t, y, objective).mean() + (1 - a) * oracle_ce(s, t, y, objective).mean()
    assert total(objective) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("deviation", ["population", "unbiased", "none"])
def test_constant_logits_stay_finite(loss: str, deviation: str) -> None:
    varied = torch.from_numpy(logits()[0])
    flat = torch.full_like(varied, 2.5)
    labels = torch.from_numpy(logits()[2])
    for student, teacher in ((flat, varied), (varied, flat), (flat, flat)):
        for precise in (torch.float64, torch.float32):
            given_, guide = student.to(precise).clone().requires_grad_(), teacher.to(precise)
            found = loss_of(loss)(given_, guide, labels, Objective(standardise=deviation))
            found.sum().backward()
            assert torch.isfinite(found).all()
            assert given_.grad is not None
            assert torch.isfinite(given_.grad).all()


# --- what every loss of the table promises


@pytest.mark.parametrize("name", LOSSES)
@given(values=arrays(np.float32, (2, 4, 7), elements=st.floats(-200, 200, width=32)), label=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_every_loss_keeps_the_contract(name: str, values: np.ndarray, label: int) -> None:
    student, teacher = torch.from_numpy(values[0]).requires_grad_(), torch.from_numpy(values[1])
    labels = torch.full((4,), label)
    for objective in (
        Objective(),
        Objective(gamma="sample", standardise="none"),
        Objective(gamma=0.5, temperature=1.0),
    ):
        found = loss_of(name)(student, teacher, labels, objective)
        assert found.shape == (4,)
        assert torch.isfinite(found).all()
        assert (found > -1e-3).all()  # rounding, on values of some hundreds
        order = torch.tensor([2, 0, 3, 1])
        again = loss_of(name)(student[order], teacher[order], labels[order], objective)
        torch.testing.assert_close(again, found[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_teaches_the_student_and_leaves_the_teacher(name: str) -> None:
    ((images, labels),) = random_batches(1).batches
    student, teacher = toy(0).train(), toy(1).train()
    before = weights_of(teacher)
    objective = Objective(loss=name, weight=0.7)
    criterion_of(objective, teacher)(student(images), images, labels).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in student.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())
    if needs_teacher(objective):
        assert not any(module.training for module in teacher.modules())
    assert all(module.training for module in student.modules())


class Untouchable(nn.Module):
    """A teacher that must not be asked."""

    def forward(self, images: Tensor) -> Tensor:
        raise AssertionError("the teacher was run although the objective does not look at it")


@pytest.mark.parametrize("objective", [Objective(weight=0.0), Objective(loss="ce"), Objective(loss="ce", weight=1.0)])
@pytest.mark.parametrize("teacher", [None, Untouchable()])
def test_an_objective_of_labels_alone_is_cross_entropy_and_asks_no_teacher(
    objective: Objective, teacher: nn.Module | None
) -> None:
    s, t, y = logits(classes=CLASSES)
    found = criterion_of(objective, teacher)(*tensors(s, t, y))
    assert float(found) == pytest.approx(oracle_ce(s, t, y, objective).mean())


def test_a_missing_teacher_is_told_not_replaced() -> None:
    with pytest.raises(UserError, match="teacher"):
        criterion_of(Objective(loss="kd", weight=0.5), None)


def test_logits_in_half_precision_are_compared_in_single() -> None:
    """A GPU's autocast gives bfloat16, whose KL of close distributions would be noise."""
    s, t, y = tensors(*logits())
    s16, t16 = s.bfloat16(), t.bfloat16()
    found = criterion_of(Objective(), nn.Identity())(s16, t16, y)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(
        float(criterion_of(Objective(), nn.Identity())(s16.double(), t16.double(), y)), rel=1e-5
    )
