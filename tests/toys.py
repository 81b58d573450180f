"""Small networks, batches and recipes for the tests of the core: real members of the tables, made tiny."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from edgeprune.data import Dataset, load_data
from edgeprune.data.batches import Batch, Batches
from edgeprune.distill import Teacher, live
from edgeprune.prune import choose
from edgeprune.prune.patterns import Pattern
from edgeprune.prune.task import Task
from edgeprune.recipe import Hardware, Objective, Prune, Recipe, Retrain
from edgeprune.tables import PATTERNS
from runtimes.tables import resolve

CLASSES = 4  # of the synthetic data


class Toy(nn.Sequential):
    """Every kind of layer pruning cares about: stem, dense, depthwise and grouped convolutions, two linear layers."""

    def __init__(self, channels: int = 3, classes: int = CLASSES, dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.conv = nn.Conv2d(8, 8, 3, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(8)
        self.relu2 = nn.ReLU()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(8, 8, 1, groups=2)
        self.pointwise = nn.Conv2d(8, 12, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(12, 8)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(8, classes)


def toy(seed: int = 0, **changes: float) -> nn.Module:
    """A toy network, seeded."""
    torch.manual_seed(seed)
    return Toy(**changes)  # type: ignore[arg-type]


def synthetic() -> Dataset:
    """The synthetic images: 230 to train on, 26 held out, 128 to test on, 3 x 8 x 8, four classes."""
    return load_data("synthetic", None, validation=0.1, split_seed=0, image_size=None)


def training(data: Dataset, batch_size: int = 64, seed: int = 7) -> Batches:
    """Shuffled and augmented batches of the training split."""
    return Batches(data.train, data.preprocess, batch_size=batch_size, device="cpu", augment=data.augment, seed=seed)


def validation(data: Dataset) -> Batches:
    """The held-out images in order."""
    return Batches(data.validation, data.preprocess, batch_size=64, device="cpu")


@dataclass(frozen=True)
class Fixed:
    """The same batches in every epoch."""

    batches: Sequence[Batch]

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, number: int) -> Iterator[Batch]:
        return iter(self.batches)


def random_batches(count: int, size: int = 16, seed: int = 0, channels: int = 3) -> Fixed:
    """Noise with labels."""
    draw = torch.Generator().manual_seed(seed)
    images = [torch.randn(size, channels, 8, 8, generator=draw) for _ in range(count)]
    return Fixed([Batch(batch, torch.randint(0, CLASSES, (size,), generator=draw)) for batch in images])


def task_of(
    student: nn.Module,
    settings: Prune,
    folder: Path,
    *,
    data: Dataset | None = None,
    batches: Batches | Fixed | None = None,
    teacher: Teacher | None = None,
    retrain: Retrain | None = None,
    shared: Hardware | None = None,
    seed: int = 0,
) -> Task:
    """What there is to prune of `student`: on the synthetic images under a toy teacher, unless told otherwise."""
    data = data or synthetic()
    pattern: Pattern = resolve(PATTERNS[settings.pattern])
    shared = shared or Hardware(momentum=0.9, weight_decay=5e-4)
    recipe = Recipe(prune=settings, train=shared, retrain=retrain or Retrain(epochs=1, objective=Objective(loss="ce")))

    def part(classes: Sequence[int]) -> tuple[Batches, Batches]:
        train, held_out = (np.flatnonzero(np.isin(s.labels, classes)) for s in (data.train, data.validation))
        return (
            Batches(data.train, data.preprocess, only=train, batch_size=64, device="cpu", seed=7),
            Batches(data.validation, data.preprocess, only=held_out, batch_size=64, device="cpu"),
        )

    return Task(
        student=student,
        teacher=teacher or live(toy(1)),
        batches=batches or training(data),
        validation=validation(data),
        recipe=recipe,
        pattern=pattern,
        chosen=choose(student, pattern, settings)[0],
        part=part,
        checkpoints=folder,
        seed=seed,
    )


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's state."""
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states have the same names and bits."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def files(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its content, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def small(num_classes: int = CLASSES) -> nn.Module:
    """A user's own network, `toys:small`: three convolutions, the inner ones of widths that 2:4 can take."""
    parts: list[nn.Module] = []
    for channels, width in ((3, 16), (16, 32), (32, 32)):
        parts += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))


def seven() -> nn.Module:
    """A network, `toys:seven`, whose factory does not ask how many classes there are: it has seven."""
    return small(7)


def large() -> nn.Module:
    """A network, `toys:large`, for images of 32 x 32 pixels and no others."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, CLASSES))


def saved(model: nn.Module, path: Path) -> Path:
    """The state_dict of `model` as a torch file."""
    torch.save(model.state_dict(), path)
    return path


def image_folder(folder: Path, each: int = 20, size: int = 12) -> Path:
    """`each` images of four classes that differ in colour, as PNG files, one folder a class."""
    draw = np.random.RandomState(0)
    for label in range(CLASSES):
        (folder / f"class{label}").mkdir(parents=True)
        for i in range(each):
            pixels = draw.normal(60 + 45 * label, 25, (size, size, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{label}" / f"{i}.png")
    return folder


SMALL = ("--set", "student.model=toys:small", "--set", "train.threads=1", "--set", "train.batch_size=32")
"""The user's own network in place of the recipe's."""

QUICK = (
    *("--set", "data.name=synthetic", "--set", "train.threads=1", "--set", "train.batch_size=32"),
    *("--set", "teacher.epochs=2", "--set", "student.epochs=2", "--set", "retrain.epochs=2"),
    *("--set", "prune.epochs=1", "--set", "prune.repair_batches=2"),
)
"""The quickstart on the synthetic images, in seconds."""


def few_images() -> dict[str, np.ndarray]:
    """What a user's .npz holds: 64 noisy images of 8 x 8 pixels and four classes, 20 of them the test images too."""
    labels = np.arange(64) % 4
    pixels = np.random.RandomState(1).randint(0, 255, (64, 8, 8, 3)).astype(np.uint8)
    arrays = {"train_x": pixels, "train_y": labels, "test_x": pixels[:20], "test_y": labels[:20]}
    return {**arrays, "classes": np.array(["a", "b", "c", "d"])}
