"""Does the file compute what the torch module computes, and is every masked weight zero in it?

The masks are counted again in the file itself, then the answers are compared on real images. Where something does not
hold, the first layer that differs is named: that is where to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn

from export import graph as graphs
from export.agreement import AT_ONCE, TOLERANCES, difference
from export.locate import different_activations, different_weights
from export.simplify import mask_operations
from export.targets import Target
from export.to_onnx import check_versions, plain_copy
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.protocol import Engine
from runtimes.tables import pick, resolve

_AGAIN = "export the network again from this checkpoint and these masks"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LayerCount:
    """Zeros of one masked layer, counted in the ONNX file."""

    name: str
    weights: int
    masked: int
    """Weights the mask removes; every one of them is zero in the file."""
    zeros: int
    extra_zeros: int
    """Zeros the mask does not ask for: weights that are zero in torch already, or that the folding rounded to zero."""


@dataclass(frozen=True)
class Verification:
    """What was compared, and how well it agreed."""

    n: int
    max_abs_error: float
    max_rel_error: float
    """`max_abs_error` over the largest absolute logit of the torch module."""
    argmax_agreement: float
    extra_zeros: int
    layers: tuple[LayerCount, ...]
    opset: int
    ir_version: int

    def to_json(self) -> dict[str, Any]:
        """The manifest's `verification`; opset and IR version stand beside it there."""
        document = asdict(self)
        del document["opset"], document["ir_version"]
        return {**document, "layers": [asdict(layer) for layer in self.layers]}


def verify(
    module: nn.Module,
    path: Path,
    images: Tensor,
    masks: Mapping[str, Tensor],
    *,
    tolerance: float = TOLERANCES["fp32"],
    target: Target | None = None,
) -> Verification:
    """Compare the ONNX file at `path` with `module` and `masks`.

    :param images: float32 (N, C, H, W), preprocessed, N >= 1.
    :param masks: by parameter or module name (`conv1.weight` or `conv1`); bool, in the weight's shape, True keeps.
    :param tolerance: largest accepted error of a logit, as a share of the largest absolute logit.
    :param target: also hold opset and IR version against this target.
    :raises UserError: anything that does not hold, with the first layer, in graph order, that shows it.
    """
    _check_images(images)
    model = graphs.read(path)
    if target is not None:
        check_versions(model, target, path)
    plain = plain_copy(module)
    counts = _check_weights(plain, model, path, masks)
    expected, found = _answers(plain, path, images)
    error, scale = difference(expected, found, "the file")
    if not error <= tolerance * scale:  # so written, NaN is refused too
        what = f"{path} and the torch module give logits {_apart(error)} (largest logit {scale:.3g})"
        raise _differs(what, different_activations(plain, model, images[:1], tolerance))
    return Verification(
        n=len(images),
        max_abs_error=error,
        max_rel_error=error / scale if scale else 0.0,
        argmax_agreement=float(np.mean((expected.argmax(1) == found.argmax(1))[: len(images)])),
        extra_zeros=sum(count.extra_zeros for count in counts),
        layers=counts,
        opset=graphs.opset(model),
        ir_version=model.ir_version,
    )


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.dtype != torch.float32 or not len(images):
        raise UserError(
            f"verification takes float32 images (N, C, H, W), not {images.dtype} {tuple(images.shape)}",
            "give at least one preprocessed image",
        )


def _check_weights(
    plain: nn.Module, model: ModelProto, path: Path, masks: Mapping[str, Tensor]
) -> tuple[LayerCount, ...]:
    """Count the masked layers in the file, and hold all weights against torch's."""
    operations = mask_operations(model)
    if operations:
        raise UserError(f"{path} still multiplies by a mask when it runs, in '{operations[0]}'", _AGAIN)
    weights = {graphs.layer_name(name): value for name, value in plain.named_parameters()}
    layers = _each_once(graphs.layers(model.graph))
    counts = _recount(layers, _by_layer(masks, weights), path)
    different = different_weights(layers, weights)
    if different is not None:
        raise _differs(f"{path} has other weights than the torch module", different)
    return counts


