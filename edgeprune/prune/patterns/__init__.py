"""Patterns: which weights of a layer may be zero together, and hence what hardware can make of it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from edgeprune.layers import Layer


class Pattern(Protocol):
    """A rule for the shape of a layer's mask."""

    @property
    def name(self) -> str:
        """The name in the table, in recipes, manifests and reports."""
        ...

    def refuses(self, layer: Layer) -> str | None:
        """Why the pattern cannot apply to this layer, or None when it can."""
        ...

    def keep(self, scores: Tensor, count: int) -> Tensor:
        """Boolean mask of the scores' shape, True keeps: `count` weights where the pattern leaves that choice.

        Ties go to the weight that comes first in memory, so that counts are exact and repeatable.
        """
        ...
