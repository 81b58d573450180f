"""One round of removal: constants forwards, what is read backwards, then the cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import AttributeProto, NodeProto, helper

from export import graph as graphs
from export.compact import record
from export.compact.operators import Operator, Pairwise
from export.compact.rules import understand
from export.compact.values import Constants, Mask, Network
from export.compact.weighted import Weighted
from export.simplify import drop_unused, rewire


@dataclass(frozen=True)
class Round:
    """What one round found; masks are (channels,) by value."""

    removed: bool
    left: dict[str, dict[str, int]]
    """For each value: how many of its channels are dead or constant and stay, by the reason."""


def remove_once(network: Network) -> Round:
    """Fold what is constant, cut what nothing reads; another round may find more where something was removed."""
    known = _constants(network)
    replaced = _replace_constant_sides(network, known)
    if replaced:
        network.store()
        drop_unused(network.model)
    operators = [(node, understand(network, node)) for node in network.graph.node]
    alive, border = _alive(network, operators, known)
    keep = _pinned(network, operators, {name: mask.copy() for name, mask in alive.items()})
    before_last = {name: mask.copy() for name, mask in _tied(operators, keep).items()}
    _keep_one(operators, keep)
    for _, operator in operators:
        if operator is not None:
            operator.cut(keep, alive)
    removed = any(not mask.all() for mask in keep.values())
    inner = keep.keys() - graphs.outputs(network.graph)  # what the graph gives is never removed
    left = {name: _left(name, keep, before_last, alive, border, known) for name in inner}
    return Round(removed or replaced, left)


def _constants(network: Network) -> dict[str, Constants]:
    """Fold constants forwards through the graph; what is known of each value afterwards."""
    known: dict[str, Constants] = {}
    for node in network.graph.node:
        operator = understand(network, node)
        if operator is not None:
            operator.fold(known)
            known.update(operator.constants(known))
    return known


def _replace_constant_sides(network: Network, known: dict[str, Constants]) -> bool:
    """Give a sum or product whose one side is constant as a whole that constant; True: some were."""
    replaced = False
    for node in list(network.graph.node):
        operator = understand(network, node)
        for position in (0, 1) if isinstance(operator, Pairwise) else ():
            side, other = node.input[position], node.input[1 - position]
            whole = side in known and bool(known[side].known.all()) and other not in network.weights
            if whole and side != other and network.shapes[other] == network.shapes[node.output[0]]:
                _give_constant(network, node, position, known)
                replaced = True
                break
    return replaced


def _give_constant(network: Network, node: NodeProto, position: int, known: dict[str, Constants]) -> None:
    """The cheapest form of the constant: nothing where it changes nothing, a bias, else an initializer."""
    constant = known[node.input[position]]
    other, rank = node.input[1 - position], len(network.shapes[node.output[0]])
    ends = node.output[0] in graphs.outputs(network.graph) or any(map(_holds_graph, network.graph.node))
    if not ends and (_changes_nothing(node, position, constant) or _into_bias(network, node, other, constant)):
        known[other] = known[node.output[0]]
        rewire(network.graph.node, node.output[0], other)
        network.graph.node.remove(node)
        return
    value = constant.numbers.astype(network.number).reshape(1, -1, *[1] * (rank - 2))
    name = network.free(f"{node.input[position]}.constant")
    node.input[position] = name
    network.weights[name] = value
    network.changed.add(name)


def _changes_nothing(node: NodeProto, position: int, constant: Constants) -> bool:
    neutral = {"Add": 0.0, "Sub": 0.0, "Mul": 1.0, "Div": 1.0}.get(node.op_type)
    commutes = position == 1 or node.op_type in ("Add", "Mul")
    return commutes and neutral is not None and bool((constant.numbers == neutral).all())


def _into_bias(network: Network, node: NodeProto, other: str, constant: Constants) -> bool:
    """Move what a sum adds into the bias of the layer before it, where nothing else reads that layer's output."""
    maker = graphs.producers(network.graph).get(other)
    layer = understand(network, maker) if maker is not None and node.op_type == "Add" else None
    alone = len(graphs.consumers(network.graph)[other]) == 1 and other not in graphs.outputs(network.graph)
    if not isinstance(layer, Weighted) or not alone:
        return False
    layer.shift(constant.numbers)
    return True


