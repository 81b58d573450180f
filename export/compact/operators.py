"""How channels go through an operator that hands each of them on by itself, and what must be cut with them.

One object per node. `links` says which channel becomes which: linked channels stay or go together. An operator that
mixes channels (`export.compact.weighted`) has no links, and that is where channels end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from export.compact.values import Constants, Indices, Mask, Network, Numbers, attributes

Known = Mapping[str, Constants]
Masks = Mapping[str, Mask]


class Link(NamedTuple):
    """Channel `here[k]` of the value `source` becomes channel `there[k]` of the value `target`."""

    source: str
    target: str
    here: Indices
    there: Indices


def unknown(channels: int) -> Constants:
    """What is known of a value of which nothing is known."""
    return Constants(np.zeros(channels, np.bool_), np.zeros(channels))


@dataclass(frozen=True)
class Operator:
    """A node that hands its first input on, channel by channel: a pool, a mean over positions, a padding."""

    network: Network
    node: NodeProto
    links: list[Link]
    flat: bool = True
    """Whether a channel of one number stays one; where not, only 0 does."""

    def fold(self, known: Known) -> None:
        """Take constant inputs into the node's own weights, where it has any."""

    def constants(self, known: Known) -> dict[str, Constants]:
        """Which channels of the outputs are constant."""
        found = {}
        for name in dict.fromkeys(link.target for link in self.links):
            found[name] = given = unknown(self.network.channels(name) or 0)
            for source, _, here, there in (link for link in self.links if link.target == name):
                before = known.get(source) or unknown(self.network.channels(source) or 0)
                given.known[there] = (before.known & (self.flat | (before.numbers == 0)))[here]
                given.numbers[there] = before.numbers[here]
            given.numbers[~given.known] = 0
        return found

    def alive(self, known: Known, alive: Masks) -> dict[str, Mask]:
        """Which channels of the inputs are read, where those in `alive` are of the outputs."""
        found: dict[str, Mask] = {}
        for source, target, here, there in self.links:
            mask = found.setdefault(source, np.zeros(self.network.channels(source) or 0, np.bool_))
            mask[here[alive[target][there]]] = True
        return found

    def cut(self, keep: Masks, alive: Masks) -> None:
        """Cut the node's own parameters to the channels in `keep`."""


class Elementwise(Operator):
    """A function of each number by itself: an activation."""

    def constants(self, known: Known) -> dict[str, Constants]:
        """The function of a constant, by ONNX's own reference."""
        (found,) = super().constants(known).values()
        feeds = {name: self.network.weights[name] for name in self.node.input[1:] if name}
        feeds[self.node.input[0]] = found.numbers.astype(self.network.number).reshape(1, -1)
        numbers = self.network.compute(self.node, feeds).astype(np.float64).reshape(-1)
        return {self.node.output[0]: finite(found.known, numbers)}


class Joined(Operator):
    """Concat: channels after one another."""


class Normalised(Operator):
    """Batch normalization with fixed statistics: a scale and a shift for each channel."""

    def constants(self, known: Known) -> dict[str, Constants]:
        """A constant scaled and shifted, or the shift where the scale is 0."""
        (found,) = super().constants(known).values()
        scale, shift, mean, variance = (self._parameter(position).astype(np.float64) for position in range(1, 5))
        with np.errstate(all="ignore"):
            each = scale / np.sqrt(variance + attributes(self.node).get("epsilon", 1e-5))
            numbers = ((found.numbers - mean) * each + shift).astype(self.network.number).astype(np.float64)
        return {self.node.output[0]: finite(found.known | (each == 0), numbers)}

    def alive(self, known: Known, alive: Masks) -> dict[str, Mask]:
        """A channel that is scaled by 0 is not read."""
        (found,) = super().alive(known, alive).values()
        return {self.node.input[0]: found & (self._parameter(1) != 0)}

    def cut(self, keep: Masks, alive: Masks) -> None:
        """Cut all four parameters."""
        mask = keep[self.node.output[0]]
        for position in range(1, 5) if not mask.all() else ():
            self.network.give(self.node, position, self._parameter(position)[mask], self.node.input[position])

    def _parameter(self, position: int) -> NDArray[np.floating]:
        return self.network.weights[self.node.input[position]]


