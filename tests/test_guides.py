"""`docs/adding-a-*.md`, followed to the letter in a copy of the repository; the tests over the tables pass there.

A block of Python begins with the file it is (`# path/to/file.py`) or with the table it adds a line to
(`# path/to/file.py: TABLE`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture_rules import (
    MAY_IMPORT,
    ROOT,
    Source,
    allowed_for,
    newer_than,
    unannotated,
    undocumented,
    wrong_imports,
)
from markdown import blocks, commands, edgeprune_commands

GUIDES = sorted((ROOT / "docs").glob("adding-a-*.md"))
COPIED = ("edgeprune", "export", "runtimes", "devices", "tests", "docs", "pyproject.toml", "README.md", ".gitignore")
SHRUNK = ("teacher.epochs=1", "student.epochs=1", "prune.epochs=1", "retrain.epochs=1")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def steps(guide: Path) -> Iterator[tuple[str, str, str]]:
    """(file, table or nothing, text) of each block of Python: a new file, or a line for a table."""
    for block in blocks(text_of(guide)):
        if block.language == "python":
            place, body = block.text.split("\n", 1)
            file, _, table = place.removeprefix("# ").partition(": ")
            yield file, table, body


def follow(guide: Path, root: Path) -> None:
    """Do what a guide says in the working copy `root`."""
    for file, table, body in steps(guide):
        path = root / file
        if not table:
            assert not path.exists(), f"{file} exists: choose another example"
            path.write_text(body, encoding="utf-8")
            continue
        text, count = re.subn(rf"(?m)^({table}\b.*= \{{)$", rf"\1\n{body.rstrip()}", text_of(path))
        assert count == 1, f"{file} has no table {table}"
        path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def working_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository in which all guides have been followed."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        source, target = ROOT / name, root / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    for guide in GUIDES:
        follow(guide, root)
    return root


def added(guide: Path) -> str:
    """The name that a guide adds: what its own `pytest -k` picks."""
    (line,) = [words for words in commands(text_of(guide)) if words[:3] == ["uv", "run", "pytest"]]
    return line[line.index("-k") + 1]


def test_the_tests_over_the_tables_pass_on_what_the_guides_add(working_copy: Path) -> None:
    """`uv run pytest -k NAME` of every guide, in one go."""
    names = [added(guide) for guide in GUIDES]
    chosen = ["-k", " or ".join(names), "--ignore=tests/test_guides.py", "-p", "no:cacheprovider", "-n0"]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", *chosen], cwd=working_copy, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout[-3000:]
    passed = [line for line in found.stdout.splitlines() if " PASSED" in line]
    assert all(any(re.search(rf"\b{name}\b", line) for line in passed) for name in names), found.stdout[-3000:]


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_the_examples_keep_the_rules_of_the_house(guide: Path) -> None:
    for file, table, body in steps(guide):
        source = Source(file, body)
        if not table:
            assert not wrong_imports(source, allowed_for(file, MAY_IMPORT))
            assert not [*undocumented(source), *unannotated(source)]
            assert not file.startswith("runtimes/") or not newer_than(source, (3, 8))


def test_ruff_finds_nothing_in_the_examples(working_copy: Path) -> None:
    files = [file for guide in GUIDES for file, _, _ in steps(guide)]
    for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *files],
            cwd=working_copy,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.slow
def test_mypy_finds_nothing_in_the_examples(working_copy: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "mypy"], cwd=working_copy, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout


@pytest.mark.slow
@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)
def test_what_a_guide_adds_can_be_used(guide: Path, working_copy: Path) -> None:
    """The guide's edgeprune command, with a training of an epoch."""
    (words,) = edgeprune_commands(text_of(guide))
    if words[0] == "measure":
        call(working_copy, ["run", "quickstart", *settings_of(SHRUNK)])
    if "path/to/images" in words:
        words[words.index("path/to/images")] = str(picture_folder(working_copy / "pictures"))
    call(working_copy, [*words, *(settings_of(SHRUNK) if words[0] == "run" else [])])


def settings_of(pairs: tuple[str, ...]) -> list[str]:
    return [word for pair in pairs for word in ("--set", pair)]


def call(root: Path, words: list[str]) -> None:
    code = "import sys; from edgeprune.cli import main; sys.exit(main())"
    found = subprocess.run([sys.executable, "-c", code, *words], cwd=root, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]


def picture_folder(folder: Path) -> Path:
    """A hundred pictures each of light and of dark."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(100):
            Image.fromarray(draw.integers(low, low + 128, (16, 16, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder
