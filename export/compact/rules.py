"""Which operators hand channels on, by name, and under what conditions each of them is understood.

What is not in the table, and a node that does not fit its row (an axis that is computed, a shape that is not known), is
left alone: its inputs and outputs keep all their channels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from export import graph as graphs
from export.compact.operators import (
    Divided,
    Elementwise,
    Flattened,
    Joined,
    Link,
    Normalised,
    Operator,
    Pairwise,
    alike,
    positions,
)
from export.compact.values import Network, attributes
from export.compact.weighted import convolution, product

Rule = Callable[[Network, NodeProto], Operator | None]

_ACTIVATIONS = (
    *("Abs", "Celu", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Mish"),
    *("Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
)


def understand(network: Network, node: NodeProto) -> Operator | None:
    """What `node` does with channels; None where it is to be left alone."""
    rule = RULES.get(node.op_type) if node.domain in graphs.ONNX else None
    read = graphs.consumers(network.graph) if len(node.output) > 1 else {}
    several = node.op_type != "Split" and any(name in read for name in node.output[1:])
    return None if rule is None or several or not node.input else rule(network, node)


def _activation(network: Network, node: NodeProto) -> Operator | None:
    links = alike(network, node, node.input[0])
    fixed = all(name in network.weights for name in node.input[1:] if name)
    return Elementwise(network, node, links) if links and fixed else None


def _handed_on(network: Network, node: NodeProto) -> Operator | None:
    links = alike(network, node, node.input[0])
    return Operator(network, node, links) if links else None


def _dropped_out(network: Network, node: NodeProto) -> Operator | None:
    return _handed_on(network, node) if len(node.input) < 3 else None  # the third input may switch it on


def _average(network: Network, node: NodeProto) -> Operator | None:
    """The padding counts as zeros where it is counted at all."""
    links, held = alike(network, node, node.input[0]), attributes(node)
    padded = any(held.get("pads", [])) or held.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    partial = (padded and held.get("count_include_pad", 0)) or held.get("ceil_mode", 0)
    return Operator(network, node, links, not partial) if links else None


def _mean(network: Network, node: NodeProto) -> Operator | None:
    axes, shape = network.integers(node, 1, "axes"), network.shapes.get(node.input[0], ())
    over_positions = axes is not None and all(axis % len(shape) >= 2 for axis in axes if shape)
    return _handed_on(network, node) if axes and over_positions else None


def _padding(network: Network, node: NodeProto) -> Operator | None:
    """Zeros around the positions leave a channel flat only where it is 0; borders that repeat it always do."""
    links, pads = alike(network, node, node.input[0]), network.integers(node, 1, "pads")
    if not links or pads is None or len(node.input) > 3:
        return None
    rank, held = len(pads) // 2, attributes(node)
    stated = len(node.input) > 2 and bool(node.input[2])
    value = network.weights.get(node.input[2]) if stated else np.asarray(held.get("value", 0.0))
    constant = held.get("mode", b"constant") == b"constant"
    if any(pads[axis] for axis in (0, 1, rank, rank + 1)) or value is None or (constant and bool(value.any())):
        return None
    return Operator(network, node, links, not constant or max(pads) <= 0)


def _resized(network: Network, node: NodeProto) -> Operator | None:
    links, held = alike(network, node, node.input[0]), attributes(node)
    scales = network.weights.get(node.input[2]) if len(node.input) == 3 else None
    simple = held.get("mode", b"nearest") in (b"nearest", b"linear") and "axes" not in held
    plain = held.get("coordinate_transformation_mode", b"half_pixel") != b"tf_crop_and_resize"
    if not links or scales is None or scales.size < 2 or not simple or not plain:
        return None
    return Operator(network, node, links) if bool((scales.reshape(-1)[:2] == 1).all()) else None


def _normalised(network: Network, node: NodeProto) -> Operator | None:
    links = alike(network, node, node.input[0])
    fixed = all(network.weight(node, position) is not None for position in range(1, 5))
    training = graphs.attribute(node, "training_mode", 0) or not graphs.attribute(node, "spatial", 1)
    return Normalised(network, node, links) if links and fixed and not training else None


def _pairwise(network: Network, node: NodeProto) -> Operator | None:
    shape, sides = network.shapes.get(node.output[0], ()), list(node.input)
    values = [name for name in sides if name not in network.weights]
    links = alike(network, node, *values) if values else None
    ranks = all(len(network.shapes[name]) == len(shape) for name in values) if links else False
    if not links or not ranks or not all(_for_each_channel(network, node, at, shape[1]) for at in (0, 1)):
        return None
    return Pairwise(network, node, links)


def _for_each_channel(network: Network, node: NodeProto, position: int, channels: int | None) -> bool:
    """Whether a constant side is one number, or one for each channel and the same everywhere else."""
    if node.input[position] not in network.weights:
        return True
    value, rank = network.weight(node, position), len(network.shapes[node.output[0]])
    if value is None or value.ndim > rank:
        return False
    sizes = (1,) * (rank - value.ndim) + value.shape
    return sizes[1] in (1, channels) and all(size == 1 for axis, size in enumerate(sizes) if axis != 1)


def _joined(network: Network, node: NodeProto) -> Operator | None:
    target, sizes = node.output[0], [network.channels(name) for name in node.input]
    shape = network.shapes.get(target, ())
    if not shape or graphs.attribute(node, "axis", 0) % len(shape) != 1 or None in (*sizes, network.channels(target)):
        return None
    starts = np.cumsum([0, *(size or 0 for size in sizes)])
    return Joined(network, node, _parts(node.input, target, starts, into=True))


def _divided(network: Network, node: NodeProto) -> Operator | None:
    source, sizes = node.input[0], [network.channels(name) for name in node.output]
    shape = network.shapes.get(source, ())
    if not shape or graphs.attribute(node, "axis", 0) % len(shape) != 1 or None in (*sizes, network.channels(source)):
        return None
    starts = np.cumsum([0, *(size or 0 for size in sizes)])
    return Divided(network, node, _parts(node.output, source, starts, into=False))


def _parts(names: object, whole: str, starts: np.ndarray, *, into: bool) -> list[Link]:
    found = []
    for number, name in enumerate(list(names)):  # type: ignore[call-overload]
        inner, outer = np.arange(starts[number + 1] - starts[number]), np.arange(starts[number], starts[number + 1])
        found.append(Link(name, whole, inner, outer) if into else Link(whole, name, outer, inner))
    return found


def _flattened(network: Network, node: NodeProto) -> Operator | None:
    """(n, c, ...) to (n, features), and (n, c) to (n, c, 1, ...): every channel becomes a block of features."""
    source, target = node.input[0], node.output[0]
    before, after = network.channels(source), network.channels(target)
    fixed = all(name in network.weights for name in node.input[1:] if name)
    if before is None or after is None or not fixed:
        return None
    reads, gives = positions(network, source), positions(network, target)
    flat = gives == 1 and (len(network.shapes[target]) == 2 or reads == 1)
    if reads is None or not flat or after != before * reads:
        return None
    link = Link(source, target, np.repeat(np.arange(before), reads), np.arange(after))
    return Flattened(network, node, [link])


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ACTIVATIONS, _activation),
    **dict.fromkeys(("Add", "Div", "Max", "Min", "Mul", "Sub"), _pairwise),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _flattened),
    **dict.fromkeys(("GlobalAveragePool", "GlobalMaxPool", "MaxPool"), _handed_on),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin"), _mean),
    "AveragePool": _average,
    "BatchNormalization": _normalised,
    "Concat": _joined,
    "Conv": convolution,
    "Dropout": _dropped_out,
    "Gemm": product,
    "MatMul": product,
    "Pad": _padding,
    "Resize": _resized,
    "Split": _divided,
}
"""What is understood, by operator."""
