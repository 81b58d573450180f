"""One engine of a benchmark over all its processes, and how such a process is started and watched."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from edgeprune.benching.asked import OURS, Asked
from edgeprune.benching.subjects import Subject, preprocess
from runtimes.engine_process import EngineProcess
from runtimes.errors import UserError
from runtimes.onnx_input import onnx_input

_MIB = float(1 << 20)
_BRIEFLY_S = 0.01
_AFTER_ARGV0 = 11  # /proc/PID/stat: utime is field 14, and the fields here are counted from the third on


class Images(NamedTuple):
    """The images of a benchmark: where they lie, and how many."""

    path: Path
    n: int


@dataclass
class Entrant:
    """One network on one runtime. `rounds` are nanoseconds: a list for each pass, in it one for each round."""

    runtime: str
    subject: Subject
    is_twin: bool = False
    version: str = ""
    loaded: list[Mapping[str, Any]] = field(default_factory=list)  # what each pass's process said of its load
    rounds: list[list[list[int]]] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)  # the most memory each process held, after its last round
    idle_cpu: float | None = None  # processors it kept busy while it was blocked
    other_cores: list[float] = field(default_factory=list)  # processors that anybody else kept busy, in each round
    answers: Path | None = None  # .npy of float32 (images, classes)

    @property
    def medians(self) -> list[list[float]]:
        """For each pass the medians of its rounds, in milliseconds."""
        import numpy as np

        return [[float(np.median(samples)) / 1e6 for samples in one] for one in self.rounds]

    @property
    def samples(self) -> list[list[int]]:
        """The nanoseconds of every round of every pass, in order."""
        return [samples for one in self.rounds for samples in one]

    @property
    def kernels(self) -> str | None:
        """The instruction set that its kernels are written for; None of a runtime that does not say."""
        receipt = self.loaded[-1].get("receipt") if self.loaded else None
        return receipt.get("kernels") if receipt else None

    @property
    def peak_mb(self) -> float | None:
        """MiB, of the process that took most; None where the system does not say."""
        return max(self.peak_bytes) / _MIB if self.peak_bytes else None


def job_of(runtime: str, subject: Subject, asked: Asked, images: Images, folder: Path) -> dict[str, Any]:
    """What `runtimes.worker` is asked to do; our runtime reads the program in `folder`."""
    shape = onnx_input(subject.path).shape
    return {
        "runtime": runtime,
        "file": str(program_of(subject, folder) if runtime == OURS else subject.path),
        "precision": "fp32",
        "engines": str(folder / "engines"),
        "build": 0,
        "images": [str(images.path)],
        "preprocess": preprocess(int(shape[1] or 0)),
        "workload": asked.workload.to_json(),
    }


def program_of(subject: Subject, folder: Path) -> Path:
    """Where the program of a network lies: never beside a person's own file."""
    return folder / f"{subject.path.stem}.program.json"


def process_of(runtime: str, subject: Subject, asked: Asked, job: Mapping[str, Any], *, twin: bool) -> EngineProcess:
    """A worker of the interpreter that has the runtime's library."""
    name = f"{subject.network} at {100 * subject.sparsity:.3g} % zeros"
    return EngineProcess(name, runtime, job, twin=twin, python=interpreter(asked.pythons.get(runtime)))


def interpreter(python: str | None) -> str | None:
    """The path of an interpreter that a person named; one that is not there is a `UserError`."""
    if python is None:
        return None
    found = shutil.which(Path(python).expanduser())
    if found is None:
        raise UserError(f"there is no program {python}", "give --python the path of an interpreter")
    return str(Path.cwd() / found)  # not resolved: an environment's interpreter is a link


@contextlib.contextmanager
def started(
    entrants: Sequence[Entrant], asked: Asked, images: Images, folder: Path
) -> Iterator[list[tuple[Entrant, EngineProcess]]]:
    """A fresh process for each, all of them started before any is waited for; nothing is loaded yet."""
    with contextlib.ExitStack() as stack:
        running = []
        for entrant in entrants:
            job = job_of(entrant.runtime, entrant.subject, asked, images, folder)
            process = process_of(entrant.runtime, entrant.subject, asked, job, twin=entrant.is_twin)
            running.append((entrant, stack.enter_context(process)))
        for entrant, process in running:
            entrant.version = str(process.answer("start")["runtime_version"])
        yield running


def missing(
    runtimes: Sequence[str], found: Sequence[Subject], asked: Asked, images: Images, folder: Path
) -> dict[str, UserError]:
    """Which of the runtimes cannot run here, by their own interpreters' words.

    One that nobody named has to load every network too, since it is left out where it cannot; one that is named only
    has to start, since what it cannot load is an error that the benchmark itself raises.
    """
    absent = {}
    for runtime in runtimes:
        try:
            if runtime in asked.named:
                _try(runtime, found[0], asked, images, folder, loads=False)
            else:
                for subject in found:
                    _try(runtime, subject, asked, images, folder, loads=True)
        except UserError as error:
            absent[runtime] = error
    return absent


def _try(runtime: str, subject: Subject, asked: Asked, images: Images, folder: Path, *, loads: bool) -> None:
    """Start a worker, and have it load the network almost without a warm-up."""
    brief = dataclasses.replace(asked, workload=asked.workload.changed(warmup_s=_BRIEFLY_S))
    job = job_of(runtime, subject, brief, images, folder)
    with process_of(runtime, subject, brief, job, twin=False) as process:
        process.answer("start")
        if loads:
            process.ask("load")


def cpu_seconds(pid: int) -> float | None:
    """Processor time that all threads of a process have used; None where /proc does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return (int(fields[_AFTER_ARGV0]) + int(fields[_AFTER_ARGV0 + 1])) / os.sysconf("SC_CLK_TCK")
