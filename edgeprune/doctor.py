"""What `edgeprune doctor` looks at: whether this installation can do its work, and what to do where it cannot."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from devices import open_device
from edgeprune.reason import reason
from runtimes import RUNTIMES
from runtimes.tables import resolve

PACKAGES = ("edgeprune", "export", "runtimes", "devices")
_NEEDED = (
    "torch",
    "torchvision",
    "numpy",
    "onnx",
    "onnxruntime",
    "pydantic",
    "safetensors",
    "sklearn",
    "jinja2",
    "matplotlib",
)
_NEEDED_RUNTIMES = ("null", "ort")  # what verifies an export and calibrates a measurement; others belong to devices


@dataclass(frozen=True)
class Finding:
    """One thing looked at: `what` it is, whether it is `fine`, what was `found`, and whether it is `needed`."""

    what: str
    fine: bool
    found: str
    needed: bool = True


def examine() -> list[Finding]:
    """Look at the interpreter, the four packages, the libraries, the runtimes and the disk."""
    return [
        Finding("Python", sys.version_info >= (3, 11), sys.version.split()[0]),
        _side_by_side(),
        *(_library(name) for name in _NEEDED),
        *_runtimes(),
        _compiler(),
        _kernels(),
        _gpu(),
        _ssh(),
        _disk(Path.cwd()),
    ]


def examine_device(name: str, ssh_config: Path | None = None, python: str | None = None) -> list[Finding]:
    """Look at a device with its own eyes; one that cannot be reached is a `UserError`."""
    with contextlib.closing(open_device(name, ssh_config=ssh_config, python=python)) as device:
        needs = device.probe()["needs"]
    return [
        Finding(
            str(need["what"]),
            bool(need["fine"]),
            f"{need['found']}; {need['fix']}" if need.get("fix") and not need["fine"] else str(need["found"]),
            bool(need["needed"]),
        )
        for need in needs
    ]


def as_text(findings: list[Finding]) -> str:
    """One line a finding: `ok`, `MISSING`, or `-` for what edgeprune can do without."""
    width = max(len(finding.what) for finding in findings)
    return "\n".join(f"{_mark(finding):8}{finding.what:{width}}  {finding.found}" for finding in findings)


def _mark(finding: Finding) -> str:
    return "ok" if finding.fine else "MISSING" if finding.needed else "-"


def _side_by_side() -> Finding:
    """The four packages have generic names: another project's `export` or `runtimes` would be imported unnoticed."""
    places = {name: Path(str(importlib.import_module(name).__file__)).resolve().parent for name in PACKAGES}
    strangers = [
        f"{name} is imported from {place}"
        for name, place in places.items()
        if place.parent != places["edgeprune"].parent
    ]
    hint = "; another project owns that name: use an environment of edgeprune's own" if strangers else ""
    return Finding(
        "packages", not strangers, "; ".join(strangers) + hint or f"side by side in {places['edgeprune'].parent}"
    )


def _library(name: str) -> Finding:
    try:
        module = importlib.import_module(name)
        version = str(getattr(module, "__version__", "")) or importlib.metadata.version(name)
    except (
        Exception
    ) as error:  # missing, or broken in its own way: torchvision beside another torch raises RuntimeError
        return Finding(name, False, f"{type(error).__name__}: {reason(error)}; install edgeprune again: uv sync")
    return Finding(name, True, version)


def _runtimes() -> Iterator[Finding]:
    for name, address in RUNTIMES.items():
        try:
            runtime = resolve(address)
            why = runtime.missing()
            told = why or f"version {runtime.version()}"
        except Exception as error:  # its library is there and cannot be loaded
            why = told = f"{type(error).__name__}: {reason(error)}"
        yield Finding(f"runtime {name}", why is None, told, needed=name in _NEEDED_RUNTIMES)


def _compiler() -> Finding:
    from export.native import compiler_version, lacks_compiler

    lacks = lacks_compiler()
    return Finding("ziglang", lacks is None, lacks or compiler_version())


def _kernels() -> Finding:
    """Which kernels of sparse_cpu this CPU runs; its library is built with the first bundle that needs it."""
    from runtimes import sparse_cpu

    if lacks := sparse_cpu.missing():
        return Finding("kernels", False, lacks, needed=False)
    return Finding("kernels", True, f"sparse_cpu runs {', '.join(sparse_cpu.kernels())} here", needed=False)


def _gpu() -> Finding:
    try:
        import torch

        found = torch.cuda.is_available()
        told = torch.cuda.get_device_name() if found else "no CUDA device: training runs on the CPU"
    except Exception as error:  # torch is broken, which has a finding of its own, or its driver is
        return Finding("GPU", False, f"torch cannot be asked: {reason(error)}", needed=False)
    return Finding("GPU", found, told, needed=False)


def _ssh() -> Finding:
    path = shutil.which("ssh")
    return Finding(
        "ssh", path is not None, path or "no OpenSSH client: install openssh-client to reach boards", needed=False
    )


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    writable = os.access(folder, os.W_OK)
    return Finding(
        "disk", free > 1 and writable, f"{free:.0f} GiB free in {folder}{'' if writable else ', not writable'}"
    )
