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

    name: str  # as measurements and reports have it; safe as a folder's name
    python: str  # the interpreter there

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        """Run `command` in the folder `place`; `on_line` gets each line of its standard error as it comes.

        However this returns or raises, the command no longer runs. Where the connection to it is lost, the device ends
        it by itself, and has done so within two minutes.
        """

    def push(self, folder: Path) -> str:
        """Bring a folder there; where it lies then.

        What a measurement leaves in it, `engines` and `results*`, is neither carried there nor removed there.
        """

    def pull(self, place: str, names: Sequence[str], folder: Path) -> None:
        """Bring the files `names` of the folder `place` there into `folder` here, in order, each whole or not at all.

        A name is a plain one: what is asked for lies in `place` itself.
        """

    def probe(self) -> dict[str, Any]:
        """What the machine is: `facts` (see `runtimes.sampler`), and for each runtime its version or what it lacks."""

    def by_hand(self, command: Sequence[str], place: str) -> str:
        """The one line that a person types here to run `command` there."""

    def close(self) -> None:
        """End the connection; from any thread, and more than once if need be.

        What `run`, `push` or `pull` is doing in another thread ends with a `UserError` there, the command first.
        """
