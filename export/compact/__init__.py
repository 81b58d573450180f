"""Compaction: the channels that pruning has killed leave the file, and what it computes stays the same.

A channel that nothing reads with a non-zero weight is dead. One into which no weight goes is constant: what bias,
normalization and activation make of it is one number, which moves into the bias of whoever reads it; then it is dead,
too. Dead channels are cut out of every tensor that they go through. Rounds of this are made until nothing is found.

Exactly equivalent: no value that is read changes, but for the order in which numbers are added. What keeps a channel is
told in the record: zero padding (at the border a constant is not constant), a sum or product with channels that are
needed, a group of channels that is needed in part, an operator that is not in the table (`export.compact.rules`).
Multiplications by zero are taken as zero, whatever the other factor: not finite numbers may come out otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from export import graph as graphs
from export.compact.agreement import Answers, answers_for, compare
from export.compact.record import CompactedLayer, Compaction
from export.compact.removal import remove_once
from export.compact.values import network_of
from export.simplify import constants_to_initializers, drop_unused
from runtimes import files

__all__ = ["Answers", "CompactedLayer", "Compaction", "answers_for", "compact", "compacted"]


def compact(source: Path, target: Path, metadata: Mapping[str, str] | None = None) -> Compaction:
    """Write the ONNX file at `source` to `target` without dead and constant channels.

    Opset, IR version, metadata, inputs, outputs and a free batch stay; so do the names of weights. The two files are
    compared by ONNX Runtime on random images where the shape of an image is known. Equal files give equal bytes.

    :param metadata: entries to add or to replace.
    :raises UserError: `source` is missing, damaged, or does not agree with what was made of it.
    """
    model = graphs.read(source)
    before = _layers(model)
    left = compacted(model)
    stated = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata or {})
    del model.metadata_props[:]
    for key, value in stated.items():
        model.metadata_props.add(key=key, value=value)
    files.write_bytes(target, model.SerializeToString(deterministic=True))
    graphs.read(target)  # checked as any other file
    error, reason = compare(source, target)
    layers = _changes(before, _layers(model), left)
    return Compaction(target, files.sha256(target), layers, error, reason)


def compacted(model: ModelProto) -> dict[str, dict[str, int]]:
    """Remove what is dead and constant from `model`, in place; for each value, what had to stay and why."""
    constants_to_initializers(model)
    drop_unused(model)
    while (network := network_of(model)) is not None:
        found = remove_once(network)
        network.store()
        if not found.removed:
            return found.left
        drop_unused(model)
    return {}


def _layers(model: ModelProto) -> dict[str, graphs.Layer]:
    """By the value that each gives, which keeps its name."""
    return {layer.node.output[0]: layer for layer in graphs.layers(model.graph)}


def _changes(
    before: Mapping[str, graphs.Layer], after: Mapping[str, graphs.Layer], left: Mapping[str, dict[str, int]]
) -> tuple[CompactedLayer, ...]:
    return tuple(_change(layer, after.get(name), left.get(name, {})) for name, layer in before.items())


def _change(before: graphs.Layer, after: graphs.Layer | None, left: Mapping[str, int]) -> CompactedLayer:
    old, new = before.weight, after.weight if after is not None else before.weight[:0, :0]
    axis = before.reduced_axis
    return CompactedLayer(
        name=before.name,
        channels_before=old.shape[0],
        channels_after=new.shape[0],
        inputs_before=old.shape[axis],
        inputs_after=new.shape[axis],
        weights_before=old.size,
        weights_after=new.size,
        nonzero_before=int((old != 0).sum()),
        nonzero_after=int((new != 0).sum()),
        left=dict(left),
    )
