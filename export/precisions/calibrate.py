"""The range of each activation that becomes int8: the largest value of 32 images, averaged over the images' batches.

The rule was compared with six others on CIFAR-10 (docs/design/0004-tensorrt.md): all but one stay within 0.15 points of
float32, and this one takes one pass and no memory, where percentiles, squared error and entropy take a histogram of
every activation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from export.graph import first_line
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.tables import pick, resolve

BATCH = 32
_LARGEST = "largest.absolute"
_ONE = f"{_LARGEST}.one"


def activation_ranges(model: ModelProto, values: Sequence[str], images: NDArray[np.float32]) -> dict[str, float]:
    """For each of `values`, its largest absolute value on 32 images, averaged over all whole batches of `images`.

    Fewer than 32 images are one batch. Arguments and errors as for `largest_activations`; besides, an activation that
    is not finite is a `UserError`.
    """
    found = largest_activations(model, values, images)
    ranges = found[: max(1, len(images) // BATCH)].mean(axis=0)
    broken = [value for value, number in zip(values, ranges, strict=True) if not np.isfinite(number)]
    if broken:
        raise UserError(
            f"'{broken[0]}' is not finite on the calibration images", "the training diverged: train the network again"
        )
    return {value: float(number) for value, number in zip(values, ranges, strict=True)}


def largest_activations(model: ModelProto, values: Sequence[str], images: NDArray[np.float32]) -> NDArray[np.float64]:
    """The largest absolute value of each of `values` in each batch of 32 images, (batches, values).

    The file itself finds them: each activation is reduced to one number before it leaves the runtime, so memory does
    not grow with the number of images.

    :param model: a float32 network.
    :param images: preprocessed, float32 (N, C, H, W), N >= 1.
    :raises UserError: no images, or images the network does not take.
    """
    _check(images)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ranges.onnx"
        onnx.save_model(_reduced(model, values), path)
        engine = resolve(pick(RUNTIMES, "ort", "runtime")).load(path, {"threads": "1"})
        try:
            starts = range(0, len(images), BATCH)
            found = [engine.run(np.ascontiguousarray(images[start : start + BATCH])) for start in starts]
        except Exception as error:  # the runtimes' errors share no class
            raise UserError(
                f"the network does not run on calibration images of shape {images.shape[1:]}: {first_line(error)}",
                "give images as the network was trained with",
            ) from error
        finally:
            engine.close()
    return np.stack(found).astype(np.float64)


def _check(images: NDArray[np.float32]) -> None:
    if images.ndim != 4 or images.dtype != np.float32 or not len(images):
        raise UserError(
            f"int8 is calibrated on float32 images (N, C, H, W), not {images.dtype} {images.shape}",
            "give some hundred preprocessed training images",
        )
    if not np.isfinite(images).all():
        raise UserError("the calibration images are not finite", "check the data set and its preprocessing")


def _reduced(model: ModelProto, values: Sequence[str]) -> ModelProto:
    """`model` with one output: the largest absolute value of each of `values`, as a vector."""
    reduced = ModelProto()
    reduced.CopyFrom(model)
    graph = reduced.graph
    graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), _ONE))
    parts = []
    for index, value in enumerate(values):
        names = [f"{_LARGEST}.{index}.{step}" for step in ("abs", "max", "vector")]
        graph.node.append(helper.make_node("Abs", [value], names[:1]))
        graph.node.append(helper.make_node("ReduceMax", names[:1], names[1:2], keepdims=0))
        graph.node.append(helper.make_node("Reshape", [names[1], _ONE], names[2:]))
        parts.append(names[2])
    graph.node.append(helper.make_node("Concat", parts, [_LARGEST], axis=0))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(_LARGEST, TensorProto.FLOAT, [len(values)]))
    return reduced
