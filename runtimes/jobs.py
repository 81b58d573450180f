"""What a worker is asked to measure, and the engines that are compiled for it before anything is."""

import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Sequence

from runtimes import RUNTIMES
from runtimes.bundle import Bundle, Network
from runtimes.engine_process import EngineProcess, LostError
from runtimes.errors import UserError
from runtimes.records import Workload
from runtimes.tables import resolve

ENGINES = "engines"  # folder in the bundle for what a runtime compiles


class Job(NamedTuple):
    """One network on one runtime, with one engine of it."""

    network: Network
    runtime: str
    content: Dict[str, Any]  # for the worker, as described in `runtimes.worker`
    engine: Any = None  # the sidecar of a compiled engine


def new_job(bundle: Bundle, runtime: str, network: Network, workload: Workload) -> Job:
    """The job as it is before anything is compiled: its file is the network's."""
    content = {
        "runtime": runtime,
        "file": str(bundle.root / network.file),
        "precision": network.precision,
        "engines": str(bundle.root / ENGINES),
        "build": 0,
        "images": [str(path) for path in bundle.image_files],
        "preprocess": dict(bundle.preprocess),
        "workload": workload.to_json(),
    }
    return Job(network, runtime, content)


def takes(runtime: str, network: Network) -> bool:
    """Whether files of the network's precision are for this runtime: sparse_cpu has programs in fp32 only."""
    return network.precision in getattr(resolve(RUNTIMES[runtime]), "PRECISIONS", (network.precision,))


def compiles(job: Job) -> bool:
    """Whether its runtime makes an engine file first; its library is not imported here."""
    return hasattr(resolve(RUNTIMES[job.runtime]), "compile")


def builds(job: Job, workload: Workload) -> int:
    """How many engines are built of it: none where the runtime does not compile, and no more than there are passes."""
    return min(workload.builds, workload.passes) if compiles(job) else 0


def compiled(jobs: Sequence[Job], workload: Workload, step: Callable[[str], None]) -> List[List[Job]]:
    """The same jobs, each as often as it has builds, with the file that its worker has to load.

    A builder times its candidates and needs the memory, so it is alone: one process after the other, which ends before
    the next starts. What a builder leaves behind in its process is no part of the engine, so no engine is measured
    there. All networks are built once before any is built again.

    Args:
        step: called with a few words after each engine.

    Raises:
        UserError: a runtime that is missing, before any engine is built; or what `EngineProcess.ask` raises.
    """
    if any(map(compiles, jobs)):
        others = {job.runtime: job for job in jobs if not compiles(job)}
        for job in others.values():
            with EngineProcess(job.network.name, job.runtime, job.content) as process:
                process.answer("start")
    found: List[List[Job]] = [[] if compiles(job) else [job] for job in jobs]
    for number in range(workload.builds):
        for job, variants in zip(jobs, found):
            if number < builds(job, workload):
                numbered = job._replace(content={**job.content, "build": number})
                variants.append(_with_engine(numbered, step))
    return found


def _with_engine(job: Job, step: Callable[[str], None]) -> Job:
    with EngineProcess(job.network.name, job.runtime, job.content) as process:
        process.answer("start")
        begin = time.time()
        try:
            made = process.ask("compile")
        except LostError as error:
            raise UserError(error.message, error.hint + _log_since(begin, Path(job.content["engines"]))) from error
        step("{} compile {}".format(process.name, job.content["build"] + 1))
    return job._replace(content={**job.content, "file": made["file"]}, engine=made["engine"])


def _log_since(begin: float, engines: Path) -> str:
    """Where the builder's own words are, which it writes line by line until it dies."""
    logs = [path for path in engines.glob("*.log") if path.stat().st_mtime >= begin - 1.0]  # clocks of disks are coarse
    return "; what it said before is in {}".format(max(logs, key=lambda path: path.stat().st_mtime)) if logs else ""
