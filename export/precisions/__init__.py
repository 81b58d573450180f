"""The verified fp32 file in another precision, and whether that one still is the network that was trained."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto

from export import graph as graphs
from export.agreement import AT_ONCE, TOLERANCES, difference
from export.n_of_m import hold_to
from export.precisions.calibrate import activation_ranges, largest_activations
from export.precisions.quantize import quantize, quantized_values, weights_stay_float
from export.precisions.to_fp16 import LARGEST, half_values, to_fp16
from export.targets import Target
from export.to_onnx import Exported, check_versions
from runtimes import RUNTIMES, files
from runtimes.errors import UserError
from runtimes.records import PRECISIONS
from runtimes.tables import pick, resolve

_KEY = "edgeprune.precision"

Array = NDArray[np.float32]


@dataclass(frozen=True)
class LayerZeros:
    """Zeros of one layer."""

    name: str
    weights: int
    zeros: int
    extra_zeros: int
    """Zeros that are none in the fp32 file: weights that the precision rounds to zero."""


@dataclass(frozen=True)
class Agreement:
    """How well a file in a lower precision answers for the torch module."""

    n: int
    max_abs_error: float
    max_rel_error: float
    """`max_abs_error` over the largest absolute logit of the torch module."""
    argmax_agreement: float
    """Share of the images with the same answer; told, not held: near a tie any rounding turns it."""
    extra_zeros: int
    layers: tuple[LayerZeros, ...]

    def to_json(self) -> dict[str, Any]:
        """The manifest's `verification` of this file."""
        return {**asdict(self), "layers": [asdict(layer) for layer in self.layers]}


def write_precision(
    source: Path, path: Path, precision: str, calibration: NDArray[np.float32] | None, target: Target
) -> Exported:
    """Write the fp32 network at `source` to `path` in `precision`. Equal arguments give equal bytes.

    Inputs and outputs stay float32 and free in the batch, metadata is kept but for `edgeprune.precision`. An int8 file
    for a target whose oldest TensorRT takes no int8 constants is as large as the fp32 one: `weights_stay_float`.

    :param calibration: preprocessed training images, float32 (N, C, H, W); needed for int8 only.
    :raises UserError: an unknown precision, no images for int8, or a network that does not fit the precision.
    """
    pick(dict.fromkeys(PRECISIONS), precision, "precision")
    model = graphs.read(source)
    if precision == "fp16":
        to_fp16(model)
    elif precision == "int8":
        if calibration is None:
            raise UserError("int8 needs calibration images", "give some hundred preprocessed training images")
        ranges = activation_ranges(model, quantized_values(model), calibration)
        quantize(model, ranges, float_weights=weights_stay_float(target))
    _note(model, precision)
    _check(model, path, precision)
    content = model.SerializeToString(deterministic=True)
    files.write_bytes(path, content)
    opset, ir_version = check_versions(model, target, path)
    return Exported(path, hashlib.sha256(content).hexdigest(), opset, ir_version)


def verify_precision(
    path: Path,
    source: Path,
    expected: NDArray[np.float32],
    images: NDArray[np.float32],
    precision: str,
    planned: Iterable[str],
    pattern: str,
    target: Target,
) -> Agreement:
    """Hold the file at `path` against the verified fp32 file at `source` and the torch module's answers.

    Every layer must be there with the same shape, every zero of `source` must be a zero, the `planned` layers must be
    `pattern`, and the logits must agree within the precision's tolerance.

    :param expected: the torch module's logits, (N, classes), of `images`.
    :param images: preprocessed, float32 (N, C, H, W).
    :raises UserError: naming the layer or the file that does not hold.
    """
    tolerance = pick(TOLERANCES, precision, "precision")
    model = graphs.read(path)
    check_versions(model, target, path)
    hold_to(model, path, planned, pattern)
    layers = tuple(_zeros(graphs.read(source), model, path))
    if precision == "fp16":
        _check_range(graphs.read(source), path, images)
    found = _answers(path, images, precision)
    error, scale = difference(expected, found, str(path))
    if not error <= tolerance * scale:  # so written, NaN is refused too
        raise UserError(
            f"{path}: logits in {precision} are up to {error:.3g} from torch's; at most {tolerance:g} of the "
            f"largest logit ({scale:.3g}) is accepted",
            _WIDER[precision],
        )
    return Agreement(
        n=len(images),
        max_abs_error=error,
        max_rel_error=error / scale if scale else 0.0,
        argmax_agreement=float(np.mean(expected.argmax(1) == found.argmax(1))),
        extra_zeros=sum(layer.extra_zeros for layer in layers),
        layers=layers,
    )


