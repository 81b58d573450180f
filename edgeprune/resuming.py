"""What an interrupted training goes on from: the states of all that learns in it, and where it stood, in one file."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from edgeprune.reason import reason
from runtimes.errors import UserError
from runtimes.files import write_bytes


class Stateful(Protocol):
    """A network, an optimiser, a lesson: its state is tensors and numbers, in dictionaries and lists."""

    def state_dict(self) -> Any:
        """All that it needs to go on."""
        ...

    def load_state_dict(self, state: Any) -> Any:
        """Go on from there."""
        ...


def save_progress(path: Path, parts: Mapping[str, Stateful], **told: Any) -> None:
    """Write the states of `parts`, and what is `told` beside them, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"told": told, **{name: part.state_dict() for name, part in parts.items()}}, buffer)
    write_bytes(path, buffer.getvalue())


def load_progress(path: Path, parts: Mapping[str, Stateful]) -> dict[str, Any]:
    """Give `parts` their saved states and return what was told: nothing where there is no file.

    A damaged file is a `UserError`.
    """
    if not path.is_file():
        return {}
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        return dict(saved["told"])
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise UserError(f"{path} is damaged: {reason(error):.120}", "delete it: the step then starts over") from error
