"""The loader in C on its own, compiled with the sanitizers that there are here, and what Python reads of a program."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.program.format import Program

HERE = Path(__file__).parent
NATIVE = HERE.parents[2] / "runtimes" / "sparse_cpu" / "native"
MAIN = HERE / "native" / "read_program_main.c"
PARTS = (
    *("fault", "json", "json_string", "json_values", "inflate", "inflate_code", "npy", "npz", "regular_file", "zip"),
    *("read_operations", "check_shapes", "check_lives", "read_arrays", "read_program"),
)
FLAGS = ("-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fno-omit-frame-pointer")

# The best first. Zig's clang has the code of UBSan but no runtime of ASan.
COMPILERS = {
    "ASan and UBSan, gcc": ("gcc", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "ASan and UBSan, clang": ("clang", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "UBSan, Zig's clang": (sys.executable, "-m", "ziglang", "cc", "-fsanitize=undefined"),
}
LARGEST_MB = 64
"""No test's files are large, so no allocation may be: ASan ends the process at a larger one."""

_OPS = (
    *("conv", "linear", "max_pool", "average_pool", "global_average", "activate", "add", "mul", "affine", "concat"),
    *("select", "pad", "resize", "flatten", "softmax"),
)
_KINDS = ("", "clip", "hard_swish", "hard_sigmoid", "sigmoid", "silu")


def cache() -> Path:
    """EDGEPRUNE_TESTS_CACHE, or the user's cache folder."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("EDGEPRUNE_TESTS_CACHE") or users / "edgeprune-tests")


@dataclass(frozen=True)
class Loader:
    """The compiled test program, and what watches it."""

    program: Path
    watched_by: str

    def try_all(self, paths: Iterable[Path], largest_mb: int = LARGEST_MB) -> list[str]:
        """For each program what `load` prints of it, or "no " and why it is refused; all in one process."""
        return self._run("try", paths, largest_mb).splitlines()

    def load(self, path: Path) -> dict[str, Any]:
        """What was read of a program."""
        (line,) = self.try_all([path])
        assert not line.startswith("no "), line
        return json.loads(line)

    def refusal(self, path: Path, largest_mb: int = LARGEST_MB) -> str:
        """Why a program is refused."""
        (line,) = self.try_all([path], largest_mb)
        assert line.startswith("no "), f"it was loaded: {line[:200]}"
        return line[3:]

    def json_values(self, paths: Iterable[Path]) -> list[list[str]]:
        """For each JSON file a line for each of its values, or one with why it is refused."""
        said = self._run("json", paths, LARGEST_MB)
        return [part.splitlines() for part in said.split("\n.\n")[:-1]]

    def _run(self, mode: str, paths: Iterable[Path], largest_mb: int) -> str:
        checks = {
            "ASAN_OPTIONS": f"detect_leaks=1:max_allocation_size_mb={largest_mb}:allocator_may_return_null=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        ran = subprocess.run(
            [str(self.program), mode],
            input="".join(f"{path}\n" for path in paths).encode(),
            capture_output=True,
            env={**os.environ, **checks},
            check=False,
        )
        assert (ran.returncode, ran.stderr) == (0, b""), (
            f"after {ran.stdout.count(10)} lines\n{ran.stderr.decode()[:4000]}"
        )
        return ran.stdout.decode()


def watched_loader() -> Loader:
    """The loader, compiled; the test is skipped where no compiler here has sanitizers."""
    built = compiled()
    if isinstance(built, str):
        pytest.skip(f"no sanitizer for C: {built}")
    return built


@functools.cache
def compiled() -> Loader | str:
    """The loader with the best sanitizers there are, from the cache or into it; or why there is none."""
    sources = [NATIVE / f"{part}.c" for part in PARTS] + [MAIN]
    headers = [NATIVE / f"{part}.h" for part in (*PARTS, "program", "reading")]
    content = b"".join(path.read_bytes() for path in [*sources, *headers] if path.exists())
    reasons = []
    for name, command in COMPILERS.items():
        digest = hashlib.sha256(repr((command, FLAGS)).encode() + content).hexdigest()[:16]
        built = cache() / f"read-program-{digest}"
        wrong = None if built.exists() else _compile(command, sources, built)
        if wrong is None:
            return Loader(built, name)
        reasons.append(f"{name}: {wrong}")
    return "; ".join(reasons)


def _compile(command: Sequence[str], sources: Sequence[Path], built: Path) -> str | None:
    """What is wrong, where it is the compiler; a complaint about our sources fails here."""
    compiler = shutil.which(command[0])
    if compiler is None:
        return "not installed"
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        trial, made = Path(folder, "empty.c"), Path(folder, "made")
        trial.write_text("int main(void) { return 0; }\n")
        tried = _call([compiler, *command[1:], str(trial), "-o", str(made)])
        if tried.returncode or _call([str(made)]).returncode:
            return f"it cannot build here: {tried.stderr.strip()[-200:]}"
        done = _call([compiler, *command[1:], *FLAGS, f"-I{NATIVE}", *map(str, sources), "-o", str(made)])
        assert done.returncode == 0, done.stderr[:4000]
        made.replace(built)
    return None


def _call(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


# What Python reads ---------------------------------------------------------------------------------------------------


def expected(program: Program) -> dict[str, Any]:
    """What `load` must print of a program that Python's json and numpy have read."""
    return {
        "name": _kept(program.name),
        "input": program.input,
        "output": program.output,
        "buffers": program.buffers,
        "tensors": [[*tensor.shape, tensor.buffer] for tensor in program.tensors],
        "operations": [_operation(program, index) for index in range(len(program.operations))],
    }


