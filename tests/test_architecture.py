"""The packages keep to the design: who imports whom and when, how long things are, what they are called.

Each rule is a function in `architecture_rules.py`; beside every check stands a snippet that it must complain about.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from architecture_rules import (
    LEARNING,
    MAY_IMPORT,
    OURS,
    PACKAGES,
    ROOT,
    Source,
    allowed_for,
    function_lengths,
    imported,
    newer_than,
    percentile,
    reached_at_import,
    read_sources,
    tells_where,
    too_long,
    unannotated,
    undocumented,
    vaguely_named,
    wrong_imports,
)

SOURCES = read_sources(ROOT, PACKAGES)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

# What may be imported along with a module, through whatever chain of ours.
LIGHT = frozenset({"numpy", "pydantic", "jinja2", "matplotlib"})
MAY_REACH = {
    "edgeprune.cli*": frozenset({"typer"}),
    "edgeprune.recipe": LIGHT,
    "edgeprune.tables": LIGHT,
    "edgeprune.rundir": LIGHT,
    "edgeprune.report*": LIGHT,
    "edgeprune.prune*": LEARNING,
    "edgeprune.distill*": LEARNING,
    "edgeprune.train": LEARNING,
    "edgeprune.optimise": LEARNING,
}


def python(text: str, path: str = "edgeprune/snippet.py") -> Source:
    return Source(path, text)


def reaching(rules: dict[str, frozenset[str]], sources: list[Source]) -> list[str]:
    found = []
    for module in (source.module for source in sources):
        if allowed := allowed_for(module, rules):
            reached = reached_at_import(module, sources)
            found += [f"{module} reaches {name}: {chain}" for name, chain in reached.items() if name not in allowed]
    return found


# Imports -------------------------------------------------------------------------------------------------------------


def test_the_four_packages_lie_side_by_side() -> None:
    assert tuple(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == PACKAGES
    assert {source.package for source in SOURCES} == set(PACKAGES)
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)


def test_every_file_imports_only_what_its_place_allows() -> None:
    assert not [line for source in SOURCES for line in wrong_imports(source, allowed_for(source.path, MAY_IMPORT))]


def test_every_library_is_declared_or_brought_by_one_that_is() -> None:
    declared = {*PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"]}
    brought_by = {"sklearn": "scikit-learn", "PIL": "torchvision", "markupsafe": "jinja2"}
    peers = {"openvino", "deepsparse"}  # compared with where somebody has them, and never installed by us
    libraries = frozenset().union(*MAY_IMPORT.values()) - OURS - peers
    assert {brought_by.get(name, name) for name in libraries} <= declared


def test_nothing_heavy_is_imported_before_it_is_used() -> None:
    assert not reaching(MAY_REACH, SOURCES)


def test_every_rule_is_about_something() -> None:
    """A rule that fits no file holds nothing; the one for TensorRT is there before its file."""
    for pattern in MAY_IMPORT.keys() - {"runtimes/trt*.py"}:
        assert any(allowed_for(source.path, {pattern: LEARNING}) for source in SOURCES), pattern
    for pattern in MAY_REACH:
        assert any(allowed_for(source.module, {pattern: LEARNING}) for source in SOURCES), pattern


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("edgeprune.cli", {"torch", "pydantic", "numpy", "onnx", "rich"}),
        ("edgeprune.recipe, edgeprune.rundir, edgeprune.report.collect", {"torch", "torchvision", "onnx"}),
        ("edgeprune.prune, edgeprune.train", {"torchvision", "sklearn", "onnx", "typer", "jinja2"}),
    ],
)
def test_python_agrees(module: str, absent: set[str]) -> None:
    """The same by another route: import it in a fresh interpreter and look."""
    code = f"import sys, {module}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert absent.isdisjoint(found.stdout.split())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("runtimes/measure.py", "import torch"),
        ("runtimes/null.py", "def load():\n    import onnxruntime"),
        ("runtimes/records.py", "from devices import Device"),
        ("runtimes/trt.py", "import onnxruntime"),
        ("devices/local.py", "from export.bundle import write_bundle"),
        ("export/to_onnx.py", "from edgeprune.recipe import Recipe"),
        ("export/targets/__init__.py", "import devices.local as local"),
        ("export/sizes.py", "import importlib\nimportlib.import_module('edgeprune')"),
        ("edgeprune/verbs.py", "import typer"),
        ("edgeprune/steps/export.py", "import onnx.helper"),
        ("edgeprune/doctor.py", "import onnxruntime"),
        ("edgeprune/train.py", "import torchvision"),
        ("edgeprune/prune/criteria/magnitude.py", "import sklearn"),
        ("edgeprune/recipe.py", "import click"),
        ("elsewhere/file.py", "import torch"),
    ],
)
def test_an_import_out_of_place_is_seen(path: str, text: str) -> None:
    assert wrong_imports(python(text, path), allowed_for(path, MAY_IMPORT))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("runtimes/ort.py", "def load():\n    import onnxruntime"),
        ("runtimes/trt_polygraphy.py", "import tensorrt"),
        ("edgeprune/cli.py", "import typer\nfrom edgeprune import recipe"),
        ("export/graph.py", "from runtimes.errors import UserError\nimport onnx, torch"),
        ("edgeprune/prune/masks.py", "import hashlib\nfrom ..layers import weights"),
    ],
)
def test_an_import_in_its_place_is_not(path: str, text: str) -> None:
    assert not wrong_imports(python(text, path), allowed_for(path, MAY_IMPORT))


def test_what_is_reached_is_told_with_the_way_there() -> None:
    sources = [
        python("from edgeprune import two", "edgeprune/one.py"),
        python("if TYPE_CHECKING:\n    import onnx\nelse:\n    import three", "edgeprune/two.py"),
        python("class A:\n    import torch.nn", "three/__init__.py"),
        python("def f():\n    import pydantic", "edgeprune/__init__.py"),
    ]
    assert reached_at_import("edgeprune.one", sources) == {"torch": "edgeprune.one > edgeprune.two > three"}
    assert reaching({"edgeprune.one": frozenset({"numpy"})}, sources)
    assert not reaching({"edgeprune.one": frozenset({"torch"})}, sources)


def test_a_package_above_is_reached_too() -> None:
    sources = [python("import torch", "edgeprune/__init__.py"), python("", "edgeprune/cli.py")]
    assert reached_at_import("edgeprune.cli", sources) == {"torch": "edgeprune.cli > edgeprune"}


def test_relative_imports_are_resolved() -> None:
    assert set(imported(python("from . import masks\nfrom ..layers import x", "edgeprune/prune/a.py"))) == {
        "edgeprune.prune",
        "edgeprune.prune.masks",
        "edgeprune.layers",
        "edgeprune.layers.x",
    }


# Size, signatures, docstrings, names ---------------------------------------------------------------------------------


def test_nine_functions_in_ten_have_at_most_26_lines() -> None:
    assert percentile(function_lengths(SOURCES).values(), 0.9) <= 26


def test_no_function_is_a_page_long() -> None:
    assert not {name: lines for name, lines in function_lengths(SOURCES).items() if lines > 60}


def test_no_file_has_more_than_400_lines() -> None:
    checked = [*SOURCES, *read_sources(ROOT, ["tests", "docs"])]
    assert not [line for source in checked for line in too_long(source, 400)]


def test_every_signature_is_annotated() -> None:
    assert not [line for source in SOURCES for line in unannotated(source)]


def test_everything_public_is_documented() -> None:
    assert not [line for source in SOURCES for line in undocumented(source)]


def test_nothing_is_called_utils() -> None:
    assert not [line for source in SOURCES for line in vaguely_named(source)]


def test_what_runs_on_a_device_is_python_3_8() -> None:
    assert not [line for source in SOURCES if source.package == "runtimes" for line in newer_than(source, (3, 8))]


def test_lengths_count_from_def_to_the_end() -> None:
    source = python('@cache\ndef f():\n    """One\n    two."""\n\n    def g(): ...\n    return g\n')
    assert list(function_lengths([source]).values()) == [6, 1]


@pytest.mark.parametrize(("values", "p90"), [([1], 1), ([*range(1, 11)], 9), ([5] * 9 + [9], 5), ([5] * 8 + [9, 9], 9)])
def test_percentile_by_hand(values: list[int], p90: int) -> None:
    assert percentile(values, 0.9) == p90


def test_a_long_file_is_seen() -> None:
    assert too_long(python("\n" * 401), 400) == ["edgeprune/snippet.py has 401 lines"]
    assert not too_long(python("\n" * 400), 400)


@pytest.mark.parametrize("taken", ["x", "*x", "**x", "*, x", "x, /"])
def test_a_bare_signature_is_seen(taken: str) -> None:
    assert unannotated(python(f"class A:\n    def f({taken}) -> int: ..."))
    assert unannotated(python("def f(): ..."))


def test_a_full_signature_is_not() -> None:
    assert not unannotated(python("class A:\n    def f(self, x: int, *y: int, **z: int) -> None: ..."))


@pytest.mark.parametrize(
    "text",
    ["", "def f(): ...", "class A: ...", 'class A:\n    """D."""\n\n    def f(self): ...'],
)
def test_a_missing_docstring_is_seen(text: str) -> None:
    assert len(undocumented(python(f"x = 1\n{text}"))) == (2 if text else 1)


def test_private_things_protocols_and_forward_need_no_docstring_again() -> None:
    protocol = 'class P:\n    """D."""\n\n    def run(self):\n        """R."""\n'
    fulfilled = 'class A:\n    """D."""\n\n    def run(self): ...\n    def forward(self): ...\n'
    assert not undocumented(python(f'"""M."""\ndef _f(): ...\n{protocol}{fulfilled}'))
    assert not undocumented(python(""))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("export/utils.py", ""),
        ("export/_helpers.py", ""),
        ("edgeprune/a.py", "class BaseThing: ..."),
        ("a/b.py", "class RunManager: ..."),
    ],
)
def test_a_vague_name_is_seen(path: str, text: str) -> None:
    assert vaguely_named(python(text, path))


def test_a_plain_name_is_not() -> None:
    assert not vaguely_named(python("class Database: ...", "edgeprune/data/basis.py"))


@pytest.mark.parametrize("text", ["match x:\n    case 1: ...", "with (a as b, c as d): ...", "try: 1\nexcept* E: 2"])
def test_newer_syntax_is_seen(text: str) -> None:
    assert newer_than(python(text), (3, 8))
    assert not newer_than(python("if (n := 1): ..."), (3, 8))


# Text ----------------------------------------------------------------------------------------------------------------


def committed() -> Iterator[Path]:
    """Every file but those that .gitignore names and git's own."""
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name != ".git" and f"{name}/" not in ignored]
        yield from (Path(folder, name) for name in files if name not in ignored and not name.endswith(".pyc"))


def test_no_file_names_a_machine_or_a_package_index() -> None:
    complaints = []
    for path in committed():
        content = path.read_bytes()
        if b"\0" not in content:
            complaints += tells_where(path.relative_to(ROOT).as_posix(), content.decode("utf-8", "replace"))
    assert not complaints


WORK, ROOT_HOME, PYPI = "work", "root", "pypi"  # in pieces, or this file would be found guilty itself


@pytest.mark.parametrize(
    "text",
    [
        f"x = '/{WORK}/data'",
        f"cd /{ROOT_HOME}/x",
        f"see /{'home'}/jane/a",
        f"https://{PYPI}.org/",
        f"files.{'python'}hosted",
    ],
)
def test_a_place_of_somebodys_own_is_seen(text: str) -> None:
    assert tells_where("a.md", text) == [f"a.md:1 {text}"]


@pytest.mark.parametrize("text", ["runs/work/x", "a.work/b", "/sys/class", "the package index", "~/root/x"])
def test_a_place_of_everybodys_is_not(text: str) -> None:
    assert not tells_where("a.md", text)
