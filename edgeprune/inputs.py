"""The user's own files behind a run: where they are found, and hashes that tell when they have been exchanged."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from edgeprune.recipe import Recipe
from runtimes.errors import UserError
from runtimes.files import sha256


def checkpoint(recipe: Recipe, name: str) -> Path:
    """The checkpoint file `name`: as a path, or in the recipe's or the environment's folder; `UserError` if missing."""
    from edgeprune.models.checkpoint import (
        find_checkpoint,
    )  # brings torch, which a run without checkpoints may not need

    folders = [Path(place) for place in (recipe.weights_dir, os.environ.get("EDGEPRUNE_WEIGHTS", "")) if place]
    return find_checkpoint(name, folders)


def hashes(recipe: Recipe) -> dict[str, str]:
    """Checkpoints, and the images where the user's folder is the data set, each with a hash, if they are there.

    A folder's hash is over the names and sizes of its files: what a person exchanges shows in them.
    """
    found: dict[str, str] = {}
    for role, network in (("teacher", recipe.teacher), ("student", recipe.student)):
        if network.checkpoint:
            try:
                found[f"{role}.checkpoint"] = sha256(checkpoint(recipe, network.checkpoint))
            except UserError:
                continue  # the step that needs it will say so; one that is done needs it no more
    place = Path(recipe.data.dir)
    if recipe.data.name in ("imagefolder", "npz") and recipe.data.dir and place.exists():
        found["data.dir"] = sha256(place) if place.is_file() else _of_listing(place)
    return found


def _of_listing(folder: Path) -> str:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = (f"{path.relative_to(folder)} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
