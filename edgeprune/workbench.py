"""The workbench: what the steps of one run share. The data, the device, and networks fresh or from the run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeprune.data import Dataset, load_data
from edgeprune.data.batches import Batches
from edgeprune.data.records import Augment, Indices, Split
from edgeprune.distill import Lesson, Teacher, cached, lesson_of, live, needs_teacher
from edgeprune.inputs import checkpoint
from edgeprune.models import build, check_fits
from edgeprune.models.checkpoint import load_checkpoint
from edgeprune.optimise import device_of
from edgeprune.prune.patterns import Pattern
from edgeprune.recipe import Network, Objective, Recipe
from edgeprune.rundir import RunDir
from edgeprune.tables import PATTERNS
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

Role = Literal["teacher", "student"]

# Each source of chance has a seed of its own, so that one more draw in one place moves nothing in another.
_STREAMS = {"teacher": 1, "student": 2, "prune": 3, "retrain": 4, "export": 5}


@dataclass(frozen=True)
class Workbench:
    """A recipe, its run folder, and what follows from them."""

    recipe: Recipe
    run: RunDir

    @cached_property
    def device(self) -> torch.device:
        """Where networks are trained."""
        return device_of(self.recipe.train)

    @cached_property
    def data(self) -> Dataset:
        """The images, split into training, validation and test."""
        settings = self.recipe.data
        folder = settings.dir or os.environ.get("EDGEPRUNE_DATA", "")
        data = load_data(
            settings.name,
            Path(folder) if folder else None,
            validation=settings.validation,
            split_seed=settings.split_seed,
            image_size=settings.image_size,
            download=settings.download,
        )
        for purpose, split in (("train on", data.train), ("validate on", data.validation), ("test on", data.test)):
            if not len(split):
                raise UserError(f"{settings.name} leaves no image to {purpose}", "add images, or see data.validation")
        return data

    def machine(self) -> dict[str, str | int]:
        """What trained weights depend on beside the recipe."""
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else "CPU"
        return {"torch": torch.__version__, "device": gpu, "threads": torch.get_num_threads()}

    def seed(self, stream: str) -> int:
        """The seed of one source of chance in this run."""
        return self.recipe.seed * 1_009 + _STREAMS[stream]

    def fresh(self, role: Role) -> nn.Module:
        """The network of a role, newly initialised from the run's seed, on the training device.

        `UserError` unless it takes the images and has one output for each class.
        """
        torch.manual_seed(self.seed(role))
        settings = self.settings(role)
        classes, shape = len(self.data.classes), self.data.image_shape
        model = build(settings.model, classes=classes, channels=shape[0])
        check_fits(model, shape, classes, what=f"the {role}'s network {settings.model}")
        return self.place(model)

    def settings(self, role: Role) -> Network:
        """The recipe's table of a role."""
        return self.recipe.teacher if role == "teacher" else self.recipe.student

    def from_user(self, role: Role) -> nn.Module:
        """The network of a role with the recipe's checkpoint in it."""
        return self.saved(role, checkpoint(self.recipe, self.settings(role).checkpoint))

    def saved(self, role: Role, path: Path) -> nn.Module:
        """The network of a role with the weights in the file at `path`."""
        model = self.fresh(role)
        load_checkpoint(model, path, what=f"the {role}, {self.settings(role).model}")
        return model

    def lesson(self, objective: Objective) -> Lesson:
        """What an objective teaches, under the teacher where it looks at one."""
        return lesson_of(objective, self.teacher_for(objective))

    def teacher_for(self, *objectives: Objective) -> Teacher | None:
        """The teacher where one of the objectives looks at one: its network, or what it answered once and for all."""
        if not any(needs_teacher(objective) for objective in objectives):
            return None
        if self.recipe.train.cache_teacher:
            return cached(load_file(self.run["teach"] / "answers.safetensors")["logits"].to(self.device))
        return live(self.teacher())

    def teacher(self) -> nn.Module:
        """The teacher; without one of its own the run is taught by its dense student."""
        own, dense = self.run["teach"] / "teacher.safetensors", self.run["teach"] / "dense.safetensors"
        if not own.is_file() and not dense.is_file():
            raise UserError(
                "there is no teacher: the run has none of its own and no dense student",
                "name one (--teacher-model, --teacher-checkpoint), or use labels only: --set retrain.objective.loss=ce",
            )
        return self.saved("teacher", own) if own.is_file() else self.dense()

    def dense(self) -> nn.Module:
        """The student before pruning."""
        return self.saved("student", self.run["teach"] / "dense.safetensors")

    def place(self, model: nn.Module) -> nn.Module:
        """Move a network to the training device, in the memory format that is fast on CPUs and GPUs alike."""
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def training(self, stream: str, classes: Sequence[int] = ()) -> Batches:
        """Augmented, shuffled batches of the training split, or of its images of some classes."""
        return Batches(
            self.data.train,
            self.data.preprocess,
            only=_of(self.data.train, classes),
            batch_size=self.recipe.train.batch_size,
            device=self.device,
            augment=self._augment(),
            seed=self.seed(stream),
            channels_last=True,
        )

    def validation(self, classes: Sequence[int] = ()) -> Batches:
        """The held-out images, or those of some classes, in order."""
        return self.in_order(self.data.validation, classes)

    def in_order(self, split: Split, classes: Sequence[int] = ()) -> Batches:
        """The images of a split as they are."""
        size, only = max(256, self.recipe.train.batch_size), _of(split, classes)
        return Batches(split, self.data.preprocess, only=only, batch_size=size, device=self.device)

    def _augment(self) -> Augment:
        """What the data set prescribes, as far as the recipe wants it."""
        whole, wanted = self.data.augment, self.recipe.train.augment
        return whole if wanted == "full" else Augment(flip=whole.flip and wanted == "flip")

    def masks(self) -> dict[str, Tensor]:
        """The masks that the prune step wrote, by layer name; empty where nothing was pruned."""
        path = self.run["prune"] / "masks.safetensors"
        return {name: mask.bool() for name, mask in load_file(path).items()} if path.is_file() else {}

    def pattern(self) -> Pattern:
        """The pattern of the recipe."""
        pattern: Pattern = resolve(pick(PATTERNS, self.recipe.prune.pattern, "pattern"))
        return pattern

    def networks(self) -> Iterator[tuple[str, Role, nn.Module]]:
        """`(name, role, network)` of what this run has made so far: teacher, dense, pruned (not retrained), sparse."""
        places: list[tuple[str, Role, Path]] = [
            ("teacher", "teacher", self.run["teach"] / "teacher.safetensors"),
            ("dense", "student", self.run["teach"] / "dense.safetensors"),
            ("pruned", "student", self.run["prune"] / "student.safetensors"),
            ("sparse", "student", self.run["retrain"] / "student.safetensors"),
        ]
        if self.recipe.student.holds == "sparse":
            del places[2]  # the same network as the last one
        return ((name, role, self.saved(role, path)) for name, role, path in places if path.is_file())


def _of(split: Split, classes: Sequence[int]) -> Indices | None:
    """Which images of a split are of these classes; None, for all of them, where none are named."""
    return np.flatnonzero(np.isin(split.labels, classes)) if classes else None
