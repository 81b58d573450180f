"""What a network multiplies: a record for each layer with a weight and each product, from its outline alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

from onnx import ModelProto, NodeProto

from export import graph as graphs
from export.n_of_m import unfit
from export.plan.outline import settled
from export.shapes import Shape, by, fixed_batch, images
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
    constant: bool  # whether the weight depends on nothing but constants of the file
    unfit: str | None  # why no layer of this kind and shape can be 2:4; None: it can


@dataclass(frozen=True)
class Inventory:
    """A network's work in graph order, and what else in it multiplies: operator -> how many."""

    work: tuple[Work, ...]
    unseen: dict[str, int]
    image: tuple[int, ...] | None  # sizes of one image as the file orders them; None: no input is of images


def take_inventory(model: ModelProto) -> Inventory:
    """Every convolution, linear layer and product of `model`, which may be an outline, in graph order.

    A layer that is used several times is one record. Products of two computed values (attention) have multiply-adds
    too; additions, activations and normalizations are not counted. Where the file takes a fixed number of images at
    once, its numbers are divided by it.

    :raises UserError: a size cannot be known, or is none, or does not fit the layer's weight.
    """
    nodes, shapes = settled(model)
    survey = _Survey(model, nodes, shapes)
    found: dict[tuple[object, ...], Work] = {}
    for node in nodes:
        if node.op_type in KINDS and node.domain in graphs.ONNX and not set(node.input[:2]) <= survey.fixed:
            key, work = survey.work(node)
            before = found.get(key)
            same = before and replace(before, macs=before.macs + work.macs, uses=before.uses + 1)
            found[key] = same or work
    unseen = Counter(node.op_type for node in nodes if node.op_type in _MULTIPLY_TOO or node.domain not in graphs.ONNX)
    return Inventory(tuple(_unique(found.values())), dict(sorted(unseen.items())), survey.image)


