"""Which operators of a file TensorRT's parser does not know yet in the oldest release that a target comes with.

The opset does not tell: a parser takes opset 17 and leaves some of its operators out.
"""

from __future__ import annotations

from onnx import ModelProto

from export import graph as graphs
from export.targets import Target

_PARSED_SINCE = {
    "CastLike": "10.0",
    "DeformConv": "10.1",
    "Gelu": "10.0",
    "GroupNormalization": "8.6",
    "Hardmax": "9.2",
    "IsInf": "8.6",
    "LayerNormalization": "8.6",
    "Mish": "10.0",
}
"""Operators that 8.5 does not parse and a later release does: onnx-tensorrt, docs/operators.md of the branches 8.5-GA,
8.6-GA, 10.0-GA and 10.1-GA held against each other, and docs/Changelog.md of 10.0-GA for Hardmax."""


def unread_operators(model: ModelProto, target: Target) -> dict[str, str]:
    """Operators in `model` that the oldest TensorRT of `target` does not parse -> the first release that does.

    Empty for targets without TensorRT. Operators that no release is known to parse are not among them: a builder
    refuses those by name, wherever it runs.
    """
    if target.tensorrt is None:
        return {}
    oldest = _numbers(target.tensorrt[0])
    held = {node.op_type for node in graphs.all_nodes(model.graph) if node.domain in graphs.ONNX}
    return {name: since for name, since in _PARSED_SINCE.items() if name in held and oldest < _numbers(since)}


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))
