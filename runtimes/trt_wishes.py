"""What is asked of TensorRT's builder, read from a workload's options."""

from typing import Any, Dict, Mapping, NamedTuple, Optional

from runtimes.errors import UserError
from runtimes.records import PRECISIONS
from runtimes.tables import pick

LARGEST_WORKSPACE_MB = 1024  # where none is asked for
OPTIONS = ("batch", "build", "cuda_graph", "precision", "sparsity", "threads", "workspace_mb")
# A call hands its options to each of its runtimes. Those of the others are passed over; a name of nobody is a slip.
OF_OTHERS = ("busy_us",)


class Wishes(NamedTuple):
    """What is asked of the builder. Two engines with equal wishes from the same file are the same engine."""

    batch: Optional[int] = 1  # images in one inference, neither more nor fewer; None: the file's own, or one
    precision: Optional[str] = None  # None: as the file has it
    sparsity: bool = True  # may use sparse kernels
    workspace_mb: Optional[int] = None  # None: as `workspace_mb` has it; what that gave is no part of the wish
    build: int = 0  # its number where several engines are asked for that differ in nothing else

    def to_json(self) -> Dict[str, Any]:
        """All fields."""
        return dict(self._asdict())


def read_wishes(options: Mapping[str, str]) -> Wishes:
    """The wishes in a workload's options.

    Raises:
        UserError: a value out of range, also of `cuda_graph`, or a name that no runtime has.
    """
    for name in options:
        pick(dict.fromkeys(OPTIONS + OF_OTHERS), name, "option")
    precision = options.get("precision")
    if precision is not None and precision not in PRECISIONS:
        raise UserError("the option precision is '{}'".format(precision), "known: " + ", ".join(PRECISIONS))
    wants_graph(options)
    workspace = _whole(options, "workspace_mb") if "workspace_mb" in options else None
    sparsity, build = _switch(options, "sparsity", "1"), _whole(options, "build", 0)
    return Wishes(_whole(options, "batch"), precision, sparsity, workspace, build)


def wants_graph(options: Mapping[str, str]) -> bool:
    """Whether the network is to be launched as a CUDA graph; not where nothing is said."""
    return _switch(options, "cuda_graph", "0")


def workspace_mb(wishes: Wishes, available_mb: Optional[int]) -> int:
    """MiB that a kernel may use while it runs: as wished, else a quarter of what the machine has left, at most 1024."""
    if wishes.workspace_mb is not None:
        return wishes.workspace_mb
    return LARGEST_WORKSPACE_MB if available_mb is None else max(1, min(LARGEST_WORKSPACE_MB, available_mb // 4))


def _switch(options: Mapping[str, str], name: str, default: str) -> bool:
    text = options.get(name, default)
    if text not in ("0", "1"):
        raise UserError("the option {} is '{}'".format(name, text), "it is 1 (on) or 0 (off)")
    return text == "1"


def _whole(options: Mapping[str, str], name: str, least: int = 1) -> int:
    text = options.get(name, str(least))
    if not text.isdigit() or int(text) < least:
        raise UserError(
            "the option {} is '{}'".format(name, text), "a whole number of at least {} is expected".format(least)
        )
    return int(text)
