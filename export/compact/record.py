"""What a compaction removed, layer by layer, and what it had to leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BORDER = "constant, but read next to zero padding, where it is not"
JOINED = "joined to channels that are needed, by a sum, a product or a group, or read by what is left alone"
LAST = "a value keeps one channel"
"""Why a channel stays although it is dead or constant."""


@dataclass(frozen=True)
class CompactedLayer:
    """A convolution or linear layer before and after."""

    name: str
    channels_before: int
    """Outputs."""
    channels_after: int
    """0 where the layer is gone: all it gave was constant."""
    inputs_before: int
    inputs_after: int
    """Of a layer with groups, those of one group."""
    weights_before: int
    weights_after: int
    nonzero_before: int
    nonzero_after: int
    left: Mapping[str, int]
    """How many outputs that are dead or constant had to stay, by the reason."""


@dataclass(frozen=True)
class Compaction:
    """One compaction: the file it wrote, and what is gone."""

    path: Path
    sha256: str
    layers: tuple[CompactedLayer, ...]
    max_rel_error: float | None
    """Largest difference of the two files' outputs on random images, over the largest output; None: not compared."""
    not_compared: str | None
    """Why not."""

    @property
    def removed(self) -> dict[str, int]:
        """Channels, weights, and non-zero weights that are gone, in all layers together."""
        return {
            what: sum(getattr(layer, f"{what}_before") - getattr(layer, f"{what}_after") for layer in self.layers)
            for what in ("channels", "weights", "nonzero")
        }

    def to_json(self) -> dict[str, Any]:
        """For a manifest; the file itself is described there."""
        return {
            "removed": self.removed,
            "max_rel_error": self.max_rel_error,
            "not_compared": self.not_compared,
            "layers": [asdict(layer) for layer in self.layers],
        }

    def summary(self) -> list[str]:
        """What there is to tell, a line each: the whole, then every layer that became smaller or could not."""
        removed, weights = self.removed, sum(layer.weights_before for layer in self.layers)
        share = 100 * removed["weights"] / weights if weights else 0.0
        whole = (
            f"{removed['channels']} channels and {removed['weights']} of {weights} weights ({share:.1f} %) removed, "
            f"{removed['nonzero']} of them not zero"
        )
        lines = [whole if any(removed.values()) else "no channel could be removed"]
        return lines + [_line(layer) for layer in self.layers if _told(layer)]


def _told(layer: CompactedLayer) -> bool:
    return layer.weights_before != layer.weights_after or bool(layer.left)


def _line(layer: CompactedLayer) -> str:
    if not layer.channels_after:
        return f"{layer.name}: gone, all it gave was constant"
    line = (
        f"{layer.name}: {layer.channels_before} to {layer.channels_after} outputs, "
        f"{layer.inputs_before} to {layer.inputs_after} inputs"
    )
    return "; ".join([line, *(f"{count} left: {reason}" for reason, count in layer.left.items())])
