"""Weights in files. Read without running anything that is in them; written so that equal weights make equal bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from edgeprune.reason import reason
from runtimes.errors import UserError
from runtimes.files import write_bytes

State = dict[str, Tensor]
_WRAPPERS = ("state_dict", "model")
_METADATA_KEY = "edgeprune"


def find_checkpoint(name: str, folders: Sequence[Path]) -> Path:
    """The file `name`: absolute, or from the current folder, or in one of `folders` or a folder directly in it."""
    given = Path(name).expanduser()
    places = [Path.cwd(), *folders]
    found = [given] if given.is_absolute() else [place / given for place in places]
    found += [] if given.is_absolute() else [path for folder in folders for path in sorted(folder.glob(f"*/{given}"))]
    for path in found:
        if path.is_file():
            return path
    looked = str(given.parent) if given.is_absolute() else ", ".join(str(place) for place in places)
    raise UserError(f"there is no checkpoint '{name}'; looked in {looked}", "give --weights-dir the folder it lies in")


def load_checkpoint(model: nn.Module, path: Path, *, what: str) -> None:
    """Copy the weights in `path` into `model`, in place.

    The file is `.safetensors`, or a torch file read with `weights_only`: a state_dict, plain or under "state_dict" or
    "model", with or without `module.` before its keys. `what` names the network in messages. A file that is missing,
    damaged, of another architecture or for another number of classes is a `UserError`, and `model` stays as it was.
    """
    state = read_state(path)
    expected = model.state_dict()
    # Networks saved before torch 0.4.1 have no batch counters; nothing is computed from them.
    state |= {key: value for key, value in expected.items() if key.endswith("num_batches_tracked") and key not in state}
    _compare(expected, state, _head(model), path, what)
    broken = next((key for key, value in state.items() if not torch.isfinite(value).all()), None)
    if broken is not None:
        raise UserError(
            f"{path}: {broken} has values that are not finite", "the file is damaged or the training diverged"
        )
    model.load_state_dict(state)


def read_state(path: Path) -> State:
    """The tensors of a checkpoint, on the CPU, by name; see `load_checkpoint` for what is read and refused."""
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}", "check the name, or run the step that writes it")
    try:
        found = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except Exception as error:  # a damaged file makes the readers raise nearly anything
        raise UserError(
            f"cannot read the checkpoint {path}: {reason(error)}",
            "it is truncated, damaged, or holds more than plain tensors; get it again, or save its state_dict()",
        ) from error
    return _unwrapped(found, path)


def read_metadata(path: Path) -> dict[str, Any]:
    """What `save_state` was given as `metadata`; empty for a file of another origin."""
    with safe_open(path, "pt") as file:
        written: dict[str, Any] = json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    return written


def save_state(model_or_state: nn.Module | Mapping[str, Tensor], path: Path, metadata: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able `metadata` as safetensors, whole or not at all; equal content makes equal bytes.

    The metadata goes under one key, because safetensors writes several keys in an order that changes between runs.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Module) else model_or_state
    # Cloned, so that tied weights, which safetensors refuses, are written twice.
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    write_bytes(path, save(tensors, {_METADATA_KEY: json.dumps(dict(metadata), sort_keys=True)}))


def _load_torch(path: Path) -> object:
    loaded: object = torch.load(path, map_location="cpu", weights_only=True)
    return loaded


def _unwrapped(found: object, path: Path) -> State:
    state = found
    for key in _WRAPPERS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UserError(f"{path} holds no state_dict", "save the network's state_dict(), plain or under 'state_dict'")
    wrapped = all(str(key).startswith("module.") for key in state)
    return {str(key).removeprefix("module.") if wrapped else str(key): value for key, value in state.items()}


def _head(model: nn.Module) -> str:
    """The name of the last layer with weights: the one whose outputs are the classes."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1] if layers else ""


def _compare(expected: State, state: State, head: str, path: Path, what: str) -> None:
    """Raise unless both have the same names and shapes, telling other classes from another architecture."""
    hint = "choose the network this checkpoint was saved from, or another checkpoint"
    for key in expected:
        if key not in state:
            raise UserError(f"{path} is not of {what}: it lacks {key}", hint)
    for key in state:
        if key not in expected:
            raise UserError(f"{path} is not of {what}: it has {key}, which the network has not", hint)
    odd = [key for key in expected if expected[key].shape != state[key].shape]
    if odd and all(key.rpartition(".")[0] == head and _differ_in_rows(expected[key], state[key]) for key in odd):
        has, needs = len(state[odd[0]]), len(expected[odd[0]])
        raise UserError(
            f"{path} has {has} classes, {what} needs {needs}", "use a checkpoint trained on the same classes"
        )
    if odd:
        has_shape, needs_shape = tuple(state[odd[0]].shape), tuple(expected[odd[0]].shape)
        raise UserError(f"{path} is not of {what}: {odd[0]} is {has_shape}, not {needs_shape}", hint)


def _differ_in_rows(one: Tensor, other: Tensor) -> bool:
    return one.ndim == other.ndim and one.ndim > 0 and one.shape[1:] == other.shape[1:]
