"""The library of the sparse runtime, compiled on this machine for every board: `python -m export.native [TRIPLE ...]`.

The compiler is Zig's clang (`ziglang`, a package like any other), which brings the headers and stubs of every C library
it links to. So neither this machine nor a board needs a compiler or a sysroot.

What was built lies in the user's cache, `edgeprune/native/<sources>-<build>/<triple>/`: <sources> is a hash over the C
files, <build> one over the flags and the compiler's version. The runtime finds a build by the first of the two alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from runtimes.errors import UserError
from runtimes.files import replacing, told
from runtimes.sparse_cpu import library
from runtimes.tables import pick


@dataclass(frozen=True)
class Triple:
    """A machine to build for: its architecture, and what Zig calls it with the oldest C library that will do."""

    architecture: str
    zig: str
    musl: bool = False


TRIPLES = {
    "x86_64-linux-gnu": Triple("x86_64", "x86_64-linux-gnu.2.17"),  # of 2012: CentOS 7
    "aarch64-linux-gnu": Triple("aarch64", "aarch64-linux-gnu.2.31"),  # JetPack 5, Debian 11
    "x86_64-linux-musl": Triple("x86_64", "x86_64-linux-musl", musl=True),
    "aarch64-linux-musl": Triple("aarch64", "aarch64-linux-musl", musl=True),
}

FLAGS = (
    *("-std=gnu11", "-Wall", "-Wextra", "-fPIC", "-pthread", "-fvisibility=hidden"),
    *("-ffp-contract=fast", "-fno-math-errno"),  # what changes no defined result but makes a * b + c one instruction
)
RELEASE = ("-O3", "-g0", "-fno-sanitize=undefined")
KERNEL_FLAGS = {
    "avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-mavx2", "-mfma"],
    "neon": [],
    "scalar": [],
}
"""What `kernels_<set>.c` alone is compiled with; which of them run is decided on the machine that loads them."""
_ONLY_ON = {"avx512": "x86_64", "avx2": "x86_64", "neon": "aarch64"}
_KERNELS = "kernels_"
_NOT_WRITTEN = re.compile(
    "NoSpaceLeft|No space left|Disk ?[Qq]uota|AccessDenied|Permission ?[Dd]enied|Read-?[Oo]nly ?[Ff]ile ?[Ss]ystem"
    "|NotDir|cache directory"
)
"""In what Zig, clang and the linker say where they cannot write what they make, or keep it in Zig's own cache."""
_ELSEWHERE = "make room, or set XDG_CACHE_HOME (for Zig's own cache ZIG_GLOBAL_CACHE_DIR) to another folder"


def build_library(triple: str, *, sanitize: bool = False) -> Path:
    """`libedgeprune_sparse.so` for `triple`, from the cache, or compiled into it.

    With `sanitize`, unoptimised enough to be debugged, and checked while it runs: by UBSan, and by ASan where the host
    has a libasan of that architecture (`asan_runtime`), since Zig brings none; `LD_PRELOAD` then has to name it.

    Raises:
        UserError: an unknown triple, no ziglang, or a cache that has no room or cannot be written.
    """
    return _Build(triple, sanitize).output(library.NAME)


def build_example(triple: str) -> Path:
    """The executable `classify` for `triple`: static for musl, else one that loads the library that lies beside it.

    Raises:
        UserError: as `build_library`.
    """
    return _Build(triple, False).output("classify")


