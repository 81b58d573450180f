"""The outline of a torch module: traced for one image, in a second or two, whatever its weights weigh."""

from __future__ import annotations

import torch
from torch import nn

from export import graph as graphs
from export.plan.outline import Outline, without_values
from export.targets import Target
from export.to_onnx import plain_copy
from export.trace import traced
from runtimes.errors import UserError


def sketch(module: nn.Module, input_shape: tuple[int, int, int], target: Target) -> Outline:
    """The outline of `module` for an image of `input_shape` (channels, height, width), with torch's names.

    It is traced as `to_onnx` traces it, but that the weights stay in the module: the file has none, and nothing is
    simplified.

    :raises UserError: the module cannot be run or exported.
    """
    plain = plain_copy(module)
    image = torch.zeros(1, *input_shape)
    shapes = {name: tuple(value.shape) for name, value in (*plain.named_parameters(), *plain.named_buffers())}
    try:
        model = traced(plain, image, target.opset, free_batch=False, weights=False)
    except UserError:
        _try(plain, image)
        raise
    return without_values(model, shapes)


def _try(plain: nn.Module, image: torch.Tensor) -> None:
    """Run the module, to tell an image that it cannot take from an operator that ONNX has not."""
    try:
        with torch.no_grad():
            plain(image)
    except Exception as error:  # it may be the user's own code: whatever it raises is about this image
        raise UserError(
            f"{type(plain).__name__} cannot take an image of {' x '.join(map(str, image.shape[1:]))}: "
            f"{graphs.first_line(error)}",
            "give the image size the network was made for: --image-size",
        ) from error
