"""Training ends with the same bits however often it is interrupted, keeps the best epoch, and says when it fails."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toys import Fixed, random_batches, same, synthetic, toy, training, validation, weights_of

from edgeprune.data import Dataset
from edgeprune.data.batches import Batch
from edgeprune.distill import lesson_of, live
from edgeprune.optimise import Batches, device_of, leading, sgd, top1
from edgeprune.prune.masks import Masks
from edgeprune.recipe import Hardware, Objective, Training
from edgeprune.train import Epoch, train
from runtimes.errors import UserError

SHARED = Hardware(momentum=0.9, weight_decay=5e-4, nesterov=True)
SETTINGS = Training(epochs=3, lr=0.1, warmup=0.1)
UNDER_TEACHER = Objective()
DROPPING = {"dropout": 0.3}  # chance inside the network, too


class Killed(Exception):  # noqa: N818 - it is not an error
    """Somebody pulled the plug."""


@pytest.fixture(scope="module")
def data() -> Dataset:
    return synthetic()


def trained(
    model: nn.Module,
    data: Dataset,
    checkpoint: Path,
    *,
    seed: int = 1,
    settings: Training = SETTINGS,
    masks: Masks | None = None,
    objective: Objective = UNDER_TEACHER,
    kill_at: int | None = None,
) -> list[Epoch]:
    def tick(done: int, of: int, note: str) -> None:
        if done == kill_at:
            raise Killed

    lesson = lesson_of(objective, live(toy(9)))
    return train(
        model,
        training(data),
        validation(data),
        lesson,
        settings,
        SHARED,
        seed=seed,
        checkpoint=checkpoint,
        masks=masks,
        on_step=tick,
    )


def timeless(history: list[Epoch]) -> list[Epoch]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in history]


@pytest.fixture(scope="module")
def whole(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[Epoch]]:
    """Weights and history of the training that nobody interrupted."""
    model = toy(0, **DROPPING)
    history = trained(model, data, tmp_path_factory.mktemp("whole") / "checkpoint")
    return weights_of(model), timeless(history)


@pytest.mark.parametrize("kill_at", [2, 3, 4, 6, 8, 9])
def test_an_interrupted_training_ends_with_the_same_bits(
    kill_at: int, data: Dataset, whole: tuple[dict[str, Tensor], list[Epoch]], tmp_path: Path
) -> None:
    """Three epochs of three steps; killed in the middle of each and at its very end, before its checkpoint."""
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        trained(toy(0, **DROPPING), data, checkpoint, kill_at=kill_at)
    torch.randn(7)  # another process has another generator
    # Before the first checkpoint a new process starts from the initial weights; afterwards those do not matter.
    model = toy(5 if checkpoint.exists() else 0, **DROPPING)
    history = trained(model, data, checkpoint)
    assert same(weights_of(model), whole[0])
    assert timeless(history) == whole[1]


def test_interrupted_after_every_epoch_and_asked_again_at_the_end(
    data: Dataset, whole: tuple[dict[str, Tensor], list[Epoch]], tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    for kill_at in (4, 7):
        with pytest.raises(Killed):
            trained(toy(0, **DROPPING), data, checkpoint, kill_at=kill_at)
    for _ in range(2):  # the second time there is nothing left to do
        model = toy(5, **DROPPING)
        assert timeless(trained(model, data, checkpoint)) == whole[1]
        assert same(weights_of(model), whole[0])


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(
    data: Dataset, whole: tuple[dict[str, Tensor], list[Epoch]], tmp_path: Path
) -> None:
    for seed, equal in ((1, True), (2, False)):
        model = toy(0, **DROPPING)
        trained(model, data, tmp_path / str(seed), seed=seed)
        assert same(weights_of(model), whole[0]) is equal


def test_a_masked_training_resumes_masked(data: Dataset, tmp_path: Path) -> None:
    masks = {name: torch.rand(getattr(toy(), name).weight.shape) < 0.4 for name in ("conv", "hidden")}
    results = []
    for kill_at in (None, 5):
        model, checkpoint = toy(0), tmp_path / f"{kill_at}"
        if kill_at:
            with pytest.raises(Killed):
                trained(toy(0), data, checkpoint, masks=masks, kill_at=kill_at)
        trained(model, data, checkpoint, masks=masks)
        for name, keep in masks.items():
            assert torch.equal(getattr(model, name).weight != 0, keep)
        results.append(weights_of(model))
    assert same(*results)


def test_what_another_mask_left_behind_is_pruned_by_this_one(data: Dataset, tmp_path: Path) -> None:
    """A retraining was interrupted and the pruning then done again with another outcome."""
    one, other = (
        torch.rand(toy().hidden.weight.shape, generator=torch.Generator().manual_seed(s)) < 0.4 for s in (1, 2)
    )
    with pytest.raises(Killed):
        trained(toy(0), data, tmp_path / "c", masks={"hidden": one}, kill_at=5)
    model = toy(0)
    trained(model, data, tmp_path / "c", masks={"hidden": other})
    assert not model.hidden.weight[~other].any()


def test_it_learns_and_writes_down_how(data: Dataset, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, settings = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), Training(epochs=10, lr=0.01)
    history = trained(model, data, tmp_path / "checkpoint", settings=settings, objective=Objective(loss="ce"))
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert all(set(row) == {"epoch", "loss", "validation_top1", "images", "lr", "seconds"} for row in history)
    assert [row["images"] for row in history] == [64 * len(training(data))] * 10
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert history[-1]["lr"] < history[0]["lr"] <= 0.01
    best = max(row["validation_top1"] for row in history)
    assert best > 90
    assert top1(model, validation(data)) == best


def test_no_epochs_leave_the_network_as_it_is(data: Dataset, tmp_path: Path) -> None:
    model = toy()
    assert trained(model, data, tmp_path / "checkpoint", settings=Training(epochs=0)) == []
    assert same(weights_of(model), weights_of(toy()))


@pytest.mark.parametrize("epochs", [0.4, 1.5, 2.0])
def test_a_training_may_end_in_the_middle_of_an_epoch(epochs: float, data: Dataset, tmp_path: Path) -> None:
    """Batches of a third of the images: 0.4 epochs are one step, 1.5 (round half to even) four, 2 six."""
    steps: list[tuple[int, int]] = []
    batches = training(data)
    assert len(batches) == 3
    settings = Training(epochs=epochs, lr=0.1, lr_schedule="linear")
    model, lesson = toy(), lesson_of(Objective(loss="ce"), None)
    history = train(
        model,
        batches,
        validation(data),
        lesson,
        settings,
        SHARED,
        seed=0,
        checkpoint=tmp_path / "checkpoint",
        on_step=lambda done, of, note: steps.append((done, of)),
    )
    total = round(3 * epochs)
    assert steps == [(k, total) for k in range(1, total + 1)]
    assert len(history) == -(-total // 3)
    assert history[-1]["lr"] == pytest.approx(0.1 * (1 - (total - 1) / total))


# --- which epoch is kept


class Scripted:
    """A validation split of ten images on which a network that always says 0 scores what the script says, in turn."""

    def __init__(self, correct: list[int]) -> None:
        self.correct = iter(correct)

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int) -> Iterator[Batch]:
        right = next(self.correct)
        yield Batch(torch.zeros(10, 4), torch.tensor([0] * right + [1] * (10 - right)))


@pytest.mark.parametrize(
    ("correct", "kept"),
    [([3, 9, 5], 2), ([3, 5, 9], 3), ([9, 5, 3], 1), ([7, 9, 9], 3), ([5, 5, 4], 2), ([0, 0, 0], 3)],
)
def test_the_best_epoch_is_kept_and_of_equal_ones_the_later(correct: list[int], kept: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    model.bias.data = torch.tensor([1e3, 0.0])  # says 0, whatever comes
    states: list[dict[str, Tensor]] = []
    batches = Fixed([Batch(torch.randn(6, 4), torch.ones(6, dtype=torch.int64))])
    history = train(
        model,
        batches,
        Scripted(correct),
        lesson_of(Objective(loss="ce"), None),
        Training(epochs=3, lr=0.01),
        Hardware(momentum=0.0),
        seed=0,
        checkpoint=tmp_path / "checkpoint",
        on_step=lambda done, of, note: states.append(weights_of(model)),
    )
    assert [row["validation_top1"] for row in history] == [10.0 * count for count in correct]
    assert same(weights_of(model), states[kept - 1])
    assert len({tuple(state["weight"].flatten().tolist()) for state in states}) == 3


def test_top1_is_the_share_of_right_answers_in_eval_mode() -> None:
    model = toy(0, dropout=0.9).train()
    batches = random_batches(3, size=10)
    expected = sum(
        int(model.eval()(batch.images)[i].argmax() == label)
        for batch in batches.batches
        for i, label in enumerate(batch.labels)
    )
    model.train()
    assert top1(model, batches) == 100 * expected / 30


# --- what can go wrong


def test_a_training_that_diverges_is_told_and_leaves_no_checkpoint(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the training diverged: its loss is (nan|inf)"):
        trained(toy(), data, tmp_path / "checkpoint", settings=Training(epochs=5, lr=1e30))
    assert not (tmp_path / "checkpoint").exists()


class Canary:
    """Unpickling it creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.path,)


