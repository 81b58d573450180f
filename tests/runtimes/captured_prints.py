"""The prints of `tests/captured/trtexec`, see SOURCES.md there."""

from pathlib import Path

CAPTURED = Path(__file__).resolve().parent.parent / "captured" / "trtexec"


def captured(name: str) -> str:
    """The text of one print."""
    return (CAPTURED / name).read_text(encoding="utf-8")