def _holds_graph(node: NodeProto) -> bool:
    return any(held.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS) for held in node.attribute)


Operators = list[tuple[NodeProto, Operator | None]]


def _alive(
    network: Network, operators: Operators, known: dict[str, Constants]
) -> tuple[dict[str, Mask], dict[str, Mask]]:
    """The channels that something reads, and those of them that are constant and read next to padding."""
    names = [value.name for value in network.graph.input] + [name for node, _ in operators for name in node.output]
    alive = {name: np.zeros(network.channels(name) or 0, np.bool_) for name in names if network.channels(name)}
    border = {name: mask.copy() for name, mask in alive.items()}
    for name in graphs.outputs(network.graph) & alive.keys():
        alive[name][:] = True
    for node, operator in reversed(operators):
        if operator is None:
            for name in alive.keys() & set(_all_reads(node)):
                alive[name][:] = True
            continue
        for name, mask in operator.alive(known, alive).items():
            alive[name] |= mask
            if not operator.flat and name in known:
                border[name] |= mask & known[name].known
        for source, target, here, there in operator.links:
            border[source][here[border[target][there]]] = True
    return alive, border


def _pinned(network: Network, operators: Operators, keep: dict[str, Mask]) -> dict[str, Mask]:
    """`keep` with all channels of the graph's inputs and of what operators give that are left alone.

    What those and the graph's outputs read is alive.
    """
    pinned = {value.name for value in network.graph.input}
    for node, operator in operators:
        pinned |= set(node.output) if operator is None else set()
        pinned |= set() if node.op_type == "Split" else set(node.output[1:])  # masks and indices that nobody reads
    for name in pinned & keep.keys():
        keep[name][:] = True
    return keep


def _all_reads(node: NodeProto) -> list[str]:
    """What a node reads, the graphs that it holds included."""
    held = [helper.get_attribute_value(one) for one in node.attribute if _holds_graph(node) and one.type == 5]
    return [*node.input, *(name for graph in held for name in graphs.consumers(graph))]


def _tied(operators: Operators, keep: dict[str, Mask]) -> dict[str, Mask]:
    """`keep`, grown until linked channels agree."""
    links = [link for _, operator in operators if operator is not None for link in operator.links]
    while True:
        before = sum(int(mask.sum()) for mask in keep.values())
        for source, target, here, there in (*links, *reversed(links)):
            keep[target][there[keep[source][here]]] = True
            keep[source][here[keep[target][there]]] = True
        if sum(int(mask.sum()) for mask in keep.values()) == before:
            return keep


def _keep_one(operators: Operators, keep: dict[str, Mask]) -> None:
    """Let every value that would lose all its channels keep the first, and what is linked to it."""
    while empty := [name for name, mask in keep.items() if not mask.any()]:
        keep[empty[0]][0] = True
        _tied(operators, keep)


def _left(
    name: str,
    keep: dict[str, Mask],
    before_last: dict[str, Mask],
    alive: dict[str, Mask],
    border: dict[str, Mask],
    known: dict[str, Constants],
) -> dict[str, int]:
    constant = known[name].known if name in known else np.zeros(len(keep[name]), np.bool_)
    stuck = keep[name] & (constant | ~alive[name])
    last = stuck & ~before_last[name]
    beside = stuck & ~last & border[name]
    counts = {record.BORDER: beside, record.JOINED: stuck & ~last & ~beside, record.LAST: last}
    return {reason: int(mask.sum()) for reason, mask in counts.items() if mask.any()}
