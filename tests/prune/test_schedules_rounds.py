"""Rounds of training: the lottery ticket and IMP by hand, and resuming to the same bits, COLT included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from rounds_by_hand import LEARNING, learnt, smallest_gone, task
from torch import Tensor
from toys import same, synthetic, toy, training, weights_of

from edgeprune.data import Dataset
from edgeprune.progress import Tick
from edgeprune.prune.masks import Masks, bake
from edgeprune.prune.schedules import Outcome, Schedule, geometric
from edgeprune.prune.schedules.colt import colt as run_colt
from edgeprune.prune.schedules.iterative import iterative
from edgeprune.prune.schedules.one_shot import one_shot
from edgeprune.prune.schedules.rounds import State, resume, save
from edgeprune.prune.task import Task, counting
from runtimes.errors import UserError

Ended = tuple[Outcome, dict[str, Tensor], int]  # outcome, weights, images in all processes


class Killed(Exception):  # noqa: N818 - it is not an error
    """Somebody pulled the plug."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic()


# --- iterative


def test_the_lottery_ticket_by_hand(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path / "own", dropout=0.3, rounds=3, rewind=True)
    outcome = iterative(given)
    masks: Masks | None = None
    for j in (1, 2, 3):
        model = toy(0, dropout=0.3)  # each training drops others
        learnt(given, model, masks, j - 1, tmp_path)
        masks = smallest_gone(given, model, geometric(0.8, j, 3), masks)
    assert masks is not None
    assert same(outcome.masks, dict(masks))
    rewound = toy(0)
    bake(rewound, masks)
    assert same(weights_of(given.student), weights_of(rewound))


def test_iterative_pruning_without_rewinding_by_hand(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path / "own", rounds=3)
    outcome = iterative(given)
    model, masks = toy(0), None
    for j in (1, 2, 3):
        masks = smallest_gone(given, model, geometric(0.8, j, 3), masks)
        bake(model, masks)
        if j < 3:
            learnt(given, model, masks, j - 1, tmp_path)
    assert masks is not None
    assert same(outcome.masks, masks)
    assert same(weights_of(given.student), weights_of(model))


def test_one_round_without_rewinding_is_one_shot(data: Dataset, tmp_path: Path) -> None:
    results = []
    for schedule in (one_shot, iterative):
        given = task(data, tmp_path / schedule.__name__, rounds=1, criterion="taylor", epochs=1.0)
        results.append((schedule(given), weights_of(given.student)))
    assert same(results[0][0].masks, results[1][0].masks)
    assert same(results[0][1], results[1][1])


def test_an_adaptive_rate_begins_each_training_at_what_its_pruning_took(data: Dataset, tmp_path: Path) -> None:
    retrain = LEARNING.model_copy(update={"lr_schedule": "allr"})
    given = task(data, tmp_path / "own", retrain=retrain, rounds=2)
    iterative(given)
    model = toy(0)
    masks = smallest_gone(given, model, geometric(0.8, 1, 2), None)
    gone = [model.get_submodule(name).weight.detach()[~mask] for name, mask in masks.items()]
    everything = [model.get_submodule(name).weight.detach().flatten() for name in masks]
    drop = float(torch.cat(gone).norm() / torch.cat(everything).norm())
    bake(model, masks)
    share = (1 - 0.2**0.5) ** 0.5
    learnt(given, model, masks, 0, tmp_path, lr=0.05 * max(drop / share, 1 / given.recipe.student.epochs))
    bake(model, smallest_gone(given, model, 0.8, masks))
    torch.testing.assert_close(weights_of(given.student), weights_of(model), rtol=1e-4, atol=1e-5)


