"""`edgeprune plan`: from what a person names (a file, a run, a network) to the outline that a plan is made of.

Torch is imported for networks by name only: a plan of an ONNX file needs none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from export.targets import TARGETS, Target
from runtimes.errors import UserError
from runtimes.files import write_json
from runtimes.tables import pick

if TYPE_CHECKING:
    from torch import nn

    from export.plan import Plan
    from export.plan.outline import Outline

_CLASSES = 1000
_SIDE = 224
"""Classes, and pixels of a side, where nothing says otherwise: ImageNet's."""

_USUAL = {"inception_v3": (_CLASSES, 3, 299), "digits-cnn": (10, 1, 8), "digits-cnn-wide": (10, 1, 8)}
"""Classes, channels and side of the images that a network was made for, where these are not ImageNet's."""


def plan_for(model: str, target: str, *, tensorrt: str | None = None, image_size: int | None = None) -> Plan:
    """The plan of what `model` names: an ONNX file, a run folder, package.module:factory, or a network's name.

    A network by name has random weights: a plan looks at shapes. `image_size` is the side of its square images in
    pixels; where something else decides that, it is refused. Whatever cannot be planned is a `UserError`.
    """
    from export.plan import plan, release_for

    chosen = pick(TARGETS, target, "target")
    release_for(chosen, tensorrt)  # before anything slow
    return plan(_outline(model, chosen, image_size), chosen, name=model, tensorrt=tensorrt)


def written(plan: Plan, path: Path | None, *, as_json: bool) -> str:
    """The plan for the terminal, in words or as JSON; the JSON goes to `path` too, if there is one."""
    from export.plan import as_text

    if path is not None:
        write_json(path, plan.to_json())
    return json.dumps(plan.to_json(), indent=1, ensure_ascii=False) if as_json else as_text(plan)


def _outline(model: str, target: Target, image_size: int | None) -> Outline:
    path = Path(model)
    if (path / "recipe.toml").is_file():
        return _of_run(path, target, image_size)
    if path.is_file() or path.suffix == ".onnx":
        from export.plan.outline import read_outline

        return read_outline(path, image_size=image_size)
    return _of_network(model, target, image_size)


def _of_run(folder: Path, target: Target, image_size: int | None) -> Outline:
    """The exported network of a run, else the one that it will prune."""
    from edgeprune.rundir import RunDir

    run = RunDir(folder)
    for name in ("model.onnx", "dense.onnx"):
        if (run["export"] / name).is_file():
            return _outline(str(run["export"] / name), target, image_size)
    if image_size is not None:
        raise UserError(f"the data of the run {folder} decide the size of its images", "leave --image-size out")
    from edgeprune.pipeline import workbench

    bench = workbench(run.recipe(), run)
    return _sketched(bench.fresh("student"), bench.data.image_shape, target)


def _of_network(name: str, target: Target, image_size: int | None) -> Outline:
    from edgeprune.models import build, names

    if Path(name).is_dir() and name not in names():
        raise UserError(f"{name} is not a run folder: it has no recipe.toml", "name a folder that `edgeprune run` made")
    classes, (channels, height, width) = usual_input(name, image_size)
    network = build(name, classes=classes, channels=channels)
    return _sketched(network, (_channels(network, channels), height, width), target)


def usual_input(name: str, image_size: int | None = None) -> tuple[int, tuple[int, int, int]]:
    """How many classes, and images of which shape (C, H, W), the network of this name was made for.

    `image_size` is another side of the images, in pixels.
    """
    cifar = (10, 3, 32) if name.endswith("-cifar") else (_CLASSES, 3, _SIDE)
    classes, channels, side = _USUAL.get(name, cifar)
    side = image_size or side
    return classes, (channels, side, side)


def _channels(network: nn.Module, usual: int) -> int:
    """What the first convolution reads, whatever the images of others have."""
    from torch import nn

    first = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    return first.in_channels if first is not None else usual


def _sketched(network: nn.Module, shape: tuple[int, int, int], target: Target) -> Outline:
    from export.plan.sketch import sketch

    return sketch(network, shape, target)
