"""Networks by name. One file and one line in `MODELS` make a new one; importing this package needs no torch.

A factory is called with `classes` and `channels`. Every classifier of torchvision is there under its own name too, and
a user's own as `package.module:factory`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtimes.errors import UserError
from runtimes.tables import pick, resolve

if TYPE_CHECKING:
    from torch import nn

MODELS = {
    "digits-cnn": "edgeprune.models.digits:digits_cnn",  # 7.7 million multiply-adds on 1 x 8 x 8
    "digits-cnn-wide": "edgeprune.models.digits:digits_cnn_wide",  # its teacher
    "resnet20-cifar": "edgeprune.models.resnet_cifar:resnet20",  # the thin ones of the ResNet paper's section 4.2
    "resnet32-cifar": "edgeprune.models.resnet_cifar:resnet32",
    "resnet44-cifar": "edgeprune.models.resnet_cifar:resnet44",
    "resnet56-cifar": "edgeprune.models.resnet_cifar:resnet56",
    "resnet18-cifar": "edgeprune.models.resnet_small_stem:resnet18",  # the ImageNet ones for small images
    "resnet34-cifar": "edgeprune.models.resnet_small_stem:resnet34",
    "resnet50-cifar": "edgeprune.models.resnet_small_stem:resnet50",
}


def names() -> list[str]:
    """Every name `build` knows: this table's, then torchvision's classifiers."""
    from edgeprune.models.of_torchvision import classifiers

    return [*MODELS, *classifiers()]


def build(name: str, *, classes: int, channels: int) -> nn.Module:
    """A fresh network with `classes` outputs for images of `channels` channels, in float32 on the CPU.

    Its weights come from torch's global generator: seed it first. An unknown name, a network that cannot take so many
    channels and a user's factory that fails are `UserError`s.
    """
    if ":" in name:
        from edgeprune.models.of_user import build_user_model

        return build_user_model(name, classes)
    if name not in MODELS:
        from edgeprune.models.of_torchvision import build_classifier

        pick(dict.fromkeys(names(), ""), name, "model")
        return build_classifier(name, classes, channels)
    network: nn.Module = resolve(MODELS[name])(classes=classes, channels=channels)
    return network


def check_fits(model: nn.Module, image_shape: tuple[int, int, int], classes: int, *, what: str) -> None:
    """Raise `UserError` unless `model` maps images (C, H, W) to `classes` logits each; `what` names it in the message.

    It is tried in training and in evaluation, because some networks have further outputs in training.
    """
    import copy

    import torch

    from edgeprune.reason import reason

    tried = copy.deepcopy(model)  # its batch norm sees these images, which the model's must not
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            answers = [tried.train()(torch.zeros(2, *image_shape)), tried.eval()(torch.zeros(2, *image_shape))]
    except Exception as error:  # it may be the user's own code: whatever it raises is about this input
        shape = " x ".join(str(side) for side in image_shape)
        raise UserError(
            f"{what} cannot take images of {shape}: {reason(error)}",
            "choose a network made for images of this size, or another image size",
        ) from error
    for mode, logits in zip(("training", "evaluation"), answers, strict=True):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        if found != (2, classes):
            raise UserError(
                f"{what} gives {found} for two images in {mode}, not (2, {classes}) logits",
                "a classifier is needed that has one output per class of the data",
            )
