"""What a network multiplies: a record for each layer with a weight and each product, from its outline alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from onnx import ModelProto, NodeProto

from export import graph as graphs
from export.plan.outline import settled
from export.shapes import Shape
from runtimes.errors import UserError

KINDS = {"Conv": "conv", "ConvTranspose": "transposed conv", "Gemm": "linear", "MatMul": "linear"}
"""Operators that multiply, and what a plan calls a layer of each; a product of two computed values is "product"."""

_MULTIPLY_TOO = frozenset(
    (
        *("Attention", "ConvInteger", "DeformConv", "Einsum", "GRU", "GroupQueryAttention", "LSTM", "MatMulInteger"),
        *("MultiHeadAttention", "QGemm", "QLinearConv", "QLinearMatMul", "RNN", "If", "Loop", "Scan"),
    )
)
"""Operators that multiply, or hold a graph that does, and that a plan does not look into."""

_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True)
class Work:
    """One layer, or one product of two computed values, for one image."""

    name: str  # the torch module's, where the file tells it
    kind: str  # conv, transposed conv, linear, product
    op: str  # ONNX operator
    shape: tuple[int, ...] | None  # of the weight in torch's layout: (out, in / groups, *kernel); None: it has none
    output_shape: tuple[int, ...]  # for one image
    groups: int
    macs: int  # multiply-adds for one image, over all uses
    uses: int  # how often the network runs this layer with this weight
    constant: bool  # whether the weight is a constant of the file


@dataclass(frozen=True)
class Inventory:
    """A network's work in graph order, and what else in it multiplies: operator -> how many."""

    work: tuple[Work, ...]
    unseen: dict[str, int]


def take_inventory(model: ModelProto) -> Inventory:
    """Every convolution, linear layer and product of `model`, which may be an outline, in graph order.

    A layer that is used several times is one record. Products of two computed values (attention) have multiply-adds
    too; additions, activations and normalizations are not counted.

    :raises UserError: the size of an output cannot be known.
    """
    nodes, shapes = settled(model)
    fixed = _constants(model, nodes)
    made_by = {name: node for node in nodes for name in node.output if name}
    found: dict[tuple[object, ...], Work] = {}
    for node in nodes:
        if node.op_type in KINDS and node.domain in _DOMAINS and not set(node.input[:2]) <= fixed:
            constant = node.input[1] in fixed
            stored, name = _origin(node.input[1], made_by) if constant else ("", "")
            work = _work(node, shapes, constant, _named(node, stored, name))
            key = (node.op_type, stored, work.shape) if constant else (node.output[0],)
            before = found.get(key)
            same = before and replace(before, macs=before.macs + work.macs, uses=before.uses + 1)
            found[key] = same or work
    unseen = Counter(node.op_type for node in nodes if node.op_type in _MULTIPLY_TOO or node.domain not in _DOMAINS)
    return Inventory(tuple(_unique(found.values())), dict(sorted(unseen.items())))


def _constants(model: ModelProto, nodes: Iterable[NodeProto]) -> set[str]:
    """Names of values that do not depend on the images; ONNX lists nodes after those that they read."""
    images = {value.name for value in model.graph.input} - set(graphs.initializers(model.graph))
    produced = {name for node in nodes for name in node.output}
    fixed = {name for node in nodes for name in node.input} - produced - images | {""}
    for node in nodes:
        holds_graph = any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        if node.op_type == "Constant" or (node.input and not holds_graph and fixed.issuperset(node.input)):
            fixed.update(node.output)
    return fixed


def _origin(name: str, made_by: dict[str, NodeProto]) -> tuple[str, str]:
    """The stored constant that a weight is made from, and the first name on the way there that is a weight's."""
    called = ""
    while True:
        called = called or (name if name.endswith("weight") else "")
        node = made_by.get(name)
        if node is None or not node.input:
            return name, called
        name = node.input[0]


def _named(node: NodeProto, stored: str, called: str) -> str:
    """The weight's own name before the node's: exporters that forget the one invent the other."""
    return graphs.layer_name(called) if called else node.name or stored or graphs.label(node)


def _work(node: NodeProto, shapes: dict[str, Shape], constant: bool, name: str) -> Work:
    output, weight = (_known(shapes, value, name) for value in (node.output[0], node.input[1]))
    data = _known(shapes, node.input[0], name)
    kind = KINDS[node.op_type] if constant or "Conv" in node.op_type else "product"
    if node.op_type in ("Gemm", "MatMul") and len(weight) >= 2:
        turned = node.op_type == "MatMul" or not graphs.attribute(node, "transB", 0)
        weight = (*weight[:-2], weight[-1], weight[-2]) if turned else weight
    each = {"Conv": prod(weight[1:]), "ConvTranspose": prod(weight[1:])}.get(node.op_type, weight[-1])
    return Work(
        name=name,
        kind=kind,
        op=node.op_type,
        shape=weight if constant else None,
        output_shape=output,
        groups=int(graphs.attribute(node, "group", 1)),
        macs=each * prod(data if node.op_type == "ConvTranspose" else output),
        uses=1,
        constant=constant,
    )


def _known(shapes: dict[str, Shape], value: str, name: str) -> tuple[int, ...]:
    shape = shapes.get(value)  # nothing at all is of an unknown rank: no layer gives a scalar
    sizes = [size for size in shape or () if size is not None]
    if not shape or len(sizes) < len(shape):
        told = "unknown" if not shape else " x ".join("?" if size is None else str(size) for size in shape)
        raise UserError(
            f"the shapes around layer '{name}' cannot be inferred: '{value}' is {told}",
            "give the images' size (--image-size), or export the model with fixed sizes but for the batch",
        )
    return tuple(sizes)


def _unique(found: Iterable[Work]) -> list[Work]:
    """The same records under names of their own: `block`, `block#2`."""
    counted: Counter[str] = Counter()
    made = []
    for work in found:
        counted[work.name] += 1
        number = counted[work.name]
        made.append(work if number == 1 else replace(work, name=f"{work.name}#{number}"))
    return made