def asan_runtime() -> Path | None:
    """The ASan of this machine's own compiler, for builds of this machine's architecture; None: it has none."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    asked = [gcc, "-print-file-name=libasan.so"]
    named = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    return named.resolve() if named.is_absolute() and named.exists() else None


def lacks_compiler() -> str | None:
    """None where ziglang is installed; else why it is needed, and the command that installs it."""
    if importlib.util.find_spec("ziglang") is not None:
        return None
    return "ziglang, the compiler for sparse_cpu, is not installed: install it with `uv sync`, or `pip install ziglang`"


def compiler_version() -> str:
    """Of ziglang, by its own word where it was installed without a record of it."""
    try:
        return importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        asked = [sys.executable, "-m", "ziglang", "version"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


class _Build:
    """What one triple is compiled with, and where the results lie."""

    def __init__(self, triple: str, sanitize: bool) -> None:
        self.name, self.triple = triple, pick(TRIPLES, triple, "triple")
        if lacks := lacks_compiler():
            raise UserError(f"the library of sparse_cpu cannot be built for {triple}", lacks)
        self.asan = asan_runtime() if sanitize and triple == library.triple() else None
        checks = [
            "-fsanitize=undefined",
            *(["-fsanitize=address"] if self.asan else []),
        ]  # one list would lose the second
        self.mode = ["-O1", "-g", "-fno-omit-frame-pointer", *checks] if sanitize else list(RELEASE)
        self.link = [] if sanitize else ["-s"]

    def output(self, file: str) -> Path:
        """The built file in the cache."""
        wanted = self._place(library.NATIVE) / file
        return wanted if wanted.is_file() else self._made(file)

    def _place(self, native: Path) -> Path:
        settings = [compiler_version(), *FLAGS, *self.mode, *self.link, repr(KERNEL_FLAGS)]
        build = hashlib.sha256("\n".join([*settings, self.triple.zig, str(self.asan)]).encode()).hexdigest()[:12]
        checked = "" if self.mode == list(RELEASE) else "-sanitized"
        return library.cache() / f"{library.digest(native)}-{build}" / (self.name + checked)

    def _made(self, file: str) -> Path:
        """Compile a copy of the sources, so that what is hashed and what is compiled cannot differ."""
        with _in_cache() as folder:
            native = folder / "native"
            for path in library.sources(library.NATIVE):
                copy = native / path.relative_to(library.NATIVE)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            place = self._place(native)
            for each in dict.fromkeys([library.NAME, file] if self._loads_library(file) else [file]):
                if not (place / each).is_file():
                    self._link(each, native, place)
                    _put(native / each, place / each)
        return place / file

    def _loads_library(self, file: str) -> bool:
        """Whether a file is a program that needs the library beside it; one for musl holds it."""
        return file != library.NAME and not self.triple.musl

    def _link(self, file: str, native: Path, place: Path) -> None:
        """Make `file` in the folder `native` from the sources there; `place` is where the library lies already."""
        if file == library.NAME:
            what = ["-shared", f"-Wl,-soname,{file}", "-Wl,-z,defs", *self._objects(native)]
        else:
            main = str(self._object(native / "example" / f"{file}.c", []))
            linked = self._loads_library(file)
            what = [main, str(place / library.NAME), "-Wl,-rpath,$ORIGIN"] if linked else ["-static", main]
            what += [] if linked else self._objects(native)
        asan = [str(self.asan)] if self.asan else []
        self._run([*self.mode, *self.link, "-pthread", "-o", str(native / file), *what, "-lm", *asan])

    def _objects(self, native: Path) -> list[str]:
        """Every source of the library compiled, as many at once as there are processors."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return [str(path) for path in pool.map(lambda each: self._object(*each), self._sources(native))]

    def _sources(self, native: Path) -> Iterator[tuple[Path, Sequence[str]]]:
        """The C files for this architecture, each with the flags that only it gets."""
        for path in sorted(native.glob("*.c")):
            kernels = path.stem.removeprefix(_KERNELS) if path.stem.startswith(_KERNELS) else None
            if kernels is None or _ONLY_ON.get(kernels, self.triple.architecture) == self.triple.architecture:
                yield path, [] if kernels is None else KERNEL_FLAGS[kernels]

    def _object(self, source: Path, own: Sequence[str]) -> Path:
        made = source.with_suffix(".o")
        here = f"-ffile-prefix-map={source.parent}=."  # no name of a temporary folder in what is built
        self._run([*FLAGS, *self.mode, *own, here, f"-I{_headers(source)}", "-c", str(source), "-o", str(made)])
        return made

    def _run(self, arguments: Sequence[str]) -> None:
        """Zig's clang; what it complains about is a bug of ours, but for what it cannot write."""
        command = [sys.executable, "-m", "ziglang", "cc", "-target", self.triple.zig, *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = ran.stdout + ran.stderr
        if ran.returncode and (line := next(filter(_NOT_WRITTEN.search, said.splitlines()), None)):
            raise UserError(f"the library of sparse_cpu cannot be built: {line.strip()}", _ELSEWHERE)
        if ran.returncode:
            raise RuntimeError(f"{' '.join(command)}\n{said}")


@contextlib.contextmanager
def _in_cache() -> Iterator[Path]:
    """A folder to build in, which goes again; a cache that cannot hold it, or what is built, is a `UserError`."""
    place = library.cache()
    try:
        with told(place):
            place.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".building-", dir=place) as name:
                yield Path(name)
    except UserError as error:
        raise UserError(error.message, _ELSEWHERE) from error


def _put(made: Path, kept: Path) -> None:
    """Into the cache, in one rename, and executable."""
    with replacing(kept) as temporary:
        shutil.copyfile(made, temporary)
    kept.chmod(0o755)


def _headers(source: Path) -> Path:
    """The folder of the headers that a source includes."""
    return source.parent.parent if source.parent.name == "example" else source.parent


def main(names: Sequence[str]) -> int:
    """Build for the triples named, for this machine's where there are none, and print where each library lies.

    The exit code: 2 where the user can put it right, which two lines on standard error say.
    """
    try:
        for name in names or [library.triple()]:
            print(build_library(name))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
