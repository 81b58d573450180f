"""Every loss against a plain numpy oracle, example by example; its gradient against the oracle's finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from edgeprune.distill import Loss
from edgeprune.distill.ldrld import adaptive_decay_weight
from edgeprune.recipe import Objective
from edgeprune.tables import LOSSES
from runtimes.tables import resolve


def objective(**changes: object) -> Objective:
    """The default with changes, unchecked: a loss takes what a recipe does not offer, such as a tensor for T."""
    return Objective().model_copy(update=changes)


SWITCHES = [
    objective(standardise=deviation, gamma=gamma, confidence=confidence, square_temperature=square, temperature=T)
    for deviation, gamma, confidence, square, T in product(
        ("population", "unbiased", "none"),
        ("batch", "sample", "weight", 0.0, 0.3, 1.0),
        ("raw", "softened", "entropy"),
        (True, False),
        (1.0, 3.0),
    )
]
FUNCTIONS = [name for name, place in LOSSES.items() if not isinstance(resolve(place), type)]


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


def oracle_confidence(t: np.ndarray, soft: np.ndarray, kind: str) -> float:
    p = softmax(t)
    entropy = -sum(x * math.log(x) for x in p if x > 0)
    return {"raw": max(p), "softened": max(soft), "entropy": 1 - entropy / math.log(len(p))}[kind]


def oracle_ca_kld(s: np.ndarray, t: np.ndarray, y: np.ndarray, o: Objective) -> np.ndarray:
    T = o.temperature
    q = [softmax(z_scored(row, o.standardise) / T) for row in s]
    p = [softmax(z_scored(row, o.standardise) / T) for row in t]
    sure = [oracle_confidence(row, soft, o.confidence) for row, soft in zip(t, p, strict=True)]
    gamma = {"batch": [np.mean(sure)] * len(s), "sample": sure}.get(str(o.gamma), [o.gamma] * len(s))
    if o.gamma == "weight":
        rows = [c * divergence(a, b) for c, a, b in zip(sure, p, q, strict=True)]
    else:
        rows = [g * divergence(b, a) + (1 - g) * divergence(a, b) for g, a, b in zip(gamma, p, q, strict=True)]
    return np.array(rows) * (T**2 if o.square_temperature else 1)


def oracle_ldrld(s: np.ndarray, t: np.ndarray, y: np.ndarray, o: Objective) -> np.ndarray:
    """Every set of classes in a loop: the pairs of the seven that the student ranks first, those seven, the rest."""
    T, rows = o.temperature, []
    for student, teacher in zip(s, t, strict=True):
        ranked = sorted(range(len(student)), key=lambda c, z=student: -z[c])
        leading, rest = ranked[:7], ranked[7:]

        def apart(classes: list[int], a: np.ndarray = teacher, b: np.ndarray = student) -> float:
            return divergence(softmax(a[classes] / T), softmax(b[classes] / T)) if classes else 0.0

        local, sets = apart(leading), 1
        for i, j in combinations(range(1, len(leading) + 1), 2):
            weight = 2 / (1.5 + abs(i - j)) * math.exp(-0.05 * (i + j))
            local += weight * apart([leading[i - 1], leading[j - 1]])
            sets += 1
        rows.append(10.5 * local / sets + 7 * apart(rest))
    return np.array(rows) * (T**2 if o.square_temperature else 1)


ORACLES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, Objective], np.ndarray]] = {
    "ca_kld": oracle_ca_kld,
    "ce": oracle_ce,
    "kd": oracle_kd,
    "ldrld": oracle_ldrld,
}


def switches_of(name: str) -> list[Objective]:
    """The settings of an objective that can make a difference to a loss."""
    if name == "ca_kld":
        return SWITCHES
    return [objective(temperature=T, square_temperature=square) for T in (1.0, 3.0) for square in (True, False)]


def loss_of(name: str) -> Loss:
    found: Loss = resolve(LOSSES[name])
    return found


def tensors(*values: np.ndarray) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(value.copy()) for value in values)


@pytest.mark.parametrize("name", ORACLES)
@pytest.mark.parametrize(("n", "classes"), [(4, 10), (2, 8), (1, 2)])
def test_each_loss_is_the_definition_example_by_example(name: str, n: int, classes: int) -> None:
    s, t, y = logits(n, classes)
    for switches in switches_of(name):
        found = loss_of(name)(*tensors(s, t, y), switches)
        assert found.shape == (n,)
        np.testing.assert_allclose(found.numpy(), ORACLES[name](s, t, y, switches), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ORACLES)
def test_the_gradient_is_the_finite_difference_of_the_definition(name: str) -> None:
    """Through the mean and the deviation, too: the oracle standardises the moved logits anew."""
    s, t, y = logits(n=2, classes=9)
    h = 1e-6
    for switches in switches_of(name)[::7]:
        student, teacher, labels = tensors(s, t, y)
        loss_of(name)(student.requires_grad_(), teacher, labels, switches).sum().backward()
        for i, c in np.ndindex(s.shape):
            moved = s.copy(), s.copy()
            moved[0][i, c] += h
            moved[1][i, c] -= h
            up, down = (ORACLES[name](m, t, y, switches).sum() for m in moved)
            assert student.grad is not None
            assert float(student.grad[i, c]) == pytest.approx((up - down) / (2 * h), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("deviation", ["population", "unbiased"])
def test_nothing_pulls_along_the_mean_and_the_scale_of_the_students_logits(deviation: str) -> None:
    """Standardised logits do not change under z -> a z + b, so the gradient has no part along 1 and along z - mean."""
    s, t, y = logits()
    student, teacher, labels = tensors(s, t, y)
    loss_of("ca_kld")(student.requires_grad_(), teacher, labels, objective(standardise=deviation)).sum().backward()
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


@pytest.mark.parametrize("name", ["ca_kld", "kd", "ldrld"])
def test_a_student_that_equals_its_teacher_is_at_rest(name: str) -> None:
    s, _, y = logits()
    for switches in switches_of(name):
        student, teacher, labels = tensors(s, s, y)
        found = loss_of(name)(student.requires_grad_(), teacher, labels, switches)
        found.sum().backward()
        assert student.grad is not None
        assert found.abs().max() < 1e-13
        assert student.grad.abs().max() < 1e-13


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


def test_a_teacher_without_an_idea_weighs_nothing_and_a_certain_one_all() -> None:
    s, t, y = tensors(*logits())
    plain = loss_of("ca_kld")(s, t, y, objective(gamma=0.0, standardise="none"))
    weighed = objective(gamma="weight", confidence="entropy", standardise="none")
    assert loss_of("ca_kld")(s, torch.zeros_like(t), y, weighed).abs().max() < 1e-12
    torch.testing.assert_close(
        loss_of("ca_kld")(s, 1e3 * t, y, weighed), loss_of("kd")(s, 1e3 * t, y, objective(temperature=3.0))
    )
    assert (loss_of("ca_kld")(s, t, y, weighed) < plain).all()


def test_ldrld_weighs_the_pair_at_the_top_most_and_distant_ranks_less() -> None:
    ranks = torch.tensor([[1.0, 1.0, 1.0, 2.0, 6.0], [2.0, 3.0, 7.0, 3.0, 7.0]])
    found = adaptive_decay_weight(ranks).tolist()
    assert found[0] == max(found) == pytest.approx(2 / 2.5 * math.exp(-0.15))
    assert found[0] > found[1] > found[2]
    assert found[0] > found[3] > found[4], "the same distance, further down"


def test_ldrld_of_two_classes_is_kd_of_them() -> None:
    """The one pair is the whole group too: 10.5 (w + 1) / 2 times their KL, and there is no rest."""
    s, t, y = tensors(*logits(classes=2))
    factor = 10.5 * (2 / 2.5 * math.exp(-0.15) + 1) / 2
    torch.testing.assert_close(loss_of("ldrld")(s, t, y, Objective()), factor * loss_of("kd")(s, t, y, Objective()))


def test_the_temperature_squared_is_exactly_that() -> None:
    s, t, y = tensors(*logits())
    for name, T in product(("kd", "ca_kld", "ldrld"), (0.5, 2.0, 5.0)):
        values = [
            loss_of(name)(s, t, y, objective(temperature=T, square_temperature=square)) for square in (True, False)
        ]
        torch.testing.assert_close(values[0], T**2 * values[1])


@pytest.mark.parametrize("loss", FUNCTIONS)
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


# --- what every loss with a teacher promises


@pytest.mark.parametrize("name", FUNCTIONS)
@given(values=arrays(np.float32, (2, 4, 7), elements=st.floats(-200, 200, width=32)), label=st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_every_loss_keeps_the_contract(name: str, values: np.ndarray, label: int) -> None:
    student, teacher = torch.from_numpy(values[0]).requires_grad_(), torch.from_numpy(values[1])
    labels = torch.full((4,), label)
    for switches in (
        objective(),
        objective(gamma="sample", standardise="none"),
        objective(gamma=0.5, temperature=1.0),
        objective(gamma="weight", confidence="entropy"),
    ):
        found = loss_of(name)(student, teacher, labels, switches)
        assert found.shape == (4,)
        assert torch.isfinite(found).all()
        assert (found > -1e-3).all()  # rounding, on values of some hundreds
        order = torch.tensor([2, 0, 3, 1])
        again = loss_of(name)(student[order], teacher[order], labels[order], switches)
        torch.testing.assert_close(again, found[order], rtol=1e-4, atol=1e-4)