_AGAIN = "export the run again"
_WIDER = {
    "fp32": _AGAIN,
    "fp16": "export it in fp32",
    "int8": "calibrate on images of the training set, preprocessed as for training; or export it in fp16",
}


def _note(model: ModelProto, precision: str) -> None:
    held = {entry.key: entry.value for entry in model.metadata_props} | {_KEY: precision}
    del model.metadata_props[:]
    for key in sorted(held):
        model.metadata_props.add(key=key, value=held[key])


def _check(model: ModelProto, path: Path, precision: str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and the inference's own classes, by no common name
        raise UserError(
            f"{path} cannot be written in {precision}: {graphs.first_line(error)}",
            "export it in fp32; an operator of this network does not fit",
        ) from error


def _zeros(source: ModelProto, model: ModelProto, path: Path) -> Iterable[LayerZeros]:
    """Each layer of `source` once, counted in `model`; a layer that is lost or a zero that is gone is refused."""
    found = {layer.name: layer for layer in graphs.layers(model.graph)}
    for name, before in {layer.name: layer for layer in graphs.layers(source.graph)}.items():
        after = found.get(name)
        if after is None or after.weight.shape != before.weight.shape:
            raise UserError(f"{path} has no layer '{name}' of shape {before.weight.shape}", _AGAIN)
        zero = before.weight == 0
        alive = int(np.count_nonzero(after.weight[zero]))
        if alive:
            raise UserError(f"layer '{name}': {alive} weights of {path} that must be zero are not", _AGAIN)
        zeros = int(np.count_nonzero(after.weight == 0))
        yield LayerZeros(name, zero.size, zeros, zeros - int(np.count_nonzero(zero)))


def _check_range(source: ModelProto, path: Path, images: Array) -> None:
    """Refuse a network with an activation beyond fp16: a CPU computes fp16 in float32 and would not show it."""
    values = half_values(source)
    largest = dict(zip(values, largest_activations(source, values, images).max(axis=0), strict=True))
    beyond = next((value for value, number in largest.items() if not number <= LARGEST), None)
    if beyond is not None:
        before = graphs.ancestors(beyond, graphs.producers(source.graph))
        names = {layer.node.output[0]: layer.name for layer in graphs.layers(source.graph)}
        layer = next((names[node.output[0]] for node in before if node.output[0] in names), beyond)
        raise UserError(
            f"{path}: after layer '{layer}' activations reach {largest[beyond]:.3g}, fp16 holds {LARGEST:.0f} at most",
            "export it in fp32 or int8, or scale the network's inputs or weights down",
        )


def _answers(path: Path, images: Array, precision: str) -> Array:
    """The file's logits of `images`, as the runtime on this machine's CPU computes them."""
    engine = resolve(pick(RUNTIMES, "ort", "runtime")).load(path, {"threads": "1", "precision": precision})
    try:
        starts = range(0, len(images), AT_ONCE)
        return np.concatenate([engine.run(np.ascontiguousarray(images[at : at + AT_ONCE])) for at in starts])
    except Exception as error:  # the runtimes' errors share no class
        raise UserError(
            f"{path} does not run on images of shape {images.shape[1:]}: {graphs.first_line(error)}", _AGAIN
        ) from error
    finally:
        engine.close()
