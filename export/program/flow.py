"""The operations of a draft while they are being fused: who writes a tensor, who reads it, and taking one's place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from export.program.format import Operation, Shape


@dataclass
class Flow:
    """Operations in order; `tensors` are shapes."""

    operations: list[Operation]
    tensors: list[Shape]
    input: int
    output: int

    def writer(self, tensor: int) -> Operation | None:
        """The operation that writes `tensor`; None for the network's input."""
        return next((one for one in self.operations if one.output == tensor), None)

    def readers(self, tensor: int) -> list[Operation]:
        """The operations that read `tensor`, once for each time they do."""
        return [one for one in self.operations for read in one.reads if read == tensor]

    def only_reader(self, tensor: int) -> Operation | None:
        """The one operation that reads `tensor`, once; None where there are more, or it is the answer."""
        found = self.readers(tensor)
        return found[0] if len(found) == 1 and tensor != self.output else None

    def sole_writer(self, tensor: int) -> Operation | None:
        """The operation that writes `tensor`, if whoever asks is its only reader."""
        return self.writer(tensor) if self.only_reader(tensor) is not None else None

    def before(self, tensor: int, one: Operation) -> bool:
        """Whether `tensor` is there when `one` runs."""
        at = self.operations.index(one)
        return tensor == self.input or any(other.output == tensor for other in self.operations[:at])

    def put(self, old: Operation, new: Operation, gone: Iterable[Operation] = ()) -> None:
        """Let `new` stand where `old` stands, and take out `gone`."""
        dropped = {id(one) for one in gone}
        changed = [new if one is old else one for one in self.operations]
        self.operations = [one for one in changed if id(one) not in dropped]

    def drop_unread(self) -> None:
        """Take out operations whose result nobody reads."""
        needed = {self.output}
        kept = []
        for one in reversed(self.operations):
            if one.output in needed:
                needed.update(one.reads)
                kept.append(one)
        self.operations = kept[::-1]


Rule = Callable[[Flow, Operation], bool]
"""Looks at one operation and changes the flow, or does not; whether it did."""


def apply(flow: Flow, rules: Sequence[Rule]) -> None:
    """Apply each rule in its turn wherever it fits, until none of them fits anywhere."""
    changed = True
    while changed:
        changed = False
        for rule in rules:
            changed |= _everywhere(flow, rule)
        flow.drop_unread()


def _everywhere(flow: Flow, rule: Rule) -> bool:
    """Once over the operations as they are; one that is gone by then is passed over."""
    changed = False
    for one in list(flow.operations):
        if any(one is other for other in flow.operations) and rule(flow, one):
            changed = True
    return changed


def renumbered(flow: Flow) -> Flow:
    """The same with tensors numbered in the order they are written in, and those that are gone left out."""
    order = [flow.input, *(one.output for one in flow.operations)]
    number = {tensor: index for index, tensor in enumerate(order)}
    operations = []
    for one in flow.operations:
        attributes = dict(one.attributes)
        if attributes.get("add") is not None:
            attributes["add"] = number[attributes["add"]]
        inputs = tuple(number[at] for at in one.inputs)
        operations.append(replace(one, inputs=inputs, output=number[one.output], attributes=attributes))
    return Flow(operations, [flow.tensors[at] for at in order], number[flow.input], number[flow.output])
