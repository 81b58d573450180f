"""What schedules with rounds of training share: a training under a mask, and the state that a killed process left."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial

import torch
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.distill import lesson_of
from edgeprune.models.checkpoint import read_metadata, save_state
from edgeprune.prune import masks as masking
from edgeprune.prune.schedules import Outcome
from edgeprune.prune.task import Seen, Task
from edgeprune.reason import reason
from edgeprune.recipe import Training
from edgeprune.train import train
from runtimes.errors import UserError

_FILE = "state.checkpoint"
_MASK, _WEIGHT = "mask:", "weight:"


@dataclass(frozen=True)
class State:
    """Where a schedule stands, beside the student's weights; all of it is saved."""

    masks: dict[str, Tensor] | None = None  # on the CPU
    done: int = 0  # pieces of work
    position: float = 0.0  # rounds' worth of pruning
    taken: float = 0.0  # share of the weights that the next training misses, against those it would have begun with
    drop: float = 0.0  # of those weights' norm, see `learning_rate.norm_drop`
    guide_loss: tuple[float, ...] = ()
    warnings: tuple[str, ...] = ()
    images: int = 0  # forward and backward through the student, in all processes

    def outcome(self, here: Seen) -> Outcome:
        """What the schedule answers at its end; `here` counted the images of this process."""
        return Outcome(dict(self.masks or {}), self.guide_loss, self.warnings, self.images - here.images)


def save(task: Task, state: State) -> None:
    """Write `state` and the student's weights to one file, whole or not at all, and clear away finished trainings."""
    masks = {_MASK + name: mask.to(torch.uint8) for name, mask in (state.masks or {}).items()}
    weights = {_WEIGHT + name: value for name, value in task.student.state_dict().items()}
    told = {key: value for key, value in asdict(replace(state, masks=None)).items() if key != "masks"}
    save_state({**masks, **weights}, task.checkpoints / _FILE, {**told, "masked": list(state.masks or {})})
    for finished in task.checkpoints.glob("*.checkpoint"):
        if finished.name != _FILE:
            finished.unlink()


def resume(task: Task) -> State:
    """The state that was saved last, its weights loaded into the student; a fresh state where there is none."""
    path = task.checkpoints / _FILE
    if not path.is_file():
        return State()
    try:
        told, saved = read_metadata(path), load_file(path)
        masks = {name: saved[_MASK + name].bool() for name in told.pop("masked")}
        task.student.load_state_dict({name: saved[_WEIGHT + name] for name in task.student.state_dict()})
        told |= {key: tuple(told[key]) for key in ("guide_loss", "warnings")}
        return State(masks=masks or None, **told)
    except Exception as error:  # a damaged file makes its readers raise nearly anything
        raise UserError(f"{path} is damaged: {reason(error):.120}", "delete it: the step then starts over") from error


def trained(task: Task, settings: Training, masks: masking.Masks | None, *, name: str, piece: int, pieces: int) -> int:
    """Train the student on the retraining's objective; how many images that took, an earlier process's included.

    It is training `piece` of `pieces`, from 0, which decides its seed; `name` is what a person is told. The batches are
    the same in every training. The checkpoint stays until the state is saved.
    """
    history = train(
        task.student,
        task.batches,
        task.validation,
        lesson_of(task.recipe.retrain.objective, task.teacher),
        settings,
        task.recipe.train,
        seed=task.seed + piece,
        checkpoint=task.checkpoints / f"{piece}.checkpoint",
        masks=masks,
        on_step=partial(_tick, task, name, piece, pieces),
    )
    return int(sum(row["images"] for row in history))


def norm(weights: Mapping[str, Tensor]) -> float:
    """The Euclidean norm of all these weights together."""
    return float(torch.stack([w.detach().square().sum() for w in weights.values()]).sum().sqrt())


def _tick(task: Task, name: str, piece: int, pieces: int, done: int, of: int, note: str) -> None:
    task.on_step(piece * of + done, pieces * of, f"{name}, {note}")
