"""What a runtime is: a module with `load`, `missing` and `version`, named by one line in `runtimes.RUNTIMES`."""

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Protocol

import numpy as np


class Engine(Protocol):
    """A network ready to answer. Everything that can be done once is done before `run` is called."""

    engine_bytes: Optional[int]  # held by the weights and the plan; None where the runtime does not say
    context_bytes: Optional[int]  # held by the activations and the workspace; None where the runtime does not say
    gpu_ns: Optional[List[int]]  # time of each run on the GPU's own clock; who reads it empties it; None without a GPU
    receipt: Optional[Mapping[str, Any]]  # which layers run sparse, see `runtimes.trt_receipt`; None: does not apply

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W), contiguous.

        No classes, shape (..., 0), says that this runtime answers nothing and is not to be scored.
        """

    def close(self) -> None:
        """Give back what the engine holds; it is not used afterwards."""


class OnGpu(Protocol):
    """What an engine has beside the above when the host hands its work over to a GPU."""

    enqueue_ns: List[int]  # host time to hand over each run; who reads it empties it
    launch: Mapping[str, str]  # how that is done: cuda_graph ("used" or why not), host_wait ("spin" or why not)


class Runtime(Protocol):
    """The functions of a runtime's module. Its library is imported inside them, never when the module is imported.

    A module that reads files of some precisions only names these in `PRECISIONS`.
    """

    def load(self, path: Path, options: Mapping[str, str]) -> Engine:
        """An engine from the file at `path`; a file it cannot use is a `UserError`.

        `options` holds `threads`, and whatever the workload's options say.
        """

    def missing(self) -> Optional[str]:
        """None where the runtime can be used; else one line: why not, and the exact command that installs it."""

    def version(self) -> str:
        """The version of the runtime's library; it is only asked where nothing is missing."""


class Prepared(Protocol):
    """What the module of a runtime has beside the above where an option or the network's folder may bring its library.

    A worker calls it before it loads, in place of `missing` and `version`.
    """

    def prepare(self, path: Path, options: Mapping[str, str]) -> str:
        """The version of the library that `load` takes for this file with these options.

        No such library is a `UserError`, and so is a file that `load` would refuse, as far as a look at it tells.
        """


class Stated(Protocol):
    """What the module of a runtime has beside the above where variables of the environment stand for options."""

    def stated(self, options: Mapping[str, str]) -> Dict[str, str]:
        """The options with those that the environment states in addition: a measurement's workload tells them."""


class Compiler(Protocol):
    """What the module of a runtime has beside the above when it compiles a network once, before it is loaded."""

    def compile(self, path: Path, folder: Path, options: Mapping[str, str], beat: Callable[[], None]) -> Path:
        """The engine of the network at `path`, a file in `folder`, which is what `load` then gets.

        The one that is there is taken if it was made from this file, by this version, on this machine, with these
        options. `options["build"]` is a number, and `load` gets the same: engines of different numbers are built apart,
        none from the timings of another. `beat` is called now and then, so that a long build is seen to be alive.
        """
