"""The networks of a benchmark: random weights, random masks, and activations as a trained network has them.

The time of a network depends on where its zeros are and not on what it answers, so nothing is trained. What does
matter is that no activation overflows or dies out: batch norms have scales and shifts that are not 1 and 0, and the
statistics of what really passes through them, of each mask anew.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.benching.asked import Asked
from edgeprune.planning import usual_input
from runtimes.errors import UserError
from runtimes.onnx_input import onnx_input

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import nn

PREPROCESS = {"scale": 1 / 255, "mean": [0.5] * 3, "std": [0.25] * 3}
"""Of the images, channel by channel."""

OPSET, IR_VERSION = 13, 7
"""Of the files, because that is what every runtime of the table reads; DeepSparse 1.8 knows no newer one."""

_PIXELS = 16 * 64 * 64  # of all images together, and at least `_FEWEST`
_FEWEST = 8
_STATISTICS = 4  # batches over which batch norms take theirs
_LEAST_VARIANCE = 1e-3  # a channel whose inputs a mask has killed has none, and would be divided by nothing


@dataclass(frozen=True)
class Subject:
    """One file: a network at one sparsity."""

    network: str
    sparsity: float  # asked for in each masked layer; of a file its own share of zeros
    zeros: float  # share of all weights that are zero
    path: Path
    macs: int  # multiply-adds of one image
    nonzero_macs: int  # those by a weight that is not zero


def subjects(asked: Asked, folder: Path) -> list[Subject]:
    """The networks as ONNX files in `folder`, dense first; or the one file that is asked for.

    :raises UserError: an unknown name, a network that cannot take such images, or a file that is no classifier's.
    """
    if asked.is_file:
        if asked.sparsities or asked.image_size is not None:
            raise UserError(
                f"{asked.network} is measured as it is, with its own zeros", "leave out --sparsity and --image-size"
            )
        onnx_input(Path(asked.network))
        return [_described(Path(asked.network).stem, None, Path(asked.network).resolve())]
    wanted = sorted({0.0, *asked.sparsities})
    return [_described(asked.network, sparsity, _written(asked, sparsity, folder)) for sparsity in wanted]


def write_images(subject: Subject, asked: Asked, folder: Path) -> tuple[Path, int]:
    """Random images as they are stored, uint8 (N, H, W, C), in a file of `folder`; and how many."""
    shape = onnx_input(subject.path).shape
    if len(shape) != 4 or None in shape[1:]:
        raise UserError(f"{subject.path} takes images of shape {shape}", "a fixed size is expected: (N, C, H, W)")
    channels, height, width = (int(side or 0) for side in shape[1:])
    if channels not in (1, 3):
        raise UserError(f"{subject.path} takes images of {channels} channels", "1 or 3 are expected")
    n = max(_FEWEST, _PIXELS // (height * width), 2 * asked.workload.batch) // asked.workload.batch
    images = _random_images(n * asked.workload.batch, (height, width, channels), asked.seed)
    path = folder / "images.npy"
    np.save(path, images, allow_pickle=False)
    return path, len(images)


def preprocess(channels: int) -> dict[str, object]:
    """How stored images of so many channels become what a network takes."""
    return {key: value[:channels] if isinstance(value, list) else value for key, value in PREPROCESS.items()}


def maskable(model: nn.Module, pattern: str) -> dict[str, nn.Conv2d | nn.Linear]:
    """The layers that are masked, by name: all but the stem, the classifier and depthwise convolutions.

    `pointwise`: of these the 1 x 1 convolutions without groups.
    """
    from torch import nn

    convolutions = {name: part for name, part in model.named_modules() if isinstance(part, nn.Conv2d)}
    linear = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    found: dict[str, nn.Conv2d | nn.Linear] = {}
    for name, part in list(convolutions.items())[1:]:
        is_depthwise = part.groups > 1 and part.groups == part.in_channels
        is_pointwise = part.kernel_size == (1, 1) and part.groups == 1
        if is_pointwise if pattern == "pointwise" else not is_depthwise:
            found[name] = part
    inner = list(linear.items())[:-1] if pattern == "all" else []
    return {**found, **dict(inner)}


def apply_masks(model: nn.Module, sparsity: float, pattern: str) -> None:
    """Set the same share of each masked layer's weights to zero, which ones is drawn; the others grow to make up.

    A layer keeps `weights - round(sparsity * weights)`, each sqrt(1 / (1 - sparsity)) times as large, so that the
    variance of what the layer answers stays.
    """
    import torch

    with torch.no_grad():
        for part in maskable(model, pattern).values():
            weight = part.weight
            flat = torch.zeros(weight.numel())
            kept = weight.numel() - round(sparsity * weight.numel())
            flat[torch.randperm(weight.numel())[:kept]] = (1 - sparsity) ** -0.5
            weight.mul_(flat.view_as(weight))


def network(asked: Asked, sparsity: float) -> tuple[nn.Module, tuple[int, int, int]]:
    """The network that is asked for at one sparsity, and the shape (C, H, W) of its images.

    Equal seeds give equal weights at every sparsity before the masks.
    """
    import torch

    from edgeprune.models import build, check_fits
    from edgeprune.prune.repair import reestimate_batch_norm

    torch.manual_seed(asked.seed)
    classes, shape = usual_input(asked.network, asked.image_size)
    model = build(asked.network, classes=classes, channels=shape[0])
    check_fits(model, shape, classes, what=asked.network)
    _vary_norms(model)
    if sparsity:
        apply_masks(model, sparsity, asked.pattern)
    reestimate_batch_norm(model.eval(), _batches(shape, asked.seed + 1))
    _keep_off_zero(model)
    return model, shape


def _written(asked: Asked, sparsity: float, folder: Path) -> Path:
    from export.targets import TARGETS
    from export.to_onnx import to_onnx

    target = dataclasses.replace(TARGETS["local"], opset=OPSET, ir_version=IR_VERSION)
    model, shape = network(asked, sparsity)
    name = f"{asked.network.replace(':', '.')}-{100 * sparsity:g}.onnx"
    path = folder / name
    to_onnx(model, path, input_shape=shape, target=target, metadata={"seed": str(asked.seed)})
    return path


def _described(name: str, sparsity: float | None, path: Path) -> Subject:
    from export.macs import count_macs
    from export.zeros import count_weights

    counts, macs = count_weights(path).values(), count_macs(path).values()
    total = sum(weights for weights, _ in counts)
    zeros = 1 - sum(nonzero for _, nonzero in counts) / max(total, 1)
    dense, nonzero = (sum(pair[side] for pair in macs) for side in (0, 1))
    return Subject(name, zeros if sparsity is None else sparsity, zeros, path, dense, nonzero)


def _random_images(n: int, shape: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, size=(n, *shape), dtype=np.uint8)


def _batches(shape: tuple[int, int, int], seed: int) -> list[torch.Tensor]:
    """Images as the network will see them, for the statistics of its batch norms."""
    import torch

    from runtimes.inputs import preprocess as stored_to_input

    channels, height, width = shape
    size = max(4, min(64, 2 * _PIXELS // (height * width)))
    stored = [_random_images(size, (height, width, channels), seed + number) for number in range(_STATISTICS)]
    return [torch.from_numpy(stored_to_input(images, preprocess(channels))) for images in stored]


def _vary_norms(model: nn.Module) -> None:
    """Scales from 0.5 to 1.5 and shifts around 0, as training leaves them; a new network has ones and zeros."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, _BatchNorm) and part.affine:
                part.weight.uniform_(0.5, 1.5)
                part.bias.normal_(0.0, 0.1)


def _keep_off_zero(model: nn.Module) -> None:
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, _BatchNorm) and part.running_var is not None:
                part.running_var.clamp_(min=_LEAST_VARIANCE)
