"""A copied bundle runs in an empty environment with numpy and one runtime, under every Python a device may have.

Interpreters are found, never downloaded. Packages come from wherever this machine's installer gets them.
"""

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtimes.records import Measurement

OLDEST, NEWEST = (3, 8), (3, 13)


@functools.lru_cache(maxsize=1)
def interpreters() -> dict[tuple[int, int], Path]:
    """(major, minor) -> an interpreter that starts, from pyenv and the path, 3.8 to 3.13."""
    names = [f"python3.{minor}" for minor in range(OLDEST[1], NEWEST[1] + 1)]
    candidates = sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    candidates += [Path(found) for found in map(shutil.which, names) if found]
    found: dict[tuple[int, int], Path] = {}
    for path in candidates:
        version = version_of(path)
        if version and OLDEST <= version <= NEWEST:
            found.setdefault(version, path)
    return dict(sorted(found.items()))


def version_of(interpreter: Path) -> tuple[int, int] | None:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        finished = subprocess.run([interpreter, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    printed = re.fullmatch(r"(\d+)\.(\d+)\s*", finished.stdout)
    return (int(printed.group(1)), int(printed.group(2))) if printed else None


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """Make an environment of `interpreter` with `packages` in it, once a session; its interpreter."""
    folder = tmp_path_factory.mktemp("environments")

    @functools.cache
    def make(interpreter: Path, *packages: str) -> Path:
        place = folder / "-".join([interpreter.parent.parent.name, *packages])
        python = place / "bin/python"
        uv = shutil.which("uv")
        create = [uv, "venv", "-q", "--python"] if uv else []
        run_or_skip([*create, interpreter, place] if uv else [interpreter, "-m", "venv", place], folder)
        install = [uv, "pip", "install", "-q", "--python", python] if uv else [python, "-m", "pip", "install", "-q"]
        run_or_skip([*install, *packages], folder)
        return python

    return make


def run_or_skip(command, folder: Path) -> None:
    """Outside the project: its own version constraints are for the host."""
    finished = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False)
    if finished.returncode:
        reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{' '.join(map(str, command[-4:]))} failed: {reason}")


def run_there(python: Path, bundle: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "runtimes", "measure", ".", *arguments]
    return subprocess.run(
        command, cwd=bundle, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )


def check_measured(bundle: Path, finished, names: list[str]) -> None:
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1])["measurements"] == names
    for name in names:
        assert Measurement.read(bundle / "results" / name).n > 0


def test_the_oldest_interpreter_with_numpy_alone(environment, bundle):
    """null runs; ort says what is missing and how to get it."""
    found = interpreters()
    if not found:
        pytest.skip("no Python from 3.8 to 3.13 under ~/.pyenv/versions or on the path")
    python = environment(next(iter(found.values())), "numpy")
    check_measured(bundle, run_there(python, bundle, "--runtime", "null"), ["null-dense.json", "null-sparse.json"])
    without = run_there(python, bundle)
    assert without.returncode == 2
    message, hint = without.stderr.splitlines()
    assert message.startswith("the runtime 'ort' cannot run here")
    assert f"{python} -m pip install onnxruntime" in hint


def test_without_numpy_two_lines_say_so(bundle):
    """-S -I: an interpreter that finds its standard library and nothing else."""
    code = (
        "import sys, runpy; sys.path.insert(0, '.'); sys.argv[1:] = ['measure', '.']\n"
        "runpy.run_module('runtimes', run_name='__main__')"
    )
    finished = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=bundle, capture_output=True, text=True)
    assert finished.returncode == 2
    assert finished.stderr.splitlines()[0].startswith("numpy is not installed for ")
    assert "-m pip install numpy" in finished.stderr.splitlines()[1]


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(OLDEST[1], NEWEST[1] + 1))
def test_null_and_ort_under_every_interpreter(environment, bundle, minor):
    found = interpreters()
    if (3, minor) not in found:
        pytest.skip(f"no Python 3.{minor} under ~/.pyenv/versions or on the path")
    python = environment(found[3, minor], "numpy", "onnxruntime")
    names = [f"{runtime}-{network}.json" for runtime in ("null", "ort") for network in ("dense", "sparse")]
    check_measured(bundle, run_there(python, bundle, "--runtime", "null", "--runtime", "ort"), names)
    for name in ("dense", "sparse"):
        outputs = Measurement.read(bundle / "results" / f"ort-{name}.json").outputs
        assert (outputs["n"], outputs["classes"]) == (50, 10)
