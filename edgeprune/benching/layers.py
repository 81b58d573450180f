"""The roofline: how fast each layer of our runtime is beside what loading its inputs allows.

A sparse convolution loads a vector of inputs for each non-zero and each vector of outputs, and multiplies and adds it
in the same cycle. So it does at most lanes times as many multiply-adds as this core loads aligned vectors from its
first cache, which `es_load_rate` measures. Lanes that hang over the image are loaded too, but do no multiply-adds of
the network: a layer whose image does not fill its vectors may reach its limit in time, not in multiply-adds a second.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runtimes.records import Workload
from runtimes.sparse_cpu.receipt import SKIPPING

_ROUNDS = 30  # of which each step's least time counts


def layers(path: Path, workload: Workload) -> dict[str, Any]:
    """The kernels' name, the limit, and each step of the program at `path`, on the workload's processors.

    `macs` are those that are done: of a sparse step those by a non-zero weight. `of_limit` is the time that its loads
    alone would take as a share of the time it takes, above 1 only where a kernel uses one load for several outputs;
    None where zeros are not skipped.
    """
    from runtimes import sparse_cpu

    options = {**workload.options, "threads": str(workload.threads)}
    with _kept_to(workload.cpus):
        engine = sparse_cpu.load(path, options)
        try:
            described, ns = engine.described, engine.profile(_ROUNDS)
        finally:
            engine.close()
        lanes = int(described["lanes"])
        rate = load_rate(lanes, options)
    rate_of_all = workload.threads * rate
    return {
        "kernels": described["kernels"],
        "lanes": lanes,
        "loads_per_second": rate,
        "limit_gmacs": rate_of_all * lanes / 1e9,
        "steps": [_step(step, took, rate_of_all / 1e9) for step, took in timed(described["steps"], ns)],
    }


def timed(steps: Sequence[Mapping[str, Any]], ns: Sequence[int]) -> Iterator[tuple[dict[str, Any], int]]:
    """The steps with their nanoseconds; one that is done within the next is added to it, as it is timed with it."""
    before: dict[str, Any] | None = None
    for step, took in zip(steps, ns, strict=True):
        whole = dict(step) if before is None else _both(before, step)
        before = whole if step["joins_next"] else None
        if before is None:
            yield whole, took


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """A sparse convolution and the depthwise one it is done within: the latter loads a vector for each weight too."""
    added = {
        key: first[key] + second[key] for key in ("macs", "nonzero_macs", "weights", "nonzeros", "vectors", "bytes")
    }
    return {**second, **added, "name": f"{first['name']} + {second['name']}", "kernel": first["kernel"]}


def load_rate(lanes: int, options: Mapping[str, str]) -> float:
    """Aligned vectors of so many floats that one core loads from its first cache in a second."""
    from runtimes.sparse_cpu import library

    return float(library.open_library(library.find(options)).es_load_rate(lanes))


@contextlib.contextmanager
def _kept_to(cpus: Sequence[int]) -> Iterator[None]:
    """This thread, and those that it starts meanwhile, on these processors only; on all where none is named."""
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _step(step: Mapping[str, Any], ns: int, vectors_per_ns: float) -> dict[str, Any]:
    """`vectors` is what the limit counts: non-zeros times the vectors of an output channel."""
    skips_zeros = step["kernel"] in SKIPPING
    macs = int(step["nonzero_macs"] if skips_zeros else step["macs"])
    least_ns = step["vectors"] / vectors_per_ns if skips_zeros and vectors_per_ns else 0.0
    return {
        "name": step["name"],
        "kernel": step["kernel"],
        "skips_zeros": skips_zeros,
        "ns": ns,
        "macs": macs,
        "nonzeros": step["nonzeros"],
        "vectors": step["vectors"],
        "gmacs": macs / ns if macs and ns else None,
        "of_limit": least_ns / ns if least_ns and ns else None,
    }
