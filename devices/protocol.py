"""What a device is: a machine with a Python, and four doors to it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol


class Finished(NamedTuple):
    """How a command ended, and what it wrote."""

    code: int
    stdout: str
    stderr: str


class Device(Protocol):
    """A machine that measures bundles. Places on it are strings: its file system is not ours."""

    name: str  # as measurements and reports have it
    python: str  # the interpreter there

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        """Run `command` in the folder `place`; `on_line` gets each line of its standard error as it comes.

        However this returns or raises, the command no longer runs.
        """

    def push(self, folder: Path) -> str:
        """Bring a folder there; where it lies then."""

    def pull(self, place: str, names: Sequence[str], folder: Path) -> None:
        """Bring the files `names` of the folder `place` there into `folder` here, each whole or not at all."""

    def probe(self) -> dict[str, Any]:
        """What the machine is: `facts` (see `runtimes.sampler`), and for each runtime its version or what it lacks."""

    def by_hand(self, command: Sequence[str], place: str) -> str:
        """The one line that a person types here to run `command` there."""
