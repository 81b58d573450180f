"""The user's own network: `package.module:factory`, found from the current folder or among what is installed."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from edgeprune.reason import reason
from runtimes.errors import UserError

_HINT = "a model of your own is package.module:factory; factory(num_classes=...) or factory() returns a torch module"


def build_user_model(address: str, classes: int) -> nn.Module:
    """Call the factory, with `num_classes` if it takes that; whatever goes wrong is a `UserError` saying what."""
    with _importing_from_here():
        factory = _find(address)
        arguments = {"num_classes": classes} if _takes(factory, "num_classes") else {}
        try:
            network = factory(**arguments)
        except Exception as error:  # the user's code: any failure is theirs to see, in their words
            raise UserError(f"{address} failed: {type(error).__name__}: {reason(error)}", _HINT) from error
    if not isinstance(network, nn.Module):
        raise UserError(f"{address} returned a {type(network).__name__}, not a torch.nn.Module", _HINT)
    return network


@contextmanager
def _importing_from_here() -> Iterator[None]:
    """The current folder is first on the path, and later it is not: a file there could shadow any later import.

    A factory may import as well, so it is called within.
    """
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def _find(address: str) -> Callable[..., Any]:
    module_name, _, attribute = address.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # not found, or the user's code fails while it is imported
        raise UserError(f"cannot import '{module_name}': {type(error).__name__}: {reason(error)}", _HINT) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        offered = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise UserError(f"'{module_name}' has no factory '{attribute}'; it has: {', '.join(offered[:20])}", _HINT)
    return factory  # type: ignore[no-any-return]


def _takes(factory: Callable[..., Any], argument: str) -> bool:
    try:
        inspect.signature(factory).bind_partial(**{argument: None})
    except (TypeError, ValueError):
        return False
    return True