def test_what_is_counted_and_told(data: Dataset, tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    given = replace(task(data, tmp_path, rounds=3, rewind=True), on_step=lambda *tick: told.append(tick))
    with counting(given.student) as seen:
        iterative(given)
    steps = len(training(data))
    assert [(done, of) for done, of, _ in told] == [(i + 1, 3 * steps) for i in range(3 * steps)]
    assert told[-1][2].startswith("round 3 of 3, epoch 1/1")
    assert seen.images == sum(len(batch) for batch in training(data).epoch(0)) * 3


# --- killed and resumed


def killer(at: int) -> Tick:
    """Ends the process at its tick number `at`, from 1; never for 0."""
    ticks = count(1)

    def tick(done: int, of: int, note: str) -> None:
        if next(ticks) == at:
            raise Killed

    return tick


def run_to_the_end(schedule: Schedule, given: Task, kills: Sequence[int]) -> Ended:
    """Kill process after process at these of its ticks, then let one end; the outcome, the weights, images in all."""
    for at in kills:
        with pytest.raises(Killed):
            schedule(replace(given, student=toy(0, dropout=0.3), on_step=killer(at)))
        torch.rand(5)  # another process has another generator
    student = toy(0, dropout=0.3)
    with counting(student) as seen:
        outcome = schedule(replace(given, student=student))
    return outcome, weights_of(student), seen.images + outcome.earlier_images


CASES = {
    "ticket": (iterative, {"rounds": 3, "rewind": True}),
    "imp": (iterative, {"rounds": 3, "criterion": "taylor", "epochs": 1.0}),
    "colt": (run_colt, {"rounds": 3, "parts": 2}),
}


def ended(name: str, data: Dataset, folder: Path, kills: Sequence[int]) -> Ended:
    schedule, settings = CASES[name]
    given = task(data, folder, dropout=0.3, retrain=LEARNING.model_copy(update={"epochs": 2}), **settings)
    return run_to_the_end(schedule, given, kills)


@pytest.fixture(scope="module")
def wholes(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """What comes of processes that nobody kills."""
    return {name: ended(name, data, tmp_path_factory.mktemp(name), []) for name in CASES}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("kills", [[1], [5], [9], [8, 2, 1]])
def test_a_killed_process_ends_with_the_same_bits(
    name: str, kills: list[int], data: Dataset, wholes: dict[str, Ended], tmp_path: Path
) -> None:
    whole, weights, images = wholes[name]
    resumed, weights_again, images_again = ended(name, data, tmp_path, kills)
    assert same(whole.masks, resumed.masks)
    assert (whole.guide_loss, whole.warnings) == (resumed.guide_loss, resumed.warnings)
    assert same(weights, weights_again)
    assert images == images_again > 0
    assert (resumed.earlier_images > 0) is (kills != [1])


def test_a_finished_schedule_is_answered_from_its_state(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path, rounds=2)
    outcome = iterative(given)
    again = replace(given, student=toy(0), on_step=lambda *_: pytest.fail("nothing is left to do"))
    repeated = iterative(again)
    assert same(outcome.masks, repeated.masks)
    assert same(weights_of(given.student), weights_of(again.student))
    assert [path.name for path in tmp_path.iterdir()] == ["state.checkpoint"], "no checkpoint stays"


def test_a_state_comes_back_whole(data: Dataset, tmp_path: Path) -> None:
    given = task(data, tmp_path)
    masks = {name: torch.rand(w.shape) < 0.5 for name, w in given.weights().items()}
    state = State(masks, 3, 1.1, 0.2, 1 / 3, (0.1, 0.2), ("a layer is thin",), 77)
    assert resume(given) == State()
    save(given, state)
    other = replace(given, student=toy(5))
    found = resume(other)
    assert same(found.masks or {}, masks)
    assert replace(found, masks=None) == replace(state, masks=None)
    assert same(weights_of(other.student), weights_of(given.student))


def test_a_damaged_state_is_told(data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "state.checkpoint").write_bytes(b"not this")
    with pytest.raises(UserError, match=r"state\.checkpoint is damaged"):
        iterative(task(data, tmp_path))
