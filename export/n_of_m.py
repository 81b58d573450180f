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
from onnx import GraphProto, ModelProto, NodeProto

from export import graph as graphs
from runtimes.errors import UserError

ON_THE_LEFT = "its weight stands on the left of the product, where no rule for 2:4 is documented"

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


@dataclass(frozen=True)
class Computed:
    """A layer whose weight does not lie in the file, or lies there in a form that edgeprune cannot read."""

    name: str
    told: str
    """What is wrong with it, to be said after the layer's name."""
    hint: str


def count_groups(model: ModelProto, n: int = 2, m: int = 4) -> dict[str, Groups]:
    """The groups of every layer that can be N:M by its shape (`unfit`); of a layer used twice, those of its worst use.

    A weight may reach its layer through a Transpose, Reshape, Cast, Identity, QuantizeLinear or DequantizeLinear. In an
    int8 weight the zero point counts as zero.
    """
    found: dict[str, Groups] = {}
    for layer in graphs.layers(model.graph):
        if _unfit(layer, m) is None:
            counted = _count(layer, n, m)
            if layer.name not in found or found[layer.name].broken < counted.broken:
                found[layer.name] = counted
    return found


def unfit(node: NodeProto, shape: tuple[int, ...], *, position: int = 1, m: int = 4) -> str | None:
    """Why a layer cannot be N:M for TensorRT, by its operator and the shape of its weight; None where it can.

    The one rule of plan, gate and examination: TensorRT developer guide 8.5.3, "Structured Sparsity"; for grouped
    convolutions NVIDIA/TensorRT#4054.

    :param shape: in torch's layout, (out, in / groups, *kernel) or (out, in).
    :param position: which input of the node the weight is.
    """
    groups = int(graphs.attribute(node, "group", 1))
    if node.op_type == "ConvTranspose":
        return "transposed convolution: no sparse kernels for it"
    if groups > 1:
        return "depthwise: each output reads one channel" if shape[1] == 1 else f"grouped convolution, {groups} groups"
    if position != 1:
        return ON_THE_LEFT
    if node.op_type != "Conv" and len(shape) != 2:
        return f"a weight of {len(shape)} dimension{'s' if len(shape) != 1 else ''}, not a matrix"
    channels = shape[1]
    if channels < m:
        return f"reads {channels} channel{'s' if channels != 1 else ''}: fewer than a group of {m}"
    return f"reads {channels} channels: no multiple of {m}" if channels % m else None


def hold_to(model: ModelProto, path: Path, planned: Iterable[str], pattern: str) -> dict[str, Groups]:
    """Count the `planned` layers of `model`, the file at `path`, and refuse it unless each is `pattern`.

    :param planned: layer or parameter names, `layer1.0.conv1` or `layer1.0.conv1.weight`.
    :param pattern: "2:4" and the like; any other is taken only where nothing is planned.
    :raises UserError: naming the layer: not in the file, its weight computed when the file runs, of a kind or a width
        that cannot be N:M, or a group of more than N non-zeros.
    """
    names = [graphs.layer_name(name) for name in planned]
    if not names:
        return {}
    n, m = _two_numbers(pattern)
    stored = {layer.name: layer for layer in graphs.layers(model.graph)}
    computed = {one.name: one for one in computed_weights(model.graph)}
    counted = count_groups(model, n, m)
    for name in names:
        if name in computed or (name not in stored and computed):  # an input has no name that tells its layer
            raise refusal(computed.get(name) or next(iter(computed.values())), path)
        if name not in stored:
            raise UserError(f"{path} has no layer '{name}', which is planned to be {pattern}", _AGAIN)
        if name not in counted:
            raise UserError(
                f"layer '{name}' in {path} cannot be {pattern}: {_unfit(stored[name], m)}",
                "leave it out of the plan; where it is the width, give the layer before it another one",
            )
        _hold(counted[name], path, pattern, m)
    return {name: counted[name] for name in names}


def refusal(computed: Computed, path: Path) -> UserError:
    """What to tell of a layer in the file at `path` whose weight is not stored there."""
    return UserError(f"layer '{computed.name}' of {path}: {computed.told}", computed.hint)


def _unfit(layer: graphs.Layer, m: int) -> str | None:
    return unfit(layer.node, layer.weight.shape, position=layer.position, m=m)


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


def computed_weights(graph: GraphProto) -> list[Computed]:
    """Layers whose weight is no constant of the file, in graph order: TensorRT takes N:M only from stored weights.

    The layer is named after the weight it starts from. A product of two activations (attention) is no layer.
    """
    constants, made_by = graphs.initializers(graph), graphs.producers(graph)
    inputs = {value.name for value in graph.input} - set(constants)
    stored = {layer.node.output[0] for layer in graphs.layers(graph)}
    found: dict[str, Computed] = {}
    for node in graph.node:
        if node.op_type in graphs.KINDS and node.domain in graphs.ONNX and node.output[0] not in stored:
            sides = [1] if node.op_type == "Conv" else [1, 0]
            read = {at: _read_for(node.input[at], made_by) for at in sides}
            fixed = next((at for at in sides if not inputs & read[at]), None)
            if fixed is not None or node.op_type != "MatMul":
                one = _computed(node, 1 if fixed is None else fixed, read, graph)
                found.setdefault(one.name, one)
    return list(found.values())


def _read_for(name: str, made_by: dict[str, NodeProto]) -> set[str]:
    return {name} | {read for before in graphs.ancestors(name, made_by) for read in before.input if read}


def _computed(node: NodeProto, at: int, read: dict[int, set[str]], graph: GraphProto) -> Computed:
    """How the weight that is input `at` of `node` comes about; `read`: all that each side depends on."""
    constants, made_by, weight = graphs.initializers(graph), graphs.producers(graph), node.input[at]
    starts = sorted(read[at] & set(constants), key=lambda name: (not name.endswith("weight"), name))
    name = graphs.layer_name(starts[0]) if starts else graphs.label(node)
    if weight not in made_by:
        return Computed(graphs.layer_name(weight), "its weight is an input of the graph", "store it in the file")
    maker = f"in '{graphs.label(made_by[weight])}'"
    if (stored := graphs.stored_as(weight, constants, made_by)) is not None:
        return Computed(
            graphs.layer_name(stored),
            f"edgeprune cannot read the form its weight is stored in, {maker}",
            "scales by blocks, scales of 0 and float8 are not read: store it in float32, or in int8 with a scale for "
            "each output channel",
        )
    return Computed(
        name,
        f"its weight is not stored there but computed when it runs, {maker}",
        "TensorRT takes 2:4 only from stored weights: multiply the mask into the weight, bake other arithmetic in",
    )
