"""The prints of `tests/captured/boards` (see SOURCES.md there), made-up trees, programs that answer from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from runtimes.readings import Reading

CAPTURED = Path(__file__).resolve().parents[2] / "captured" / "boards"


def printed(name: str) -> str:
    """A print."""
    return (CAPTURED / name).read_text(encoding="utf-8")


def tree(root: Path, files: Mapping[str, str | int]) -> Path:
    """Files in `root`: path -> content."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{content}\n" if isinstance(content, int) else content)
    return root


class Programs:
    """Runs no program: answers from a table, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers = dict(answers)
        self.asked: list[str] = []

    def __call__(self, command: Sequence[str]) -> Reading:
        self.asked.append(" ".join(command))
        answer = self.answers.get(self.asked[-1])
        return Reading(answer) if answer is not None else Reading(None, f"{command[0]} is not on PATH")


NOTHING = Programs({})
