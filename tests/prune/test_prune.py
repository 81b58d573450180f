"""Pruning end to end on synthetic images: exact, repeatable, and nothing of the scoring left behind but the mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import random_batches, same, synthetic, task_of, toy, training, validation, weights_of

from edgeprune.data import Dataset
from edgeprune.distill import lesson_of, live
from edgeprune.layers import layers
from edgeprune.prune import Pruned, already_pruned, choose, prune
from edgeprune.prune import masks as masking
from edgeprune.prune.patterns import Pattern
from edgeprune.prune.repair import reestimate_batch_norm
from edgeprune.prune.score import gather
from edgeprune.prune.signals import DATA_FREE, Signals
from edgeprune.recipe import Hardware, Objective, Prune, Training
from edgeprune.tables import CRITERIA, PATTERNS
from edgeprune.train import train
from runtimes.errors import UserError
from runtimes.tables import resolve

SHARED = Hardware(momentum=0.9, weight_decay=5e-4)
QUICK = Prune(sparsity=0.8, repair_batches=2, lr=0.05)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic()


def pruned(data: Dataset, seed: int = 0, teacher: int = 1, **changes: Any) -> tuple[nn.Module, Pruned]:
    student = toy(0)
    settings = Prune(**{**QUICK.model_dump(), **changes})
    task = task_of(student, settings, Path(), data=data, teacher=live(toy(teacher)), seed=seed)
    return student, prune(task, choose(student, task.pattern, settings)[1])


def gathered(student: nn.Module, data: Dataset, settings: Prune, **changes: Any) -> dict[str, Signals]:
    task = task_of(student, settings, Path(), data=data, **changes)
    return gather(task, resolve(CRITERIA[settings.criterion]), None, 0, 1)[0]


def pattern(name: str) -> Pattern:
    found: Pattern = resolve(PATTERNS[name])
    return found


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in weights_of(model).items() if "running" in key}


def test_the_sparsity_is_exact_and_every_masked_weight_is_zero(data: Dataset) -> None:
    student, outcome = pruned(data)
    assert list(outcome.masks) == ["stem", "conv", "depthwise", "grouped", "pointwise"]
    total = sum(mask.numel() for mask in outcome.masks.values())
    assert sum(int((~mask).sum()) for mask in outcome.masks.values()) == round(0.8 * total)
    for name, mask in outcome.masks.items():
        weight = getattr(student, name).weight
        assert mask.dtype == torch.bool
        assert torch.equal(weight == 0, ~mask)
        assert not torch.signbit(weight[~mask]).any()
    assert set(outcome.reasons) == {layer.name for layer in layers(student)} - set(outcome.masks)
    assert all(outcome.reasons.values())
    assert len(outcome.guide_loss) == len(training(data))


@pytest.mark.parametrize("criterion", ["weighted_ema_gradient", "random"])
def test_equal_input_prunes_equally_bit_by_bit(criterion: str, data: Dataset) -> None:
    one, other = (pruned(data, criterion=criterion) for _ in range(2))
    assert same(weights_of(one[0]), weights_of(other[0]))
    assert masking.sha256(one[1].masks) == masking.sha256(other[1].masks)
    assert one[1].guide_loss == other[1].guide_loss


def test_the_seed_and_the_teacher_decide_the_mask(data: Dataset) -> None:
    hashes = [masking.sha256(pruned(data, teacher=teacher)[1].masks) for teacher in (1, 2)]
    lots = [masking.sha256(pruned(data, criterion="random", epochs=0, seed=seed)[1].masks) for seed in (0, 1)]
    assert len({*hashes, *lots}) == 4


def test_a_random_mask_differs_from_layer_to_layer(data: Dataset) -> None:
    """Two layers of one shape under one seed: `conv` and `twin` must not get the same lots."""
    student = toy()
    student.add_module("twin", nn.Conv2d(8, 8, 3))
    signals = gathered(student, data, QUICK.model_copy(update={"criterion": "random", "epochs": 0.0}))
    score, w = resolve(CRITERIA["random"]).score, torch.zeros(8, 8, 3, 3)
    assert not torch.equal(score(w, signals["conv"]), score(w, signals["twin"]))


def test_two_of_four_zeroes_half_of_every_layer_that_can(data: Dataset) -> None:
    _, outcome = pruned(data, pattern="2:4", sparsity=0.5, layers=("conv", "linear"))
    assert list(outcome.masks) == ["conv", "pointwise", "hidden"]
    for mask in outcome.masks.values():
        assert mask.movedim(1, -1).reshape(-1, 4).sum(dim=1).eq(2).all()
    for layer, words in {"stem": "input channels", "depthwise": "groups", "head": "classifier"}.items():
        assert words in outcome.reasons[layer]


def test_the_student_learns_while_it_is_scored_but_not_without_a_rate(data: Dataset) -> None:
    for lr, moved in ((0.05, True), (0.0, False)):
        student = toy()
        before = {name: p.detach().clone() for name, p in student.named_parameters()}
        gathered(student, data, QUICK.model_copy(update={"lr": lr}))
        assert any(not torch.equal(p, before[name]) for name, p in student.named_parameters()) is moved


def test_scoring_applies_no_weight_decay(data: Dataset) -> None:
    found = []
    for decay in (0.0, 0.5):
        student = toy()
        gathered(student, data, QUICK, shared=Hardware(momentum=0.9, weight_decay=decay))
        found.append(weights_of(student))
    assert same(*found)


def test_scoring_lasts_as_long_as_it_is_told(data: Dataset) -> None:
    steps: list[tuple[int, int]] = []
    batches = training(data, batch_size=50)
    assert len(batches) == 4
    task = task_of(toy(), QUICK.model_copy(update={"epochs": 2.5}), Path(), data=data, batches=batches)
    task = replace(task, on_step=lambda done, of, _: steps.append((done, of)))
    gather(task, resolve(CRITERIA[QUICK.criterion]), None, 0, 1)
    assert steps == [(i, 10) for i in range(1, 11)]


def test_no_momentum_of_the_scoring_enters_the_retraining(data: Dataset, tmp_path: Path) -> None:
    """Retraining the very object that was pruned, and a copy that knows its weights only, gives the same bits."""
    student, outcome = pruned(data)
    copy = toy(5)
    copy.load_state_dict(weights_of(student))
    results = []
    for model in (student, copy):
        train(
            model,
            training(data),
            validation(data),
            lesson_of(Objective(loss="ce"), None),
            Training(epochs=1, lr=0.05),
            SHARED,
            seed=3,
            checkpoint=tmp_path / f"{len(results)}.checkpoint",
            masks=outcome.masks,
        )
        results.append(weights_of(model))
    assert same(*results)


def test_the_pruned_networks_statistics_are_those_of_its_own_activations(data: Dataset) -> None:
    student, _ = pruned(data)
    repaired = statistics(student)
    reestimate_batch_norm(student, [batch.images for batch in training(data).epoch(0)][:2])
    assert same(repaired, statistics(student)), "prune() repairs with the first batches, after masking"
    unrepaired, _ = pruned(data, repair="none")
    assert not same(repaired, statistics(unrepaired))


@pytest.mark.parametrize("name", CRITERIA)
def test_without_scoring_only_criteria_without_data_work(name: str, data: Dataset) -> None:
    if resolve(CRITERIA[name]).needs - DATA_FREE:
        with pytest.raises(UserError, match=r"needs data, but prune\.epochs = 0"):
            pruned(data, criterion=name, epochs=0)
    else:
        student, outcome = pruned(data, criterion=name, epochs=0, repair="none")
        assert outcome.guide_loss == ()
        kept = torch.cat([getattr(student, layer).weight[mask] for layer, mask in outcome.masks.items()])
        before = torch.cat([getattr(toy(0), layer).weight[mask] for layer, mask in outcome.masks.items()])
        assert torch.equal(kept, before), "no fine-tuning either"


def test_a_guide_that_diverges_is_told(data: Dataset) -> None:
    with pytest.raises(UserError, match="diverged"):
        pruned(data, lr=1e30, epochs=3)


def test_layers_are_left_out_by_kind_and_by_name(data: Dataset) -> None:
    _, outcome = pruned(data, layers=("linear",), skip=("he*",))
    assert list(outcome.masks) == ["hidden"]
    assert outcome.reasons["head"] == "left out by prune.skip"
    assert "conv layers are kept dense" in outcome.reasons["conv"]


def test_nothing_to_prune_is_told_with_the_reasons(data: Dataset) -> None:
    with pytest.raises(UserError, match=r"nothing in this network can be pruned: stem: left out by prune\.skip"):
        pruned(data, skip=("*",))


def test_a_layer_that_loses_everything_is_warned_about(data: Dataset) -> None:
    _, outcome = pruned(data, criterion="magnitude", epochs=0, sparsity=0.995)
    lost = [name for name, mask in outcome.masks.items() if not mask.any()]
    assert lost
    assert [warning.split()[1] for warning in outcome.warnings] == lost
    _, kept = pruned(data, criterion="magnitude", epochs=0, sparsity=0.98, floor=0.005)
    assert all(mask.any() for mask in kept.masks.values())
    assert all("would have lost all" in warning for warning in kept.warnings)


# --- a network that comes with zeros in it


def with_zeros(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    student = toy()
    settings = Prune(pattern=name, sparsity=0.5, criterion="magnitude", epochs=0, repair="none")
    outcome = prune(task_of(student, settings, Path(), batches=random_batches(1)), {})
    return student, outcome.masks


@pytest.mark.parametrize("name", ["unstructured", "2:4"])
def test_the_zeros_of_a_pruned_network_are_taken_as_its_mask(name: str) -> None:
    student, masks = with_zeros(name)
    before = weights_of(student)
    outcome = already_pruned(student, pattern(name), Prune(pattern=name, sparsity=0.5))
    assert {layer: outcome.masks[layer].tolist() for layer in masks} == {k: m.tolist() for k, m in masks.items()}
    assert all(mask.all() for layer, mask in outcome.masks.items() if layer not in masks)
    assert same(before, weights_of(student))


def test_zeros_outside_of_what_the_recipe_would_prune_are_held_too() -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 8), nn.Linear(8, 2))
    with torch.no_grad():
        student[2].weight[:, 1] = 0.0
    outcome = already_pruned(student, pattern("unstructured"), Prune(layers=("conv",), skip=("2",)))
    assert set(outcome.masks) == {"0", "2", "3"}
    assert outcome.masks["2"].sum() == 24


def test_frozen_and_shared_weights(data: Dataset) -> None:
    student = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3), nn.Linear(4, 2))
    student[0].requires_grad_(False)
    student[2].weight = student[1].weight
    chosen, reasons = choose(student, pattern("unstructured"), Prune())
    assert list(chosen) == ["1"]
    assert reasons["0"].startswith("frozen")


def test_zeros_that_do_not_follow_the_pattern_are_refused() -> None:
    student, _ = with_zeros("unstructured")
    with pytest.raises(UserError, match=r"the zeros of layer \w+ are not 2:4"):
        already_pruned(student, pattern("2:4"), Prune(pattern="2:4", sparsity=0.5))


def test_a_group_with_more_zeros_than_the_pattern_asks_for_still_follows_it() -> None:
    student, _ = with_zeros("2:4")
    student.conv.weight.data[:, 0:4] = 0.0  # type: ignore[union-attr, operator, index]
    outcome = already_pruned(student, pattern("2:4"), Prune(pattern="2:4", sparsity=0.5))
    assert not outcome.masks["conv"][:, 0:4].any()
