"""What a side-by-side benchmark is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.files import told
from runtimes.readings import parse_cpu_list
from runtimes.records import PROTOCOLS, Workload
from runtimes.tables import pick, resolve

OURS = "sparse_cpu"
REFERENCE = "ort"
"""The runtime that the others are compared with: ONNX Runtime, whose dense network is the 1 of every speed-up."""

PEERS = (OURS, REFERENCE, "openvino", "deepsparse")
"""The runtimes of a benchmark that names none: those that can run here."""

PATTERNS = ("all", "pointwise")
"""Which layers are masked: all but stem, classifier and depthwise convolutions; or of these the 1 x 1 convolutions."""


@dataclass(frozen=True)
class Asked:
    """One benchmark: a network, how sparse, on which runtimes, and how it is timed."""

    network: str  # a name that `edgeprune.models` builds, or an ONNX file
    sparsities: tuple[float, ...] = ()  # shares of zeros beside 0, which is always measured; none of a file
    runtimes: tuple[str, ...] = ()  # (): all of `PEERS` that can run here
    pythons: Mapping[str, str] = field(default_factory=dict)  # runtime -> the interpreter that has its library
    workload: Workload = field(default_factory=Workload)
    pattern: str = "all"  # one of `PATTERNS`
    image_size: int | None = None  # side of the images in pixels; None: the network's usual
    seed: int = 0  # of weights, masks and images
    alone: bool = False  # whether the reference is timed alone too
    layers: bool = False  # whether each layer of ours is held against its roofline

    def __post_init__(self) -> None:
        pick(dict.fromkeys(PATTERNS), self.pattern, "pattern")
        for sparsity in self.sparsities:
            if not 0 <= sparsity < 1:
                raise UserError(f"the sparsity {sparsity:g} is not from 0 to below 1", "0.95 means 95 % zeros")
        self._check_runtimes()

    def _check_runtimes(self) -> None:
        for name in (*self.runtimes, *self.pythons):
            if hasattr(resolve(pick(RUNTIMES, name, "runtime")), "compile"):
                raise UserError(
                    f"the runtime '{name}' builds engines of its own, and this table has none",
                    "measure it in a run: edgeprune measure RUN --runtime " + name,
                )
        unused = [name for name in self.pythons if name not in self.wanted]
        if unused:
            raise UserError(
                f"--python names an interpreter for {unused[0]}, which is not measured",
                f"add --runtime {unused[0]}, or leave out --python {unused[0]}=...",
            )

    @property
    def wanted(self) -> tuple[str, ...]:
        """The runtimes in the order of the table, the reference among them."""
        named = self.runtimes or tuple(name for name in PEERS if name in RUNTIMES)
        return tuple(dict.fromkeys((*named, REFERENCE)))

    @property
    def named(self) -> frozenset[str]:
        """The runtimes that have to run: the others are left out where they cannot."""
        return frozenset((*self.runtimes, *self.pythons, REFERENCE))

    @property
    def is_file(self) -> bool:
        """Whether `network` is an ONNX file and no name."""
        return self.network.lower().endswith(".onnx")


def pythons_of(words: Sequence[str]) -> dict[str, str]:
    """`RUNTIME=PATH` of each word."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not (name and equals and path):
            raise UserError(f"--python {word} does not say whose it is", "write RUNTIME=PATH: deepsparse=ds/bin/python")
        found[name] = path
    return found


def cpus_of(text: str | None) -> list[int]:
    """The processors of a list such as `0-3,6`; none where nothing is said."""
    try:
        found = [] if text is None else parse_cpu_list(text) or []
    except ValueError:
        found = []
    if text is not None and not found:
        raise UserError(f"--cpus {text} is no list of processors", "for example: --cpus 0-3,6")
    return found


def check_out(path: Path | None) -> None:
    """See that a file can be written at `path` before minutes are spent; what stands there stays as it is.

    :raises UserError: it is a folder, or its folder cannot be made or written.
    """
    if path is None:
        return
    if path.is_dir():
        raise UserError(f"{path} is a folder", "give --out the name of a file")
    with told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass


def workload_of(
    protocol: str | None,
    counts: Mapping[str, int | None],
    threads: int,
    batch: int,
    cpus: Sequence[int],
    kernels: str | None,
) -> Workload:
    """How it is timed: a protocol's durations and `counts` (`passes`, `rounds` of each), its own where None is stated.

    A protocol's accuracy pass is for images with labels; here a few answers are compared, a batch at a time.
    """
    name = pick({name: name for name in PROTOCOLS}, protocol or "quick", "protocol")
    stated: dict[str, Any] = {"protocol": name, "threads": threads, "batch": batch, "accuracy_batch": batch}
    stated |= {name: count for name, count in counts.items() if count is not None}
    options = {"kernels": kernels} if kernels else {}
    return Workload.from_json({**stated, "cpus": list(cpus), "options": options, "builds": 1})
