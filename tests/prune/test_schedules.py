"""Schedules without rounds of training: stages against one shot, the cubic one against its formula and step by step."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from toys import same, synthetic, task_of, toy, training, weights_of

from edgeprune.data import Dataset
from edgeprune.prune import masks as masking
from edgeprune.prune.masks import Masks
from edgeprune.prune.schedules import Outcome, Schedule, geometric
from edgeprune.prune.schedules.gradual import cubic, gradual
from edgeprune.prune.schedules.one_shot import one_shot
from edgeprune.prune.schedules.staged import staged
from edgeprune.prune.task import Task
from edgeprune.recipe import Hardware, Prune, Retrain
from edgeprune.tables import CRITERIA, SCHEDULES
from runtimes.errors import UserError
from runtimes.tables import resolve


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic()


def task(data: Dataset, folder: Path, shared: Hardware | None = None, **settings: Any) -> Task:
    stated = {"sparsity": 0.8, "lr": 0.05, **settings}
    return task_of(toy(0), Prune(**stated), folder, data=data, shared=shared)


def zeros(masks: Masks) -> int:
    return sum(int((~mask).sum()) for mask in masks.values())


def size(masks: Masks) -> int:
    return sum(mask.numel() for mask in masks.values())


def within(inner: Masks, outer: Masks) -> bool:
    return all(not (mask & ~outer[name]).any() for name, mask in inner.items())


def agree(one: Outcome, other: Outcome) -> bool:
    return same(one.masks, other.masks) and one == replace(other, masks=one.masks)


# --- the geometric schedule


@given(sparsity=st.floats(0, 0.999), rounds=st.integers(1, 30))
def test_each_round_takes_the_same_share_of_what_is_left(sparsity: float, rounds: int) -> None:
    left = [1 - geometric(sparsity, k, rounds) for k in range(rounds + 1)]
    assert left[0] == 1.0
    assert geometric(sparsity, rounds, rounds) == sparsity, "to the bit"
    assert all(b / a == pytest.approx((1 - sparsity) ** (1 / rounds), rel=1e-9) for a, b in pairwise(left))


def test_half_of_what_is_left_by_hand() -> None:
    assert [geometric(0.875, k, 3) for k in range(4)] == pytest.approx([0, 0.5, 0.75, 0.875])
    assert geometric(0.75, 0.5, 2) == pytest.approx(1 - 0.25**0.25)


# --- what all schedules promise


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_is_exact_repeatable_and_leaves_zeros_behind(name: str, data: Dataset, tmp_path: Path) -> None:
    schedule: Schedule = resolve(SCHEDULES[name])
    given_, results = task(data, tmp_path / "0", rounds=2, criterion="taylor"), []
    for number in range(2):
        again = replace(given_, student=toy(0), checkpoints=tmp_path / str(number))
        outcome = schedule(again)
        results.append((outcome, weights_of(again.student)))
        assert zeros(outcome.masks) == round(0.8 * size(outcome.masks))
        assert tuple(outcome.masks) == given_.chosen
        for layer, mask in outcome.masks.items():
            assert mask.device.type == "cpu"
            assert not again.student.get_submodule(layer).weight[~mask].any()
        assert outcome.guide_loss
        assert outcome.earlier_images == 0
        torch.rand(3)
    assert agree(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


# --- staged


@pytest.mark.parametrize("criterion", ["magnitude", "taylor", "fisher"])
def test_one_stage_is_one_shot(criterion: str, data: Dataset, tmp_path: Path) -> None:
    results = []
    for schedule in (one_shot, staged):
        given_ = task(data, tmp_path, rounds=1, criterion=criterion)
        results.append((schedule(given_), weights_of(given_.student)))
    assert agree(results[0][0], results[1][0])
    assert same(results[0][1], results[1][1])


def test_stages_go_on_from_each_other_and_share_out_the_batches(data: Dataset, tmp_path: Path) -> None:
    """Three stages; the first is what one shot to its sparsity would have been.

    The criterion is one that does not look at the weights: it would take pruned ones back, were it allowed to.
    """
    whole = staged(task(data, tmp_path, rounds=3, criterion="ema_gradient", epochs=3))
    first = one_shot(task(data, tmp_path, sparsity=geometric(0.8, 1, 3), criterion="ema_gradient", epochs=1))
    assert whole.guide_loss[: len(first.guide_loss)] == pytest.approx(first.guide_loss)
    assert len(whole.guide_loss) == 3 * len(training(data))
    assert within(whole.masks, first.masks)
    assert zeros(first.masks) < zeros(whole.masks) == round(0.8 * size(whole.masks))


def test_stages_without_a_rate_move_no_weight(data: Dataset, tmp_path: Path) -> None:
    given_ = task(data, tmp_path, rounds=4, criterion="taylor", lr=0.0)
    outcome = staged(given_)
    for name, mask in outcome.masks.items():
        before = toy(0).get_submodule(name).weight
        assert torch.equal(given_.student.get_submodule(name).weight, before * mask)


def test_recomputing_the_scores_changes_the_mask_but_not_magnitudes(data: Dataset, tmp_path: Path) -> None:
    """Without training, magnitudes are what they were; gradients are not, once other weights are gone."""
    for criterion, equal in (("magnitude", True), ("taylor", False)):
        settings = {"criterion": criterion, "lr": 0.0}
        one, many = one_shot(task(data, tmp_path, **settings)), staged(task(data, tmp_path, rounds=4, **settings))
        assert same(one.masks, many.masks) is equal


# --- gradual


def test_the_cubic_schedule_by_hand() -> None:
    assert [cubic(0.8, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.0, 0.8 * 0.875, 0.8])
    assert cubic(0.985, 1.0) == 0.985, "to the bit"


def spied(given_: Task) -> tuple[Outcome, list[dict[str, Tensor]]]:
    """The outcome, and the weights that are alive after every step."""
    steps: list[dict[str, Tensor]] = []

    def tick(done: int, of: int, note: str) -> None:
        assert (done, of) == (len(steps) + 1, 12)
        steps.append({key: mask.clone() for key, mask in masking.of_zeros(given_.student, given_.chosen).items()})

    return gradual(replace(given_, on_step=tick)), steps


@pytest.mark.parametrize("criterion", ["magnitude", "weighted_ema_gradient", "obs"])
def test_a_gradual_mask_follows_the_cubic_and_nothing_returns(criterion: str, data: Dataset, tmp_path: Path) -> None:
    outcome, steps = spied(task(data, tmp_path, criterion=criterion, epochs=4))
    total = size(outcome.masks)
    assert [zeros(alive) for alive in steps] == [round(cubic(0.8, (t + 1) / 12) * total) for t in range(12)]
    assert all(within(later, earlier) for earlier, later in pairwise(steps))
    assert same(outcome.masks, steps[-1])
    assert len(outcome.guide_loss) == 12


def test_a_gradual_2_of_4_grows_and_ends_whole(data: Dataset, tmp_path: Path) -> None:
    outcome, steps = spied(task(data, tmp_path, criterion="magnitude", epochs=4, pattern="2:4", sparsity=0.5))
    counts = [zeros(alive) for alive in steps]
    assert len(set(counts)) > 6
    assert all(within(later, earlier) for earlier, later in pairwise(steps))
    for mask in outcome.masks.values():
        assert mask.movedim(1, -1).reshape(-1, 4).sum(dim=1).eq(2).all()


def test_a_long_gradual_training_chooses_seldom(data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.prune.schedules.gradual._CHOICES", 3)
    outcome, steps = spied(task(data, tmp_path, criterion="magnitude", epochs=4))
    counts = [zeros(alive) for alive in steps]
    assert [t + 1 for t, (a, b) in enumerate(pairwise([0, *counts])) if a != b] == [4, 8, 12]
    assert counts[-1] == round(0.8 * size(outcome.masks))


def test_gradual_steps_are_those_of_sgd_under_the_growing_mask(data: Dataset, tmp_path: Path) -> None:
    """Two steps by hand: v <- 0.9 v + g + decay w, w <- w - lr v, and then the smallest weights are zero.

    The rate is the retraining's, half of it in the first step, which is its warm-up.
    """
    shared = Hardware(momentum=0.9, weight_decay=0.1)
    given_ = task(data, tmp_path, shared, criterion="magnitude", epochs=2 / 3, guide={"loss": "ce"})
    recipe = given_.recipe.model_copy(update={"retrain": Retrain(lr=0.05, warmup=0.5)})
    given_ = replace(given_, recipe=recipe)
    outcome = gradual(given_)
    assert len(outcome.guide_loss) == 2
    student, speed = toy(0).train(), {name: torch.zeros_like(p) for name, p in toy(0).named_parameters()}
    names = [f"{name}.weight" for name in given_.chosen]
    by_hand = [(0.025, cubic(0.8, 0.5)), (0.05, 0.8)]
    for batch, (lr, sparsity) in zip(training(data).epoch(0), by_hand, strict=False):
        student.zero_grad()
        nn.functional.cross_entropy(student(batch.images), batch.labels).backward()
        with torch.no_grad():
            for name, p in student.named_parameters():
                speed[name] = 0.9 * speed[name] + p.grad + 0.1 * p
                p -= lr * speed[name]
            sizes = torch.cat([student.get_parameter(name).abs().flatten() for name in names])
            threshold = sizes.kthvalue(round(sparsity * len(sizes))).values
            for name in names:
                p = student.get_parameter(name)
                p *= p.abs() > threshold
    for name, p in student.named_parameters():
        torch.testing.assert_close(given_.student.get_parameter(name), p)


@pytest.mark.parametrize("kill_at", [1, 7, 11, 12])
def test_a_killed_gradual_training_goes_on_and_ends_with_the_same_bits(
    kill_at: int, data: Dataset, tmp_path: Path
) -> None:
    """Epochs of three steps, twelve in all, with dropout, momentum and averages that must all be where they were."""
    settings = {"criterion": "weighted_ema_gradient", "epochs": 4, "sparsity": 0.8, "lr": 0.05}

    def begun(folder: str) -> Task:
        return task_of(toy(0, dropout=0.3), Prune(**settings), tmp_path / folder, data=data)

    def kill(done: int, of: int, note: str) -> None:
        if done == kill_at:
            raise KeyboardInterrupt

    whole, killed, resumed = begun("whole"), replace(begun("killed"), on_step=kill), begun("killed")
    expected = gradual(whole)
    with pytest.raises(KeyboardInterrupt):
        gradual(killed)
    outcome = gradual(resumed)
    assert same(outcome.masks, expected.masks)
    assert outcome.guide_loss == expected.guide_loss
    assert same(weights_of(resumed.student), weights_of(whole.student))
    assert outcome.earlier_images == 64 * 3 * ((kill_at - 1) // 3)


def test_gradual_pruning_needs_steps(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prunes while it trains, but prune\.epochs = 0"):
        gradual(task(data, tmp_path, criterion="magnitude", epochs=0))


@pytest.mark.parametrize("name", sorted(CRITERIA))
def test_every_criterion_can_judge_a_growing_mask(name: str, data: Dataset, tmp_path: Path) -> None:
    settings = {"criterion": name, "epochs": 1}
    outcome = gradual(task(data, tmp_path, **settings))
    assert zeros(outcome.masks) == round(0.8 * size(outcome.masks))
