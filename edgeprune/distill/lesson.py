"""A lesson: what a training or a scoring minimises, L = a * L_distill + (1 - a) * CE, with all the state it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from edgeprune.data.batches import Batch
from edgeprune.distill.ce import ce
from edgeprune.distill.teacher import Teacher
from edgeprune.distill.temperature import Temperature
from edgeprune.distill.weight import Weight
from edgeprune.recipe import Objective

# (student logits (N, C), teacher logits (N, C), labels (N,), objective) -> (N,)
Loss = Callable[[Tensor, Tensor, Tensor, Objective], Tensor]
# tensors and numbers, in dictionaries: what `torch.load(weights_only=True)` reads
State = dict[str, Any]


class Parts(NamedTuple):
    """The two sides of a lesson, per example, and the student's logits that both are functions of."""

    distance: Tensor  # L_distill, (n,)
    labelled: Tensor  # cross entropy with the labels, (m,)
    logits: Tensor  # (k, C)


class Source(Protocol):
    """Where the distillation part comes from. One is made for each training; what it remembers is in `state_dict`."""

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """Both parts for a batch of which `model` gave the logits (b, C), at progress p of the training."""
        ...

    def state_dict(self) -> State:
        """All that a resumed training needs."""
        ...

    def load_state_dict(self, state: State) -> None:
        """Go on from there."""
        ...


class Labels:
    """No distillation: the labels alone."""

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """Cross entropy for both parts, so that the weight does not matter."""
        labelled = ce(logits, logits, batch.labels, objective)
        return Parts(labelled, labelled, logits)

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass


@dataclass(frozen=True)
class Taught:
    """A distance to a teacher."""

    loss: Loss
    teacher: Teacher
    temperature: Temperature

    def __call__(self, model: nn.Module, batch: Batch, logits: Tensor, objective: Objective, p: float) -> Parts:
        """The distance at the objective's temperature; the temperature then learns, if it can."""
        guide, labels = self.teacher(batch).float(), batch.labels
        still = logits.detach()
        self.temperature.learn(lambda T: self.loss(still, guide, labels, at(objective, T)).mean(), p)
        return Parts(self.loss(logits, guide, labels, objective), ce(logits, guide, labels, objective), logits)

    def state_dict(self) -> State:
        return {"temperature": self.temperature.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.temperature.load_state_dict(state["temperature"])


@dataclass(frozen=True)
class Lesson:
    """What is minimised: `lesson(model, batch, p)` runs the student and gives a scalar with a gradient."""

    objective: Objective
    source: Source
    weight: Weight
    temperature: Temperature

    def __call__(self, model: nn.Module, batch: Batch, p: float) -> Tensor:
        """a * mean L_distill + (1 - a) * mean CE, a and T being those of progress p, from 0 to 1."""
        logits = model(batch.images).float()  # a KL of close distributions is noise in bfloat16
        parts = self.source(model, batch, logits, at(self.objective, self.temperature(p)), p)
        distance, labelled = parts.distance.mean(), parts.labelled.mean()
        a = self.weight(self.objective.weight, p, distance, labelled, parts.logits)
        return a * distance + (1 - a) * labelled

    def state_dict(self) -> State:
        """All that a resumed training needs: tensors and numbers."""
        return self.source.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Go on from there."""
        self.source.load_state_dict(state)


def at(objective: Objective, T: float | Tensor) -> Objective:
    """The objective at another temperature, which may be a scalar tensor where its gradient is wanted."""
    return objective.model_copy(update={"temperature": T})
