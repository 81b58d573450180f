"""Where the compiled library lies, and its functions: one shared object a triple, in the bundle or in the cache."""

import ctypes
import hashlib
import os
import platform
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional

from runtimes.errors import UserError
from runtimes.files import read_json, sha256

NAME = "libedgeprune_sparse.so"
NATIVE = Path(__file__).resolve().parent / "native"
_BUNDLE = NATIVE.parent.parent.parent  # the folder of this package, which is a bundle on a board
PATH_VARIABLE = "EDGEPRUNE_SPARSE_CPU_LIBRARY"
MAX_THREADS = 64  # ES_MAX_THREADS of edgeprune_sparse.h
ABI = 1  # ES_ABI of edgeprune_sparse.h
BUNDLED = ("x86_64-linux-gnu", "aarch64-linux-gnu")
"""The machines for which bundles bring the library."""
_SOURCES = (".c", ".h", ".inc")
_BUILD = "on the workstation `python -m export.native` builds it, and `edgeprune compile` puts it into the bundle"
_loaded: Dict[str, ctypes.CDLL] = {}


class Options(ctypes.Structure):
    """`es_options` of edgeprune_sparse.h."""

    _fields_ = (("threads", ctypes.c_int32), ("kernels", ctypes.c_char_p))


def cache() -> Path:
    """The folder in the user's cache under which `export.native` keeps what it has built.

    Raises:
        UserError: the user has no home folder, and no other place is named.
    """
    place = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser(os.path.join("~", ".cache"))
    if place.startswith("~"):
        raise UserError("sparse_cpu: this user has no home folder for a cache", "set XDG_CACHE_HOME to a folder")
    return Path(place) / "edgeprune" / "native"


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
    except (ValueError, OSError, AttributeError):  # musl does not know the name, other systems not the question
        gnu = False
    return "{}-linux-{}".format(machine, "gnu" if gnu else "musl")


def find(options: Mapping[str, str], program: Optional[Path] = None) -> Path:
    """The library to load: the one that is named, by option or environment, else the nearest of these.

    The one of the bundle in which this package lies, the newest build of these sources in the cache, and the one of the
    bundle in which the program lies. In a bundle only what its manifest lists counts.

    Args:
        options: `library`, where one is named.
        program: or any other file in the folder of a bundle.

    Raises:
        UserError: the file that is named, or any at all, is not there.
    """
    named = options.get("library") or os.environ.get(PATH_VARIABLE)
    if named:
        if not Path(named).is_file():
            raise UserError("sparse_cpu: the library {} is not there".format(named), "name another, or none")
        return Path(named).resolve()
    found = next(_found(program), None)
    if found is None:
        raise UserError("sparse_cpu: there is no {} for {}".format(NAME, triple()), _BUILD)
    return found.resolve()


def open_library(path: Path) -> ctypes.CDLL:
    """The library with its functions declared.

    Raises:
        UserError: this machine cannot load it, it is something else, or that of another edgeprune.
    """
    if str(path) not in _loaded:
        try:
            library = ctypes.CDLL(str(path))
            _declare(library)
        except (OSError, AttributeError) as error:  # AttributeError: it lacks one of the functions
            raise UserError(
                "sparse_cpu: {} cannot be loaded on this {}: {}".format(path, triple(), " ".join(str(error).split())),
                _BUILD,
            ) from error
        if library.es_abi() != ABI:
            told = "sparse_cpu: {} has interface {}, and this edgeprune knows {}"
            raise UserError(told.format(path, library.es_abi(), ABI), _BUILD)
        _loaded[str(path)] = library
    return _loaded[str(path)]


def _found(program: Optional[Path]) -> Iterator[Path]:
    """Where it lies, the nearest first. The program's bundle is the last: another edgeprune may have written it."""
    yield from _in_bundle(_BUNDLE)
    yield from _in_cache()
    if program is not None:
        yield from _in_bundle(program.resolve().parent)


def _in_bundle(root: Path) -> Iterator[Path]:
    """The library that the bundle's manifest lists, if it is what was written: another file there is not loaded."""
    name = "libraries/{}/{}".format(triple(), NAME)
    if (root / name).is_file() and (root / "manifest.json").is_file():
        manifest = read_json(root / "manifest.json")
        listed = manifest.get("files") if isinstance(manifest, dict) else None
        if isinstance(listed, dict) and listed.get(name) == sha256(root / name):
            yield root / name


def _in_cache() -> Iterator[Path]:
    """The builds of these sources, the newest first; a user without a home folder has none."""
    try:
        folder = cache()
    except UserError:
        return
    if folder.is_dir():
        built = folder.glob("{}-*/{}/{}".format(digest(NATIVE), triple(), NAME))
        yield from sorted(built, key=lambda path: path.stat().st_mtime, reverse=True)


def _declare(library: ctypes.CDLL) -> None:
    """Argument and result types of edgeprune_sparse.h and rate.h: what ctypes would guess is int."""
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
        "es_abi": (ctypes.c_int32, []),
        "es_load_rate": (ctypes.c_double, [ctypes.c_int32]),
    }
    for name, (result, arguments) in declared.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