class _Survey:
    """What is known of a network's values when its layers are looked at one by one."""

    def __init__(self, model: ModelProto, nodes: list[NodeProto], shapes: dict[str, Shape]) -> None:
        self.nodes, self.shapes = nodes, shapes
        self.made_by = {name: node for node in nodes for name in node.output if name}
        self.fixed = _constants(model, nodes)
        self.inputs = {value.name for value in model.graph.input} - set(graphs.initializers(model.graph))
        written = {name for node in nodes if node.op_type == "Constant" for name in node.output}
        self.stored = (self.fixed - set(self.made_by)) | written
        given = images(model.graph)
        sizes = [] if given is None else [dim.dim_value for dim in given.type.tensor_type.shape.dim[1:]]
        self.open = not all(sizes)
        self.image = tuple(sizes) if sizes and not self.open else None
        self.batch = fixed_batch(model.graph)

    def work(self, node: NodeProto) -> tuple[tuple[object, ...], Work]:
        """The record of one node, and what it has in common with another use of the same layer."""
        at = self._weight_at(node)
        constant = node.input[at] in self.fixed
        stored, called = _origin(node.input[at], self.made_by) if constant else ("", "")
        name = _named(node, stored, called)
        output, data, weight = (
            self._known(value, name) for value in (node.output[0], node.input[1 - at], node.input[at])
        )
        if node.op_type in ("Gemm", "MatMul") and len(weight) >= 2 and graphs.turned(node, at):
            weight = (*weight[:-2], weight[-1], weight[-2])
        _fit(node, at, data, weight, name)
        convolution = "Conv" in node.op_type
        each = prod(weight[1:]) if convolution else weight[-1]
        work = Work(
            name=name,
            kind=KINDS[node.op_type] if constant or convolution else "product",
            op=node.op_type,
            shape=weight if constant else None,
            output_shape=output if output[0] % self.batch else (output[0] // self.batch, *output[1:]),
            groups=_groups(node),
            macs=each * prod(data if node.op_type == "ConvTranspose" else output) // self.batch,
            uses=1,
            constant=constant,
            unfit=self._unfit(node, at, weight, constant),
        )
        return (node.op_type, stored, work.shape) if constant else (node.output[0],), work

    def _weight_at(self, node: NodeProto) -> int:
        """Which input the weight is: the second, but for products of which only the first is constant."""
        swapped = node.op_type in ("Gemm", "MatMul") and node.input[0] in self.fixed and node.input[1] not in self.fixed
        return 0 if swapped else 1

    def _unfit(self, node: NodeProto, at: int, weight: tuple[int, ...], constant: bool) -> str | None:
        name = node.input[at]
        if constant and graphs.stored_as(name, self.stored, self.made_by) is None:
            return "its weight is computed from constants when the file runs: bake it in"
        if constant:
            return unfit(node, weight, position=at)
        if "Conv" not in node.op_type:
            return "a product of two computed values: no weight"
        return (
            "its weight is an input of the graph" if name in self.inputs else "its weight is computed, not a constant"
        )

    def _known(self, value: str, name: str) -> tuple[int, ...]:
        shape = self.shapes.get(value)  # nothing at all is of an unknown rank: no layer gives a scalar
        sizes = tuple(size for size in shape or () if size is not None)
        if not shape or len(sizes) < len(shape):
            told = by(shape) if shape else "unknown"
            what = f"the shapes around layer '{name}' cannot be inferred: '{value}' is {told}"
            raise UserError(what + self._from_where(value), self._what_helps())
        if min(sizes) < 1:
            raise UserError(f"layer '{name}' has nothing to compute: '{value}' is {by(shape)}", _LARGER)
        return sizes

    def _first_unknown(self) -> NodeProto | None:
        """The first node whose output has an open size, but for those that nobody can know."""
        open_ones = (node for node in self.nodes if None in (self.shapes.get(node.output[0]) or (None,)))
        return next((node for node in open_ones if self.shapes.get(node.output[0]) != ()), None)

    def _from_where(self, value: str) -> str:
        first = self._first_unknown()
        if first is None or value in first.output:
            return ""
        kind = f" ({first.op_type})" if first.name else ""
        return f"; the first that is not known is what '{graphs.label(first)}'{kind} gives"

    def _what_helps(self) -> str:
        first = self._first_unknown()
        if first is not None and first.domain not in graphs.ONNX:
            return f"ONNX does not say what {first.domain}.{first.op_type} gives: plan a file without it"
        if self.open:
            return "give the images' size (--image-size), or export the model with fixed sizes but for the batch"
        return "export the model with fixed sizes but for the batch, or with its intermediate shapes"


_LARGER = "check the sizes that the file states; a free image size is given by --image-size"


def _fit(node: NodeProto, at: int, data: tuple[int, ...], weight: tuple[int, ...], name: str) -> None:
    """Refuse a layer whose weight is for another number of channels than it reads; inference does not look."""
    if "Conv" in node.op_type:
        reads, takes = data[1], weight[0] if node.op_type == "ConvTranspose" else weight[1] * _groups(node)
    elif node.op_type == "Gemm":
        on_end = bool(graphs.attribute(node, "transA" if at else "transB", 0)) != bool(at)
        reads, takes = data[-1 if on_end else 0], weight[-1]
    else:
        reads, takes = data[-1 if at or len(data) == 1 else -2], weight[-1]
    if reads != takes:
        raise UserError(f"layer '{name}' reads {reads} channels, and its weight is for {takes}", "export it again")


def _groups(node: NodeProto) -> int:
    return int(graphs.attribute(node, "group", 1))


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


def _unique(found: Iterable[Work]) -> list[Work]:
    """The same records under names of their own: `block`, `block#2`."""
    counted: Counter[str] = Counter()
    made = []
    for work in found:
        counted[work.name] += 1
        number = counted[work.name]
        made.append(work if number == 1 else replace(work, name=f"{work.name}#{number}"))
    return made
