"""Is a layer of a file still N:M? Counted again along the axis that its consumer sums over.

A group is M consecutive input channels, aligned at multiples of M, of one output channel at one position of the kernel;
it may hold N non-zeros. That is the rule by which TensorRT finds a 2:4 layer eligible (developer guide 8.5.3,
"Structured Sparsity"); zeros along any other axis, or in groups that start elsewhere, are worth nothing to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto

from export import graph as graphs
from runtimes.errors import UserError

_AGAIN = "export the run again; if this stays, say which network it is in an issue"


@dataclass(frozen=True)
class Groups:
    """The groups of one layer."""

    name: str
    groups: int
    broken: int
    """Groups of more than N non-zeros."""
    zeros: int
    """Weights of the layer that are zero."""
    first_broken: tuple[int, ...] | None
    """Where the first broken group starts: (output channel, first input channel, *kernel), in torch's layout."""
    held: int
    """Non-zeros of that group; 0 where none is broken."""


def count_groups(model: ModelProto, n: int = 2, m: int = 4) -> dict[str, Groups]:
    """The groups of every layer whose input channels divide by `m`; of a layer used twice, those of its worst use.

    A weight may reach its layer through a Transpose, Cast, Identity, QuantizeLinear or DequantizeLinear. In an int8
    weight the zero point counts as zero.
    """
    found: dict[str, Groups] = {}
    for layer in graphs.layers(model.graph):
        if layer.weight.ndim >= 2 and not layer.weight.shape[layer.reduced_axis] % m:
            counted = _count(layer, n, m)
            if layer.name not in found or found[layer.name].broken < counted.broken:
                found[layer.name] = counted
    return found


def hold_to(model: ModelProto, path: Path, planned: Iterable[str], pattern: str) -> dict[str, Groups]:
    """Count the `planned` layers of `model`, the file at `path`, and refuse it unless each is `pattern`.

    :param planned: layer or parameter names, `layer1.0.conv1` or `layer1.0.conv1.weight`.
    :param pattern: "2:4" and the like; any other is taken only where nothing is planned.
    :raises UserError: naming the layer: not in the file, its weight computed when the file runs, its channels no
        multiple of M, or a group of more than N non-zeros.
    """
    names = [graphs.layer_name(name) for name in planned]
    if not names:
        return {}
    n, m = _two_numbers(pattern)
    stored = {layer.name: layer for layer in graphs.layers(model.graph)}
    computed = next(iter(_computed_weights(model.graph).items()), None)
    if computed is not None:
        raise UserError(
            f"layer '{computed[0]}': its weight is not stored in {path} but computed when it runs, in '{computed[1]}'",
            "TensorRT takes 2:4 only from stored weights: multiply the mask into the weight, then export again",
        )
    counted = count_groups(model, n, m)
    for name in names:
        if name not in stored:
            raise UserError(f"{path} has no layer '{name}', which is planned to be {pattern}", _AGAIN)
        if name not in counted:
            channels = stored[name].weight.shape[stored[name].reduced_axis]
            raise UserError(
                f"layer '{name}' in {path} cannot be {pattern}: its {channels} input channels are no multiple of {m}",
                "leave it out of the plan, or give the layer before it another width",
            )
        _hold(counted[name], path, pattern, m)
    return {name: counted[name] for name in names}


def _hold(found: Groups, path: Path, pattern: str, m: int) -> None:
    if found.first_broken is None:
        return
    row, first, *kernel = found.first_broken
    where = f"output channel {row}, input channels {first} to {first + m - 1}"
    where += f", kernel position {tuple(kernel)}" if kernel else ""
    raise UserError(
        f"layer '{found.name}' is not {pattern} in {path}: {found.broken} of {found.groups} groups are broken; "
        f"the first one, at {where}, has {found.held} non-zeros",
        "weights came back after pruning, or zeros lie along another axis: prune the layer again, then export",
    )


def _count(layer: graphs.Layer, n: int, m: int) -> Groups:
    last = np.moveaxis(layer.weight, layer.reduced_axis, -1)
    held = np.count_nonzero(last.reshape(*last.shape[:-1], -1, m), axis=-1)
    in_layout = np.moveaxis(held, -1, layer.reduced_axis)  # as the weight, one entry for each group of channels
    broken = np.argwhere(in_layout > n)
    first = [int(index) for index in broken[0]] if len(broken) else None
    most = int(in_layout[tuple(first)]) if first else 0
    if first:
        first[layer.reduced_axis] *= m
    return Groups(
        name=layer.name,
        groups=held.size,
        broken=len(broken),
        zeros=int(np.count_nonzero(layer.weight == 0)),
        first_broken=tuple(first) if first else None,
        held=most,
    )


def _two_numbers(pattern: str) -> tuple[int, int]:
    numbers = re.fullmatch(r"(\d+):(\d+)", pattern)
    if numbers is None or not 0 < int(numbers[1]) < int(numbers[2]):
        raise UserError(f"'{pattern}' is no N:M pattern", "plan layers for a pattern such as 2:4")
    return int(numbers[1]), int(numbers[2])


def _computed_weights(graph: GraphProto) -> dict[str, str]:
    """Layers whose weight is computed when the file runs, and the node that computes it.

    The layer is named after the weight it starts from. A product of two activations (attention) is no layer.
    """
    constants, made_by = graphs.initializers(graph), graphs.producers(graph)
    inputs = {value.name for value in graph.input} - set(constants)
    stored = {layer.node.output[0] for layer in graphs.layers(graph)}
    found: dict[str, str] = {}
    for node in graph.node:
        if node.op_type not in graphs.KINDS or node.output[0] in stored:
            continue
        read = {name for before in graphs.ancestors(node.input[1], made_by) for name in before.input if name}
        if node.op_type != "MatMul" or not inputs & read:
            starts = sorted(read & set(constants), key=lambda name: (not name.endswith("weight"), name))
            maker = made_by.get(node.input[1], node)
            found[graphs.layer_name(starts[0]) if starts else graphs.label(node)] = graphs.label(maker)
    return found
