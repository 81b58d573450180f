"""Other people's exceptions in one line, for the messages of `UserError`."""

from __future__ import annotations


def reason(error: BaseException) -> str:
    """The first line of what `error` says, or its type where it says nothing."""
    said = str(error).strip()
    return said.splitlines()[0] if said else type(error).__name__
