"""Where a libcudart may lie: JetPack's and the desktop's places, what the loader knows, and Python's packages."""

import ctypes.util
import glob
import os
import platform
import site
import sysconfig
from typing import Iterator, List

_FOLDERS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/{machine}-linux/lib",
    "/usr/local/cuda-*/lib64",
    "/usr/local/cuda-*/targets/{machine}-linux/lib",
    "/usr/lib/{machine}-linux-gnu",
    "/usr/lib64",
)
_IN_PACKAGES = ("nvidia/cu1*/lib", "nvidia/cuda_runtime/lib")


def libraries() -> Iterator[str]:
    """Paths of every libcudart, in the order in which they are tried, each once."""
    seen = set()
    for path in _candidates():
        real = os.path.realpath(path) if os.path.isabs(path) else path
        if real not in seen:
            seen.add(real)
            yield real


def _candidates() -> Iterator[str]:
    home = os.environ.get("CUDA_HOME")
    folders = [folder.format(machine=platform.machine()) for folder in _FOLDERS]
    for folder in ([os.path.join(home, "lib64")] if home else []) + folders:
        yield from _in(folder)
    found = ctypes.util.find_library("cudart")
    if found:
        yield found
    for packages in (sysconfig.get_path("platlib"), *site.getsitepackages(), site.getusersitepackages()):
        for folder in _IN_PACKAGES:
            yield from _in(os.path.join(packages, folder))


def _in(folder: str) -> List[str]:
    return sorted(glob.glob(os.path.join(folder, "libcudart.so*")), reverse=True)
