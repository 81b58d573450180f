"""Where the compiled library lies, and its functions: one shared object a triple, in the bundle or in the cache."""

import ctypes
import hashlib
import os
import platform
from pathlib import Path
from typing import Dict, Iterator, List, Mapping, Optional

from runtimes.errors import UserError

NAME = "libedgeprune_sparse.so"
NATIVE = Path(__file__).resolve().parent / "native"
PATH_VARIABLE = "EDGEPRUNE_SPARSE_CPU_LIBRARY"
MAX_THREADS = 64  # ES_MAX_THREADS of edgeprune_sparse.h
_SOURCES = (".c", ".h", ".inc")
_BUILD = "on the workstation `python -m export.native` builds it, and `edgeprune compile` puts it into the bundle"
_loaded: Dict[str, ctypes.CDLL] = {}


class Options(ctypes.Structure):
    """`es_options` of edgeprune_sparse.h."""

    _fields_ = (("threads", ctypes.c_int32), ("kernels", ctypes.c_char_p))


def cache() -> Path:
    """The folder in the user's cache under which `export.native` keeps what it has built."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgeprune" / "native"


def sources(folder: Path) -> Iterator[Path]:
    """Every file that the library or its example is made from, in one order."""
    return (path for path in sorted(folder.rglob("*")) if path.suffix in _SOURCES)


def digest(folder: Path) -> str:
    """Twelve hexadecimal digits of a hash over the sources, names and contents: what a build in the cache is of."""
    told = hashlib.sha256()
    for path in sources(folder):
        content = path.read_bytes()
        told.update("{} {}\n".format(path.relative_to(folder).as_posix(), len(content)).encode() + content)
    return told.hexdigest()[:12]


def triple() -> str:
    """What this machine needs: its architecture and its C library, as in `aarch64-linux-gnu`."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    try:
        gnu = "glibc" in (os.confstr("CS_GNU_LIBC_VERSION") or "")
    except ValueError:  # musl does not know the name
        gnu = False
    return "{}-linux-{}".format(machine, "gnu" if gnu else "musl")


def find(options: Mapping[str, str], program: Optional[Path] = None) -> Path:
    """The library to load: the one that is named, by option or environment, else the bundle's, else the cache's.

    Args:
        options: `library`, where one is named.
        program: lies in the bundle, where that is not the folder in which this package lies.

    Raises:
        UserError: the file that is named, or any at all, is not there.
    """
    named = options.get("library") or os.environ.get(PATH_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UserError("sparse_cpu: the library {} is not there".format(named), "name another, or none")
        return Path(named).resolve()
    found = [path for path in _places(program) if path.is_file()]
    if not found:
        raise UserError("sparse_cpu: there is no {} for {}".format(NAME, triple()), _BUILD)
    return found[0].resolve()


def open_library(path: Path) -> ctypes.CDLL:
    """The library with its functions declared; one that this machine cannot load is a `UserError`."""
    if str(path) not in _loaded:
        try:
            library = ctypes.CDLL(str(path))
        except OSError as error:
            raise UserError(
                "sparse_cpu: {} cannot be loaded on this {}: {}".format(path, triple(), " ".join(str(error).split())),
                _BUILD,
            ) from error
        _declare(library)
        _loaded[str(path)] = library
    return _loaded[str(path)]


def _places(program: Optional[Path]) -> List[Path]:
    """Where it may lie, the nearest first; of several builds of these sources in the cache the newest."""
    bundles = [NATIVE.parent.parent.parent] + ([program.resolve().parent] if program else [])
    in_bundles = [bundle / "libraries" / triple() / NAME for bundle in bundles]
    built = cache().glob("{}-*/{}/{}".format(digest(NATIVE), triple(), NAME)) if cache().is_dir() else iter(())
    return in_bundles + sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)


def _declare(library: ctypes.CDLL) -> None:
    """Argument and result types of edgeprune_sparse.h: what ctypes would guess is int."""
    network, text = ctypes.c_void_p, ctypes.c_char_p
    declared = {
        "es_load": (network, [text, ctypes.POINTER(Options), ctypes.c_void_p, ctypes.c_size_t]),
        "es_run": (ctypes.c_int, [network, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]),
        "es_input_floats": (ctypes.c_int64, [network, ctypes.POINTER(ctypes.c_int32 * 3)]),
        "es_output_floats": (ctypes.c_int64, [network]),
        "es_describe": (text, [network]),
        "es_profile": (ctypes.c_int64, [network, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64]),
        "es_kernels": (text, []),
        "es_free": (None, [network]),
    }
    for name, (result, arguments) in declared.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
