"""COLT: with one part the lottery ticket, with two a round by hand, and what a part may know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rounds_by_hand import LEARNING, learnt, smallest_gone, task, zeros
from torch import nn
from toys import CLASSES, same, synthetic, toy, weights_of

from edgeprune.data import Dataset
from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of
from edgeprune.learning_rate import norm_drop
from edgeprune.prune.masks import Masks, bake
from edgeprune.prune.schedules import colt, geometric
from edgeprune.prune.schedules.colt import colt as run_colt
from edgeprune.prune.schedules.colt import split
from edgeprune.prune.schedules.iterative import iterative
from edgeprune.prune.schedules.rounds import State, resume
from edgeprune.prune.task import Task
from edgeprune.recipe import Objective
from runtimes.errors import UserError


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic()


@pytest.mark.parametrize("settings", [{}, {"criterion": "taylor", "epochs": 1.0, "floor": 0.01}])
def test_one_part_is_the_lottery_ticket(settings: dict[str, Any], data: Dataset, tmp_path: Path) -> None:
    results = []
    for schedule in (iterative, run_colt):
        given = task(data, tmp_path / schedule.__name__, rounds=3, rewind=True, parts=1, **settings)
        results.append((schedule(given), weights_of(given.student)))
    (ticket, weights), (overlap, weights_again) = results
    assert same(ticket.masks, overlap.masks)
    assert replace(ticket, masks={}) == replace(overlap, masks={})
    assert same(weights, weights_again)


def test_one_round_of_two_parts_by_hand(data: Dataset, tmp_path: Path) -> None:
    """Two heads of two outputs each, trained on labels 0 and 1; what both keep is kept.

    The oracle has a smaller head of its own instead of a cut one, and no weight decay, which would move the rows that a
    part does not use.
    """
    retrain = LEARNING.model_copy(update={"objective": Objective(loss="ce"), "lr": 0.5, "epochs": 3})
    given = task(data, tmp_path / "own", rounds=8, parts=2, retrain=retrain)
    given = replace(given, recipe=given.recipe.model_copy(update={"train": undecayed(given)}))
    state = colt._round(given, [range(2), range(2, 4)], State(), weights_of(toy(0)))
    kept: list[Masks] = []
    for piece, first in enumerate((0, 2)):
        model = toy(0)
        with torch.no_grad():
            head = nn.Linear(8, 2)
            head.weight.copy_(model.head.weight[first : first + 2])
            head.bias.copy_(model.head.bias[first : first + 2])
        model.head = head
        batches, held = given.part(range(first, first + 2))
        part = replace(given, batches=Shifted(batches, first), validation=Shifted(held, first))
        learnt(part, model, None, piece, tmp_path)
        kept.append(smallest_gone(given, model, geometric(0.8, 1, 8), None))
    both = {name: kept[0][name] & kept[1][name] for name in kept[0]}
    assert zeros(both) > zeros(kept[0]), "the test can tell"
    assert same(state.masks or {}, both)
    total = sum(mask.numel() for mask in both.values())
    assert geometric(0.8, state.position, 8) == pytest.approx(zeros(both) / total)
    assert state.drop == pytest.approx(drop_of(toy(0), both), rel=1e-4)  # norms in float32, added up in another order


def undecayed(given: Task) -> Any:
    return given.recipe.train.model_copy(update={"weight_decay": 0.0})


def drop_of(model: nn.Module, masks: Masks) -> float:
    w = torch.cat([model.get_submodule(name).weight.detach().flatten() for name in masks])
    kept = torch.cat([mask.flatten() for mask in masks.values()])
    return norm_drop(float(w.norm()), float((w * kept).norm()))


class Shifted:
    """Labels from 0."""

    def __init__(self, batches: Any, by: int) -> None:
        self.batches, self.by = batches, by

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int) -> Any:
        return [Batch(batch.images, batch.labels - self.by) for batch in self.batches.epoch(number)]


def test_overlap_needs_fewer_rounds_and_ends_exactly(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path, rounds=6, parts=2, criterion="taylor", epochs=1.0)
    outcome = run_colt(given)
    assert zeros(outcome.masks) == round(0.8 * sum(mask.numel() for mask in outcome.masks.values()))
    assert resume(given).done < 6
    rewound = toy(0)
    bake(rewound, outcome.masks)
    assert same(weights_of(given.student), weights_of(rewound))


def test_two_of_four_stays_two_of_four(data: Dataset, tmp_path: Path) -> None:
    outcome = run_colt(task(data, tmp_path, pattern="2:4", sparsity=0.5, parts=2, rounds=2))
    for mask in outcome.masks.values():
        assert mask.movedim(1, -1).reshape(-1, 4).sum(dim=1).eq(2).all()


def test_the_last_cut_is_the_overlap_of_equally_long_rankings() -> None:
    """Brute force: for every k, what is in both copies' k best are the weights whose worst place is below k."""
    draw = torch.Generator().manual_seed(0)
    scores = [{"a": torch.rand(5, 4, generator=draw), "b": torch.rand(7, generator=draw)} for _ in range(3)]
    keep = {"a": torch.rand(5, 4, generator=draw) < 0.8, "b": torch.rand(7, generator=draw) < 0.8}
    worst = {name: 27 - place for name, place in colt._common_places(scores, keep).items()}
    flat = [torch.cat([(s * keep[n] - ~keep[n] * 1.0).flatten() for n, s in score.items()]) for score in scores]
    alive = sum(int(mask.sum()) for mask in keep.values())
    for k in range(alive + 1):
        best = [set(scored.topk(k).indices.tolist()) for scored in flat]
        found = torch.cat([place.flatten() for place in worst.values()]) < k
        assert set(found.nonzero().squeeze(1).tolist()) == set.intersection(*best)


def test_a_part_teaches_nothing_about_the_other_classes(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path, parts=2)
    part = colt._on(given, range(2, 4))
    batch = next(iter(part.batches.epoch(0)))
    assert set(batch.labels.tolist()) <= {0, 1}
    assert part.teacher is not None
    assert given.teacher is not None
    assert torch.equal(part.teacher(batch), given.teacher(batch)[:, 2:4])
    lesson_of(LEARNING.objective, part.teacher)(part.student, batch, 0.0).backward()
    assert not part.student.head.weight.grad[:2].any()
    assert part.student.head.weight.grad[2:].any()
    assert part.student(batch.images).shape == (len(batch), 2)
    assert given.student(batch.images).shape == (len(batch), CLASSES), "the student itself is whole"


@pytest.mark.parametrize(
    ("classes", "parts", "expected"),
    [(10, 2, [5, 5]), (10, 3, [4, 3, 3]), (11, 3, [4, 4, 3]), (4, 1, [4]), (200, 2, [100, 100])],
)
def test_parts_are_consecutive_classes(classes: int, parts: int, expected: list[int]) -> None:
    found = split(classes, parts)
    assert [len(part) for part in found] == expected
    assert [one for part in found for one in part] == list(range(classes))


def test_too_many_parts_are_told(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="4 classes make no 3 parts of at least two") as told:
        run_colt(task(data, tmp_path, parts=3))
    assert told.value.hint == "set prune.parts=2"
