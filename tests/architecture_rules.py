"""The rules of the house as functions from source text to complaints; `test_architecture.py` holds the code to them.

A complaint is one line that begins with the file and says what is wrong. No complaint: an empty list.
"""

from __future__ import annotations

import ast
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("edgeprune", "export", "runtimes", "devices")

LEARNING = frozenset({"torch", "numpy", "pydantic", "safetensors"})
HOST = LEARNING | {"torchvision", "sklearn", "PIL", "matplotlib", "jinja2", "markupsafe", "rich"}
OURS = frozenset({"export", "devices", "runtimes"})

# What a file may import, anywhere in it, beside the standard library and its own package; the first pattern that fits.
MAY_IMPORT = {
    "runtimes/ort.py": frozenset({"numpy", "onnxruntime"}),
    "runtimes/openvino.py": frozenset({"numpy", "openvino"}),
    "runtimes/deepsparse.py": frozenset({"numpy", "deepsparse"}),
    "runtimes/trt*.py": frozenset({"numpy", "tensorrt"}),
    "runtimes/*": frozenset({"numpy"}),
    "devices/*": frozenset({"numpy", "runtimes"}),
    "export/*": frozenset({"numpy", "torch", "onnx", "runtimes"}),
    "edgeprune/cli*.py": frozenset({"typer", "runtimes"}),
    "edgeprune/prune/*": LEARNING | OURS,
    "edgeprune/distill/*": LEARNING | OURS,
    "edgeprune/train.py": LEARNING | OURS,
    "edgeprune/optimise.py": LEARNING | OURS,
    "edgeprune/*": HOST | OURS,
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
BANNED_MODULES = frozenset({"base", "common", "helper", "helpers", "misc", "util", "utils"})
BANNED_CLASSES = ("Base*", "*Manager", "*Helper")


@dataclass(frozen=True)
class Source:
    """One Python file: `path` relative to the folder in which the packages lie, and its text."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text, self.path)

    @property
    def package(self) -> str:
        """The top-level package it belongs to."""
        return PurePosixPath(self.path).parts[0]

    @property
    def module(self) -> str:
        """Its import name."""
        parts = PurePosixPath(self.path).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_sources(root: Path, packages: Iterable[str]) -> list[Source]:
    """Every Python file of the packages that lie in `root`."""
    paths = [path for package in packages for path in sorted((root / package).rglob("*.py"))]
    return [Source(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


# Imports -------------------------------------------------------------------------------------------------------------


def imported(source: Source, *, at_import_time: bool = False) -> dict[str, int]:
    """Dotted names that a file imports, and the line of each; `from a import b` gives `a` and `a.b`.

    `at_import_time` leaves out what stands in functions and under `if TYPE_CHECKING`. A call of `import_module` or
    `__import__` with a constant counts like a statement.
    """
    nodes = _run_on_import(source.tree) if at_import_time else ast.walk(source.tree)
    return {name: line for node in nodes for name, line in _names(node, source)}


def wrong_imports(source: Source, allowed: frozenset[str]) -> list[str]:
    """Imports of anything but the standard library, the file's own package and `allowed`."""
    fine = allowed | sys.stdlib_module_names | {source.package}
    wrong = {name.split(".")[0]: line for name, line in imported(source).items() if name.split(".")[0] not in fine}
    return [f"{source.path}:{line} imports {name}" for name, line in wrong.items()]


def allowed_for(path: str, rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """What the first rule whose pattern fits `path` allows; no rule, nothing."""
    return next((allowed for pattern, allowed in rules.items() if fnmatchcase(path, pattern)), frozenset())


def reached_at_import(start: str, sources: Iterable[Source]) -> dict[str, str]:
    """Other people's modules that are imported when module `start` is, each with the chain of ours that leads there."""
    known = {source.module: source for source in sources}
    chains, waiting = {start: start}, [start]
    found: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        for name in _with_parents(imported(known[module], at_import_time=True), module):
            top = name.split(".")[0]
            if name in known and name not in chains:
                chains[name] = f"{chains[module]} > {name}"
                waiting.append(name)
            elif top not in sys.stdlib_module_names and not any(top == ours.split(".")[0] for ours in known):
                found.setdefault(top, chains[module])
    return found


def _with_parents(names: Iterable[str], module: str) -> Iterator[str]:
    """Importing `a.b.c` runs `a` and `a.b` first; so does being in them."""
    for name in (*names, module):
        parts = name.split(".")
        yield from (".".join(parts[: end + 1]) for end in range(len(parts)))


def _run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _run_on_import(other)
            continue
        yield child
        yield from _run_on_import(child)


def _names(node: ast.AST, source: Source) -> Iterator[tuple[str, int]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, node.lineno) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        module = _absolute(node, source)
        yield module, node.lineno
        yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
        yield from ((str(part.value), node.lineno) for part in node.args[:1] if isinstance(part, ast.Constant))


def _absolute(node: ast.ImportFrom, source: Source) -> str:
    if not node.level:
        return node.module or ""
    place = PurePosixPath(source.path).parts[: -node.level]
    return ".".join([*place, *([node.module] if node.module else [])])


# Size, signatures, docstrings, names ---------------------------------------------------------------------------------


def function_lengths(sources: Iterable[Source]) -> dict[str, int]:
    """`file:name` of every function, nested ones too, and its lines from `def` to the end, docstring included."""
    return {
        f"{source.path}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, Function)
    }


def percentile(values: Iterable[int], share: float) -> int:
    """The smallest of `values` that at least `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def too_long(source: Source, most: int) -> list[str]:
    """A file of more than `most` lines."""
    lines = len(source.text.splitlines())
    return [f"{source.path} has {lines} lines"] if lines > most else []


def unannotated(source: Source) -> list[str]:
    """Functions with a parameter (but `self` and `cls`) or a result that has no annotation."""
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, Function):
            bare = [one.arg for one in _parameters(node) if one.annotation is None and one.arg not in ("self", "cls")]
            bare += [] if node.returns is not None else ["the result"]
            found += [f"{source.path}:{node.lineno} {node.name}: {', '.join(bare)}"] if bare else []
    return found


def undocumented(source: Source) -> list[str]:
    """A module, or anything public in it, without a docstring.

    A method may go without one where a method of the same name in the same file has it (the protocol that it fulfils),
    and so may `forward`, which torch documents.
    """
    documented = {node.name for node in ast.walk(source.tree) if isinstance(node, Function) and ast.get_docstring(node)}
    missing = [] if ast.get_docstring(source.tree) or not source.text.strip() else [f"{source.path}: the module"]
    for owner, node in _public(source.tree):
        excused = isinstance(owner, ast.ClassDef) and node.name in documented | {"forward"}
        if not ast.get_docstring(node) and not excused:
            missing.append(f"{source.path}:{node.lineno} {node.name}")
    return missing


def vaguely_named(source: Source) -> list[str]:
    """Modules called utils and the like, classes called Base... or ...Manager."""
    stem = PurePosixPath(source.path).stem
    found = [f"{source.path} is called {stem}"] if stem.strip("_") in BANNED_MODULES else []
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    return found + [
        f"{source.path}:{node.lineno} has a class {node.name}"
        for node in classes
        if any(fnmatchcase(node.name.strip("_"), pattern) for pattern in BANNED_CLASSES)
    ]


def newer_than(source: Source, version: tuple[int, int]) -> list[str]:
    """Syntax that a Python of `version` does not have."""
    try:
        ast.parse(source.text, source.path, feature_version=version)
    except SyntaxError as error:
        return [f"{source.path}:{error.lineno} {error.msg}"]
    return []


def _parameters(node: Function) -> list[ast.arg]:
    given = node.args
    return [one for one in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg) if one]


def _public(owner: ast.Module | ast.ClassDef) -> Iterator[tuple[ast.AST, Function | ast.ClassDef]]:
    for node in owner.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield owner, node
            if isinstance(node, ast.ClassDef):
                yield from _public(node)


# Text ----------------------------------------------------------------------------------------------------------------

# Written so that this file does not complain about itself.
_MACHINE = r"(?<![\w.~-])/(?:work|root|home/[a-z]\w*)/"
_INDEX = r"pypi\.|python[h]osted|download\.pytorch"
_PLACE = re.compile(f"{_MACHINE}|{_INDEX}", re.IGNORECASE)


def tells_where(path: str, text: str) -> list[str]:
    """Lines that name a folder of somebody's machine or the host of a package index."""
    lines = enumerate(text.splitlines(), start=1)
    return [f"{path}:{number} {line.strip():.80}" for number, line in lines if _PLACE.search(line)]