def damage(name: str, path: Path) -> None:
    """Spoil a good checkpoint in one of several ways."""
    good = torch.load(path, weights_only=True)
    if name == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "text":
        path.write_text("not a checkpoint")
    elif name == "of another network":
        torch.save({**good, "model": {"weight": torch.zeros(2)}}, path)
    elif name == "no table":
        torch.save([1, 2, 3], path)
    else:
        torch.save({key: value for key, value in good.items() if key != name}, path)


@pytest.mark.parametrize(
    "name",
    ["truncated", "empty", "text", "of another network", "no table", "model", "optimizer", "lesson", "told"],
)
def test_a_damaged_checkpoint_is_told_with_its_name(name: str, data: Dataset, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(Killed):
        trained(toy(), data, checkpoint, kill_at=4)
    damage(name, checkpoint)
    with pytest.raises(UserError, match=r"checkpoint is damaged") as told:
        trained(toy(), data, checkpoint)
    assert "\n" not in told.value.message + told.value.hint


def test_code_in_a_checkpoint_is_not_run(data: Dataset, tmp_path: Path) -> None:
    checkpoint, canary = tmp_path / "checkpoint", tmp_path / "canary"
    torch.save({"model": Canary(canary), "optimizer": {}, "history": [], "best": {}}, checkpoint)
    with pytest.raises(UserError, match="damaged"):
        trained(toy(), data, checkpoint)
    checkpoint.write_bytes(pickle.dumps(Canary(canary), protocol=2))
    with pytest.raises(UserError, match="damaged"):
        trained(toy(), data, checkpoint)
    assert not canary.exists()
    pickle.loads(checkpoint.read_bytes())  # noqa: S301 - our own: the canary does sing
    assert canary.exists()


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_of(Hardware(hardware="auto")).type == "cpu"
    with pytest.raises(UserError, match="sees no CUDA device"):
        device_of(Hardware(hardware="cuda"))


# --- small parts


def test_the_first_batches_run_over_into_the_next_epochs(data: Dataset) -> None:
    batches: Batches = training(data)
    taken = [batch.images for batch in leading(batches, 2 * len(batches) + 1)]
    expected = [batch.images for number in range(3) for batch in batches.epoch(number)][: len(taken)]
    assert len(taken) == 2 * len(batches) + 1
    assert all(torch.equal(one, other) for one, other in zip(taken, expected, strict=True))


def test_nesterov_without_momentum_is_plain_descent() -> None:
    optimizer = sgd(toy(), 0.1, Hardware(momentum=0.0, nesterov=True))
    assert not optimizer.param_groups[0]["nesterov"]