def _operation(program: Program, index: int) -> dict[str, Any]:
    one = program.operations[index]
    held = one.attributes
    rows, columns = _matrix(program, index)
    added = held.get("add")
    return {
        "op": _OPS.index(one.op),
        "name": _kept(one.name),
        "inputs": list(one.inputs),
        "output": one.output,
        "add": -1 if added is None else added,
        "groups": held.get("groups", 1),
        "kernel": held.get("kernel", [1, 1]),
        "stride": held.get("factor", held.get("stride", [1, 1])),
        "dilation": held.get("dilation", [1, 1]),
        "padding": held.get("padding", [0, 0, 0, 0]),
        "count_padding": int(held.get("count_padding", False)),
        "value": _bits(held.get("value", 0)),
        "activation": _activation(held.get("activation")),
        "rows": rows,
        "columns": columns,
        "nonzeros": int(np.count_nonzero(one.arrays["weight"])) if "weight" in one.arrays else _size(one, "values"),
        **{key: [value.nbytes, zlib.crc32(value.tobytes())] for key, value in one.arrays.items()},
    }


def _kept(name: str) -> str:
    """A name on one line, and as much of it as fits into 127 bytes."""
    line = "".join("?" if ord(c) < 32 or ord(c) == 127 else c for c in name)
    return line.encode()[:127].decode(errors="ignore")


def _size(one: Any, key: str) -> int:
    return one.arrays[key].size if key in one.arrays else 0


def _matrix(program: Program, index: int) -> tuple[int, int]:
    one = program.operations[index]
    if one.op not in ("conv", "linear"):
        return 0, 0
    channels = program.tensors[one.inputs[0]].shape[0]
    kernel = one.attributes.get("kernel", [1, 1])
    return program.tensors[one.output].shape[0], channels // one.attributes.get("groups", 1) * kernel[0] * kernel[1]


def _bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))


def _activation(held: dict[str, Any] | None) -> list[int]:
    if held is None:
        return [0, 0, 0]
    low, high = held.get("low"), held.get("high")
    if held["kind"] == "clip":
        low, high = -np.inf if low is None else low, np.inf if high is None else high
    return [_KINDS.index(held["kind"]), _bits(low or 0), _bits(high or 0)]
