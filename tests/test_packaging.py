"""The wheel is the whole program: it is built, installed into an environment of its own, and run from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from architecture_rules import PACKAGES, ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed: pip install uv"),
]

SHRUNK = ("teacher.epochs=1", "student.epochs=1", "prune.epochs=0.2", "retrain.epochs=1")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as `make wheel` does."""
    folder = tmp_path_factory.mktemp("dist")
    run(["uv", "build", "--wheel", "--quiet", "--out-dir", str(folder)], ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing of ours but the wheel; the libraries are those of the environment that tests it.

    A folder that a `.pth` file names is searched last, and its own `.pth` files are not read: an editable install there
    stays unseen.
    """
    folder = tmp_path_factory.mktemp("environment") / "env"
    run(["uv", "venv", "--quiet", "--python", sys.executable, str(folder)], ROOT)
    python = folder / "bin" / "python"
    run(["uv", "pip", "install", "--quiet", "--no-deps", "--python", str(python), str(wheel)], ROOT)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def run(command: list[str], place: Path) -> str:
    """Standard output of a command that must succeed, away from this checkout's paths."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    found = subprocess.run(command, cwd=place, env=clean, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return found.stdout


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_it_holds_the_four_packages_whole_and_nothing_else(wheel: Path) -> None:
    """Recipes, the report's template and its style among them: whatever lies in the packages."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for package in PACKAGES for name in files_of(ROOT / package)}
    assert {
        "edgeprune/recipes/quickstart.toml",
        "edgeprune/report/report.html.j2",
        "edgeprune/report/report.css",
    } < names


def test_it_holds_the_licence_and_says_so(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (licence,) = [name for name in archive.namelist() if name.endswith("/licenses/LICENSE")]
    assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()


def test_what_runs_is_what_was_installed(environment: Path, tmp_path: Path) -> None:
    code = f"import {', '.join(PACKAGES)}; print(*[m.__file__ for m in ({', '.join(PACKAGES)})])"
    places = run([str(environment / "bin" / "python"), "-c", code], tmp_path).split()
    assert all(Path(place).is_relative_to(environment) for place in places), places


def test_it_lists_its_tables(environment: Path, tmp_path: Path) -> None:
    listing = json.loads(run([str(environment / "bin" / "edgeprune"), "list", "--json"], tmp_path))
    assert {"criteria", "recipes", "runtimes"} < listing.keys()
    assert "quickstart" in listing["recipes"]


def test_it_runs_the_quickstart(environment: Path, tmp_path: Path) -> None:
    settings = [word for pair in SHRUNK for word in ("--set", pair)]
    run([str(environment / "bin" / "edgeprune"), "run", "quickstart", *settings], tmp_path)
    folder = tmp_path / "runs" / "quickstart"
    report = json.loads((folder / "6-report" / "report.json").read_text())
    assert {"dense", "sparse"} <= {row["name"] for row in report["rows"]}
    assert (folder / "3-export" / "model.onnx").is_file()
    assert (folder / "6-report" / "report.html").is_file()
