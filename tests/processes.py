"""The console script in processes of its own, forked from one that has torch: they can be killed and limited."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["edgeprune.cli", "edgeprune.workbench", "edgeprune.steps.export", "edgeprune.steps.measure", "torch._dynamo"]
)


@dataclass(frozen=True)
class Called:
    """A call of `edgeprune` that is at work, or was."""

    process: ForkServerProcess
    folder: Path

    def wait(self) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        self.process.join(120)
        assert self.process.exitcode is not None, "it hangs"
        said = [(self.folder / name).read_text() for name in ("stdout", "stderr")]
        return self.process.exitcode, said[0], said[1]

    def kill(self, after: float) -> bool:
        """SIGKILL `after` seconds from now; whether it was still at work then."""
        self.process.join(after)
        alive = self.process.is_alive()
        self.process.kill()
        self.process.join(120)
        return alive


def call(
    *arguments: object,
    says: Path,
    largest_file: int | None = None,
    environment: Mapping[str, str] | None = None,
    fork_workers: bool = False,
    own_session: bool = False,
) -> Called:
    """Start `edgeprune ARGUMENTS` from the current folder; what it says goes into files in the folder `says`.

    Bundles that it writes are measured briefly where they say `quick`: no test here looks at how precise a time is.
    `largest_file`: bytes a file may have, the nearest to a full disk that needs no disk.
    `fork_workers`: those of a study have torch at once, and are not processes from the beginning.
    `own_session`: it leads a process group, as what is typed in a terminal does.
    """
    says.mkdir(parents=True, exist_ok=True)
    words = [str(argument) for argument in arguments]
    before = [*([os.setsid] if own_session else []), *([_fork_workers] if fork_workers else []), _measure_briefly]
    process = _SERVER.Process(target=_main, args=(words, says, largest_file, dict(environment or {}), before))
    process.start()
    return Called(process, says)


def _main(
    words: list[str],
    says: Path,
    largest_file: int | None,
    environment: dict[str, str],
    before: list[Callable[[], object]],
) -> None:
    from edgeprune import cli

    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(says / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    os.environ.pop("EDGEPRUNE_SPARSE_CPU_KERNELS", None)  # it would become a part of the measurements' names
    os.environ.update(environment)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    for prepare in before:
        prepare()
    sys.argv = ["edgeprune", *words]
    cli.main()


def _measure_briefly() -> None:
    """In place of its twelve rounds of 0.15 s in two processes of each engine; in this process only."""
    from runtimes.records import PROTOCOLS

    PROTOCOLS["quick"] = PROTOCOLS["quick"].changed(warmup_s=0.02, passes=1, rounds=6, round_s=0.02, idle_s=0.1)


def _fork_workers() -> None:
    """In place of processes that import everything anew: here are neither threads nor a GPU that they would share."""
    from edgeprune.study import pool

    pool._SPAWN = multiprocessing.get_context("fork")