def _each_once(layers: Iterable[graphs.Layer]) -> list[graphs.Layer]:
    """The layers in graph order; one that is used several times is kept at its first use."""
    return list({layer.name: layer for layer in reversed(list(layers))}.values())[::-1]


def _by_layer(masks: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, NDArray[np.bool_]]:
    """The masks by layer name; a mask for nothing, of another shape or not boolean is refused."""
    found = {}
    for key, mask in masks.items():
        name = graphs.layer_name(key)
        weight = pick(weights, name, "masked layer")
        if mask.dtype != torch.bool or mask.shape != weight.shape:
            raise UserError(
                f"the mask of layer '{name}' is {mask.dtype} {tuple(mask.shape)}, its weight {tuple(weight.shape)}",
                "give boolean masks, made for this network",
            )
        found[name] = mask.cpu().numpy()
    return found


def _recount(
    layers: Iterable[graphs.Layer], masks: Mapping[str, NDArray[np.bool_]], path: Path
) -> tuple[LayerCount, ...]:
    counts = tuple(_count(layer, masks[layer.name], path) for layer in layers if layer.name in masks)
    missing = sorted(set(masks) - {count.name for count in counts})
    if missing:
        raise UserError(f"{path} has no layer '{missing[0]}', which is masked ({len(missing)} missing)", _AGAIN)
    return counts


def _count(layer: graphs.Layer, keep: NDArray[np.bool_], path: Path) -> LayerCount:
    if layer.weight.shape != keep.shape:
        raise UserError(
            f"layer '{layer.name}' has the shape {layer.weight.shape} in {path} and the mask {keep.shape}", _AGAIN
        )
    zero = layer.weight == 0
    alive = int(np.count_nonzero(~zero & ~keep))
    if alive:
        masked = int(np.count_nonzero(~keep))
        raise UserError(f"layer '{layer.name}': {alive} of {masked} masked weights are not zero in {path}", _AGAIN)
    return LayerCount(
        name=layer.name,
        weights=keep.size,
        masked=int(np.count_nonzero(~keep)),
        zeros=int(np.count_nonzero(zero)),
        extra_zeros=int(np.count_nonzero(zero & keep)),
    )


def _answers(plain: nn.Module, path: Path, images: Tensor) -> tuple[Array, Array]:
    """Logits of torch and of the runtime, (N + 1, classes): the images in batches, then the first one alone."""
    batches = [*torch.split(images, AT_ONCE), images[:1]] if len(images) > 1 else [images.repeat(2, 1, 1, 1), images]
    engine = resolve(pick(RUNTIMES, "ort", "runtime")).load(path, {"threads": str(torch.get_num_threads())})
    try:
        with torch.no_grad():
            expected = [plain(batch).numpy() for batch in batches]
        found = [_run(engine, batch, path) for batch in batches]
    finally:
        engine.close()
    return np.concatenate(expected), np.concatenate(found)


def _run(engine: Engine, batch: Tensor, path: Path) -> Array:
    try:
        logits: Array = engine.run(np.ascontiguousarray(batch.numpy()))
    except Exception as error:  # the runtimes' errors share no class
        raise UserError(
            f"{path} does not run on a batch of shape {tuple(batch.shape)}: {graphs.first_line(error)}",
            "the batch must be free and the images of the network's size: export the network again",
        ) from error
    return logits


def _differs(what: str, layer: str | None) -> UserError:
    where = f"'{layer}'" if layer else "none found; on the first image each layer agrees by itself"
    return UserError(f"{what}; the first layer that differs: {where}", _AGAIN)


def _apart(error: float) -> str:
    return f"up to {error:.3g} apart" if np.isfinite(error) else "of which the file's are not finite"
