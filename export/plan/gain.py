"""What a target's runtime will make of an exported network's zeros: the doubts that are to be told with the files."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from onnx import ModelProto

from export import graph as graphs
from export.plan import worth
from export.readable import unread_operators
from export.targets import Target


def doubts(path: Path, target: Target, planned: Collection[str], *, masked: bool) -> list[str]:
    """Why TensorRT on `target` may gain nothing from a network, or not read it; empty for other runtimes.

    :param path: the sparse network's ONNX file in fp32.
    :param planned: names of the layers that are N:M in it.
    :param masked: whether anything was pruned at all.
    """
    if target.runtime != "trt":
        return []
    model = graphs.read(path)
    gain = _vain(model, target, planned) if masked else None
    return [told for told in (gain, _unread(model, target)) if told]


def _vain(model: ModelProto, target: Target, planned: Collection[str]) -> str | None:
    """Why the zeros will save no time there, and what would."""
    if not target.sparse_tensor_cores:
        return (
            f"{target.name} has no sparse tensor cores: TensorRT gains nothing there from any zeros. Fewer channels "
            "would be faster, and edgeprune does not remove channels yet"
        )
    if not planned:
        return (
            "the zeros of this run are unstructured: TensorRT multiplies them like any other weight and gains nothing. "
            "It can use 2:4 zeros in large layers: prune with --pattern 2:4; `edgeprune plan` says which layers those "
            "are"
        )
    if not worth(model, target) & set(planned):
        return (
            "none of the 2:4 layers is large enough for sparse kernels to win, by the rule of thumb that `edgeprune "
            "plan` tells: expect no gain from these zeros"
        )
    return None


def _unread(model: ModelProto, target: Target) -> str | None:
    """Operators that the oldest TensorRT for the target does not parse."""
    unread = unread_operators(model, target)
    if not unread or target.tensorrt is None:
        return None
    told = ", ".join(f"{name} (from {since} on)" for name, since in unread.items())
    return f"TensorRT {target.tensorrt[0]}, the oldest for {target.name}, does not know {told}: build with a newer one"
