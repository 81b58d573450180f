"""The library as a C program sees it, and the program of the tests that stands in where Python cannot load it."""

import ctypes
import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from export import native
from export.program import write_program
from runtimes import files
from runtimes.sparse_cpu import library

RUNNER = Path(__file__).parent / "native" / "run_program.c"
SETS = ("avx512", "avx2", "neon", "scalar")
_FLOATS = ctypes.POINTER(ctypes.c_float)


class Options(ctypes.Structure):
    _fields_ = (("threads", ctypes.c_int32), ("kernels", ctypes.c_char_p))


class Library:
    """libedgeprune_sparse.so by its header alone."""

    def __init__(self, path):
        self._c = ctypes.CDLL(str(path))
        self._c.es_load.restype = ctypes.c_void_p
        self._c.es_load.argtypes = (ctypes.c_char_p, ctypes.POINTER(Options), ctypes.c_char_p, ctypes.c_size_t)
        self._c.es_run.argtypes = (ctypes.c_void_p, ctypes.c_int64, _FLOATS, _FLOATS)
        self._c.es_output_floats.restype = ctypes.c_int64
        self._c.es_output_floats.argtypes = self._c.es_describe.argtypes = self._c.es_free.argtypes = (ctypes.c_void_p,)
        self._c.es_describe.restype = self._c.es_kernels.restype = ctypes.c_char_p

    @property
    def kernels(self):
        return self._c.es_kernels().decode().split()

    @contextmanager
    def network(self, path, kernels, threads=1):
        error = ctypes.create_string_buffer(512)
        options = Options(threads, kernels.encode())
        network = self._c.es_load(str(path).encode(), ctypes.byref(options), error, len(error))
        assert network, f"{path}: {error.value.decode()}"
        try:
            yield network
        finally:
            self._c.es_free(network)

    def describe(self, network):
        return self._c.es_describe(network).decode()

    def run(self, network, images):
        images = np.ascontiguousarray(images, np.float32)
        answer = np.full((len(images), self._c.es_output_floats(network)), np.nan, np.float32)
        assert self._c.es_run(network, len(images), images.ctypes.data_as(_FLOATS), answer.ctypes.data_as(_FLOATS)) == 0
        return answer

    def answer(self, path, images, kernels, threads=1):
        with self.network(path, kernels, threads) as network:
            return self.run(network, images)


class Runner:
    """`run_program`, built for one triple and started by `command`; one start answers any number of cases."""

    def __init__(self, executable: Path, command: Sequence[str] = (), environment=None):
        self._start, self._environment = [*command, str(executable)], {**os.environ, **(environment or {})}

    def answers(self, folder, asked):
        """The answers to `asked`, each (program's path, images, kernels, threads)."""
        lines = []
        for i, (path, images, kernels, threads) in enumerate(asked):
            given, made = folder / f"{i}.in", folder / f"{i}.out"
            images.astype("<f4").tofile(given)
            lines.append("\t".join(map(str, (path, kernels, threads, len(images), given, made))))
        manifest = folder / "cases"
        manifest.write_text("\n".join(lines) + "\n")
        done = subprocess.run([*self._start, str(manifest)], env=self._environment, capture_output=True, text=True)
        assert (done.returncode, done.stderr[:8000]) == (0, "")  # UBSan may complain and go on
        found = [np.fromfile(folder / f"{i}.out", "<f4").reshape(len(asked[i][1]), -1) for i in range(len(asked))]
        for i in range(len(asked)):
            (folder / f"{i}.in").unlink()
            (folder / f"{i}.out").unlink()
        return found


def zig(triple, *arguments):
    command = [sys.executable, "-m", "ziglang", "cc", "-target", native.TRIPLES[triple].zig, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def static_runner(triple):
    """The runner with the whole library in it, for a system of which nothing is there but an emulator of its CPU.

    It is kept in the cache beside the libraries, for as long as neither it nor a source of theirs changes.
    """
    settings = repr((native.FLAGS, native.RELEASE, native.KERNEL_FLAGS, importlib.metadata.version("ziglang")))
    own = hashlib.sha256(RUNNER.read_bytes() + settings.encode()).hexdigest()[:12]
    made = library.cache() / f"{library.digest(library.NATIVE)}-{own}-runner" / triple / "run_program"
    if not made.exists():
        with TemporaryDirectory() as folder, files.replacing(made) as temporary:
            shutil.copy(build_static_runner(triple, Path(folder)), temporary)
        made.chmod(0o755)
    return made


def build_static_runner(triple, folder):
    flags = (*native.FLAGS, *native.RELEASE, f"-I{library.NATIVE}")
    architecture = native.TRIPLES[triple].architecture
    elsewhere = {"x86_64": ("neon",), "aarch64": ("avx512", "avx2")}[architecture]
    sources = [path for path in library.NATIVE.glob("*.c") if path.stem.removeprefix("kernels_") not in elsewhere]

    def compiled(source):
        own = native.KERNEL_FLAGS.get(source.stem.removeprefix("kernels_"), [])
        zig(triple, *flags, *own, "-c", source, "-o", folder / f"{source.stem}.o")
        return folder / f"{source.stem}.o"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, [*sources, RUNNER]))
    zig(triple, "-static", "-pthread", "-o", folder / "run_program", *objects, "-lm")
    return folder / "run_program"


def build_runner(built, folder):
    """The runner that loads the library `built` of this machine."""
    made = folder / "run_program"
    flags = ("-std=gnu11", f"-I{library.NATIVE}", f"-Wl,-rpath,{built.parent}", "-Wl,--allow-shlib-undefined")
    zig(library.triple(), *flags, "-o", made, RUNNER, built)
    return made


def written(cases, folder):
    """Each case with its program's path."""
    return [(case, write_program(case.program, folder / f"{i}.program.json").json) for i, case in enumerate(cases)]


def wrong(case, answer, tolerance):
    """What is wrong with an answer, in a line; nothing: an empty string."""
    expected = case.expected
    if answer.shape != expected.shape:
        return f"{case.name}: {answer.shape} instead of {expected.shape}"
    largest = float(np.abs(expected).max())
    error = float(np.abs(answer - expected).max())
    return "" if error <= tolerance * largest else f"{case.name}: off by {error:.3g} where the largest is {largest:.3g}"
