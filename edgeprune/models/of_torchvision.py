"""Every classifier of torchvision under its own name, untrained."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models

from runtimes.errors import UserError

# Inception's auxiliary heads would turn the answer into a tuple in training; its own slow initialisation is asked for
# to silence a warning.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def classifiers() -> list[str]:
    """The names, sorted; neither quantized networks nor those for detection, segmentation or video."""
    return sorted(models.list_models(module=models))


def build_classifier(name: str, classes: int, channels: int) -> nn.Module:
    """Torchvision's `name` with `classes` outputs; `UserError` unless the images are RGB."""
    if channels != 3:
        raise UserError(
            f"torchvision's {name} takes RGB images, the data has {channels} channel(s)",
            "choose a network of edgeprune's own (edgeprune list models) or your own package.module:factory",
        )
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **_OPTIONS.get(name, {}))
    return network