class Pairwise(Operator):
    """A sum, difference, product or quotient of two values, or of a value and a constant for each channel."""

    def constants(self, known: Known) -> dict[str, Constants]:
        """A result is constant where both sides are, and 0 where one side of a product is."""
        sides = [self.side(position, known) for position in (0, 1)]
        shape = (1, -1, *[1] * (len(self.network.shapes[self.node.output[0]]) - 2))
        numbers = [side.numbers.astype(self.network.number).reshape(shape) for side in sides]
        alone = NodeProto()
        alone.CopyFrom(self.node)
        alone.input[:] = ["left", "right"]  # one value may be both
        computed = self.network.compute(alone, {"left": numbers[0], "right": numbers[1]}).astype(np.float64)
        both = sides[0].known & sides[1].known
        if self.node.op_type == "Mul":
            both = both | _zero(sides[0]) | _zero(sides[1])  # the other side counts as 0 where it is not known
        return {self.node.output[0]: finite(both, computed.reshape(-1))}

    def alive(self, known: Known, alive: Masks) -> dict[str, Mask]:
        """One side of a product is not read where the other is 0."""
        found: dict[str, Mask] = {}
        for position, name in enumerate(self.node.input):
            if self.network.channels(name) is not None:
                other = self.side(1 - position, known)
                read = alive[self.node.output[0]] & ~(_zero(other) & (self.node.op_type == "Mul"))
                found[name] = found[name] | read if name in found else read
        return found

    def cut(self, keep: Masks, alive: Masks) -> None:
        """Cut the side that is a constant for each channel."""
        mask = keep[self.node.output[0]]
        for position, name in enumerate(self.node.input):
            value = self.network.weights.get(name)
            if value is not None and value.size == len(mask) and not mask.all():
                axis = value.ndim - (len(self.network.shapes[self.node.output[0]]) - 1)
                self.network.give(self.node, position, np.compress(mask, value, axis=axis), name)

    def side(self, position: int, known: Known) -> Constants:
        """What is known of one side, channel by channel."""
        channels = self.network.channels(self.node.output[0]) or 0
        value = self.network.weights.get(self.node.input[position])
        if value is None:
            return known.get(self.node.input[position]) or unknown(channels)
        return finite(np.ones(channels, np.bool_), np.broadcast_to(value.reshape(-1), channels).astype(np.float64))


class Flattened(Operator):
    """A flattening, or a number for each channel that gets or loses its axes of one position."""

    def cut(self, keep: Masks, alive: Masks) -> None:
        """Let a Reshape find the number of channels by itself."""
        mask, rank = keep[self.node.output[0]], len(self.network.shapes[self.node.output[0]])
        if self.node.op_type == "Reshape" and not mask.all():
            kept = [held for held in self.node.attribute if held.name != "allowzero"]
            del self.node.attribute[:]
            self.node.attribute.extend(kept)
            target = np.array([0, -1, *[1] * (rank - 2)], np.int64)
            self.network.give(self.node, 1, target, f"{self.node.output[0]}.shape")


class Divided(Operator):
    """Split: the channels of one value in several."""

    def cut(self, keep: Masks, alive: Masks) -> None:
        """State the new sizes."""
        sizes = [int(keep[name].sum()) for name in self.node.output]
        if all(keep[name].all() for name in self.node.output):
            return
        kept = [held for held in self.node.attribute if held.name not in ("split", "num_outputs")]
        old = any(held.name == "split" for held in self.node.attribute)
        del self.node.attribute[:]
        self.node.attribute.extend(kept)
        if old:
            self.node.attribute.append(helper.make_attribute("split", sizes))
        else:
            self.network.give(self.node, 1, np.array(sizes, np.int64), f"{self.node.output[0]}.sizes")


def finite(known: Mask, numbers: Numbers) -> Constants:
    """Constants, but for those that are not finite: NaN and infinity are left to the runtime."""
    fine = known & np.isfinite(numbers)
    return Constants(fine, np.where(fine, numbers, 0.0))


def alike(network: Network, node: NodeProto, *sources: str) -> list[Link] | None:
    """Links of values with the same channels; None where their numbers of channels differ or are not known."""
    target = node.output[0]
    channels = network.channels(target)
    if channels is None or any(network.channels(source) != channels for source in sources):
        return None
    every = np.arange(channels)
    return [Link(source, target, every, every) for source in sources]


def positions(network: Network, name: str) -> int | None:
    """The number of positions of a value with channels, 1 where it has no axes for them; None where not known."""
    sizes = network.shapes[name][2:]
    return None if None in sizes else prod(size or 0 for size in sizes)


def _zero(side: Constants) -> Mask:
    zero: Mask = side.known & (side.numbers == 0)
    return zero
