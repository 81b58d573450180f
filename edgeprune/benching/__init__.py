"""`edgeprune bench`: one network on several runtimes side by side, in turns, one engine a process."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeprune.benching.asked import OURS, PEERS, REFERENCE, Asked
from edgeprune.benching.contest import entrants_of, hold, steps_of
from edgeprune.benching.denormals import treatment, write_probe
from edgeprune.benching.entrants import Entrant, Images, missing, program_of
from edgeprune.benching.judging import standings
from edgeprune.benching.rows import alone, floor_of, rows
from edgeprune.benching.settings import settings, without_folder, without_folders
from edgeprune.benching.subjects import Subject, subjects, write_images
from edgeprune.progress import Progress
from runtimes import sampler
from runtimes.errors import UserError

SCHEMA_VERSION = 2
_FACTS = (
    *("os", "kernel", "machine", "board", "cpu_model", "cores", "affinity", "governor", "memory_total_bytes"),
    *("python", "numpy", "clocks_mhz", "load_average", "temperature_mc", "throttling", "power_mode", "stand_in"),
)


def bench(asked: Asked, progress: Progress) -> dict[str, Any]:
    """Measure what is asked for; the document that `--json` prints.

    :raises UserError: a runtime that was named and cannot run here, a network that cannot be made or loaded, too little
        memory, or a process that died or hung.
    """
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    before = sampler.changing()
    with (
        tempfile.TemporaryDirectory(prefix="edgeprune-bench-") as name,
        progress.step(asked.network, 1, 1) as step,
        _one_library(asked) as lacking,
    ):
        folder, done = Path(name), 0
        step.tick(0, 1, "writing the networks")
        found = subjects(asked, folder)
        images = Images(*write_images(found[0], asked, folder))
        absent = {**lacking, **_prepare_ours(asked, lacking, found, folder)}
        absent = {**_absent(asked, absent, found, images, folder), **absent}
        runtimes = [runtime for runtime in asked.wanted if runtime not in absent]
        kept = _denormals(asked, runtimes, folder)
        entrants = entrants_of(runtimes, found)
        by_itself = Entrant(REFERENCE, found[0], is_twin=True) if asked.alone else None
        total = steps_of(entrants, asked)

        def say(told: str) -> None:
            nonlocal done
            done += 1
            step.tick(done, total, told)

        hold(entrants, by_itself, asked, images, folder, say)
        document = _document(asked, entrants, by_itself, started_at)
        told = {"settings": settings(asked, found, runtimes), "layers": _layers(asked, found, runtimes, folder)}
    return {**document, **told, "machine": _machine(before, entrants), "absent": absent, "denormals": kept}


def disagreements(document: dict[str, Any]) -> list[str]:
    """A line for each row whose answers are not the reference's."""
    return [
        f"{row['runtime']} at {100 * row['sparsity']:g} % zeros does not answer what {REFERENCE} does: "
        + (f"off by {row['agreement']['difference']:.2g}" if row["agreement"]["difference"] else "not finite")
        for row in document["rows"]
        if row["agreement"]["agrees"] is False
    ]


def _machine(before: dict[str, Any], entrants: Sequence[Entrant]) -> dict[str, Any]:
    """What a reader has to know of it, each unknown with its reason; `before` are its changing facts at the begin."""
    facts = sampler.facts(before)
    return {
        **{name: facts[name] for name in _FACTS},
        "reasons": {name: why for name, why in facts["reasons"].items() if name in _FACTS},
        "runtimes": {entrant.runtime: entrant.version for entrant in entrants},
    }


@contextlib.contextmanager
def _one_library(asked: Asked) -> Iterator[dict[str, str]]:
    """Our runtime's library, compiled where the cache has none, and the same build for all processes of the session.

    Without a compiler, or where another is named already, nothing happens: the runtime itself says what it lacks. What
    is yielded is why our runtime is left out, where its library cannot be built and nobody named it.
    """
    from export.native import TRIPLES, build_library, lacks_compiler
    from runtimes.sparse_cpu.library import PATH_VARIABLE, triple

    if OURS not in asked.wanted or PATH_VARIABLE in os.environ or triple() not in TRIPLES or lacks_compiler():
        yield {}
        return
    lacking: dict[str, str] = {}
    try:
        os.environ[PATH_VARIABLE] = str(build_library(triple()))
    except UserError as error:
        if OURS in asked.named:
            raise
        lacking = {OURS: _reason(error)}
    try:
        yield lacking
    finally:
        os.environ.pop(PATH_VARIABLE, None)


def _prepare_ours(asked: Asked, lacking: Mapping[str, str], found: Sequence[Subject], folder: Path) -> dict[str, str]:
    """The programs that our runtime reads; the reason where it cannot run one of them and nobody named it."""
    if OURS not in asked.wanted or OURS in lacking:
        return {}
    try:
        _write_programs(found, folder)
    except UserError as error:
        if OURS in asked.named:
            raise
        return {OURS: _reason(error)}
    return {}


def _write_programs(found: Sequence[Subject], folder: Path) -> None:
    """Into `folder`, also those of a person's own file, beside which an export's may lie."""
    from export.program import to_program

    for subject in found:
        to_program(subject.path, folder)


def _absent(
    asked: Asked, known: Mapping[str, str], found: Sequence[Subject], images: Images, folder: Path
) -> dict[str, str]:
    """The runtimes that nobody named and that cannot run here, each with the reason; one that was named is an error."""
    unknown = [runtime for runtime in asked.wanted if runtime not in known]
    absent = missing(unknown, found, asked, images, folder)
    for runtime, error in absent.items():
        if runtime in asked.named:
            raise error
    return {runtime: _reason(error) for runtime, error in absent.items()}


def _reason(error: UserError) -> str:
    return without_folders(f"{error.message}: {error.hint}")


def _denormals(asked: Asked, runtimes: Sequence[str], folder: Path) -> dict[str, str | None]:
    """In a folder of its own: a person's file may have the probe's name."""
    place = folder / "probe"
    place.mkdir()
    probe = write_probe(place)
    if OURS in runtimes:
        _write_programs([probe[0]], place)
    return {runtime: treatment(runtime, asked, place, probe) for runtime in runtimes}


def _layers(asked: Asked, found: Sequence[Subject], runtimes: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    if not asked.layers or OURS not in runtimes:
        return []
    from edgeprune.benching.layers import layers

    return [{"sparsity": subject.sparsity, **layers(program_of(subject, folder), asked.workload)} for subject in found]


def _document(asked: Asked, entrants: Sequence[Entrant], by_itself: Entrant | None, started_at: str) -> dict[str, Any]:
    floor, table = floor_of(entrants), rows(entrants, asked.workload.threads)
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "edgeprune.bench",
        "started_at": started_at,
        "argv": ["edgeprune", *map(without_folder, sys.argv[1:])],
        "rows": table,
        "fastest": standings(table, floor.value),
        "noise_floor": {"value": floor.value, "reason": floor.reason},
        "alone": alone(entrants, by_itself, floor) if by_itself else None,
    }


__all__ = ["OURS", "PEERS", "Asked", "bench", "disagreements"]
