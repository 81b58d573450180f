"""Do two files give the same outputs, and a compacted one still those of the torch module? By ONNX Runtime."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from export import graph as graphs
from export.agreement import AT_ONCE, TOLERANCES, difference
from export.shapes import images
from export.targets import Target
from export.to_onnx import check_versions
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.protocol import Engine
from runtimes.tables import pick, resolve

TOLERANCE = 1e-5
"""Largest accepted difference, as a share of the largest output: float32 sums in another order."""

_FAULT = "a fault of the compaction: export with export.compact=false, and say which network it is in an issue"
_IMAGES = 3


@dataclass(frozen=True)
class Answers:
    """How well a compacted file answers for the torch module."""

    n: int
    max_abs_error: float
    max_rel_error: float
    """`max_abs_error` over the largest absolute logit of the torch module."""
    argmax_agreement: float
    """Share of the images with the same answer."""

    def to_json(self) -> dict[str, Any]:
        """The manifest's `verification` of this file."""
        return asdict(self)


def answers_for(path: Path, expected: NDArray[np.float32], given: NDArray[np.float32], target: Target) -> Answers:
    """Hold the compacted file at `path` against the torch module's answers, as the file before it was.

    :param expected: the torch module's logits, (N, classes), of the images `given`, float32 (N, C, H, W), N >= 1.
    :raises UserError: the versions are not those of `target`, or the logits differ by more than is accepted in fp32.
    """
    check_versions(graphs.read(path), target, path)
    engine = _engine(path)
    try:
        found = np.concatenate([engine.run(given[at : at + AT_ONCE]) for at in range(0, len(given), AT_ONCE)])
    finally:
        engine.close()
    error, scale = difference(expected, found, str(path))
    if not error <= TOLERANCES["fp32"] * scale:  # so written, NaN is refused too
        raise UserError(
            f"{path}: logits without dead channels are up to {error:.3g} from torch's (largest {scale:.3g})", _FAULT
        )
    agreement = float(np.mean(expected.argmax(1) == found.argmax(1)))
    return Answers(len(given), error, error / scale if scale else 0.0, agreement)


def compare(source: Path, target: Path) -> tuple[float | None, str | None]:
    """Largest difference over the largest output, on random images; None and why, where they cannot be compared.

    :raises UserError: the two differ by more than `TOLERANCE`, or only one of them runs.
    """
    drawn, reason = _drawn(source)
    if drawn is None:
        return None, reason
    try:
        engine = _engine(source)
    except UserError as error:
        return None, error.message
    expected, found = _outputs(engine, drawn), _outputs(_engine(target), drawn)
    if not np.isfinite(expected).all():
        return None, "its outputs are not finite"
    apart, largest = float(np.abs(expected - found).max()), float(np.abs(expected).max())
    if not apart <= TOLERANCE * largest:  # so written, NaN is refused too
        raise UserError(
            f"{target} gives outputs up to {apart:.3g} from those of {source} (largest {largest:.3g})",
            _FAULT,
        )
    return (apart / largest if largest else 0.0), None


def _drawn(source: Path) -> tuple[NDArray[np.float32] | None, str | None]:
    value = images(graphs.read(source).graph)
    if value is None or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        return None, "it has no input of float32 images (N, C, H, W)"
    sizes = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    if not all(sizes[1:]):
        return None, "the size of its images is free"
    return np.random.default_rng(0).standard_normal((sizes[0] or _IMAGES, *sizes[1:]), np.float32), None


def _engine(path: Path) -> Engine:
    engine: Engine = resolve(pick(RUNTIMES, "ort", "runtime")).load(path, {"threads": "1"})
    return engine


def _outputs(engine: Engine, drawn: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        outputs: NDArray[np.float32] = engine.run(drawn)
        return outputs
    finally:
        engine.close()
