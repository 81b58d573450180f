"""Whether a runtime keeps numbers below the smallest normal one, or takes them for zero (FTZ, DAZ): tried, not read.

A processor may take a hundred times as long for such a number, so a runtime that takes them for zero gains where they
turn up, and answers something else. What it does is seen in what a network answers whose second layer gives nothing
but such numbers and whose last two make them large again: zero, or not.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeprune.benching.asked import Asked
from edgeprune.benching.entrants import Images, job_of, process_of
from edgeprune.benching.settings import without_folders
from edgeprune.benching.subjects import IR_VERSION, OPSET, Subject
from runtimes.errors import UserError

if TYPE_CHECKING:
    from torch import nn

KEPT, FLUSHED = "kept", "taken for zero"

_SIDE, _CLASSES = 8, 2
_POWER = 70
"""Two factors of 2^-70 lead from 1 to 2^-140; the smallest normal float32 is 2^-126, the smallest of all 2^-149."""


def write_probe(folder: Path) -> tuple[Subject, Images]:
    """The network and its one image, in `folder`."""
    from export.targets import TARGETS
    from export.to_onnx import to_onnx

    path, images = folder / "denormals.onnx", folder / "denormals.npy"
    target = dataclasses.replace(TARGETS["local"], opset=OPSET, ir_version=IR_VERSION)
    to_onnx(_network(), path, input_shape=(3, _SIDE, _SIDE), target=target, metadata={})
    np.save(images, np.full((1, _SIDE, _SIDE, 3), 255, dtype=np.uint8), allow_pickle=False)
    return Subject("denormals", 0.0, 0.0, path, 0, 0), Images(images, 1)


def treatment(runtime: str, asked: Asked, folder: Path, probe: tuple[Subject, Images]) -> str | None:
    """`KEPT` or `FLUSHED`; `not known` with the reason where the runtime cannot load the probe; None: no answers."""
    try:
        answers = _answers(runtime, asked, folder, probe)
    except UserError as error:
        return f"not known ({without_folders(error.message)})"
    return None if answers is None else judged(answers)


def _answers(runtime: str, asked: Asked, folder: Path, probe: tuple[Subject, Images]) -> np.ndarray | None:
    subject, images = probe
    job = job_of(runtime, subject, asked, images, folder)
    with process_of(runtime, subject, asked, job, twin=False) as process:
        process.answer("start")
        classes = process.ask("load")["classes"]
        if not classes:
            return None
        path = folder / f"denormals-{runtime}.npy"
        process.ask("answer", path=str(path), n=1, classes=classes)
    answers: np.ndarray = np.load(path)
    return answers


def judged(answers: np.ndarray) -> str:
    """What the answers of the network tell: some are not zero, or all are."""
    return KEPT if np.any(answers != 0) else FLUSHED


def _network() -> nn.Module:
    """Four 1 x 1 convolutions, with something between them that nobody can fold."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for channels, power in ((3, -_POWER), (4, -_POWER), (4, _POWER), (4, _POWER)):
        convolution = nn.Conv2d(channels, 4, 1, bias=False)
        torch.nn.init.constant_(convolution.weight, 2.0**power)
        layers += [convolution, nn.ReLU()]
    linear = nn.Linear(4, _CLASSES, bias=False)
    torch.nn.init.constant_(linear.weight, 1.0)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()
