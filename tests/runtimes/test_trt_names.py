"""Every name that the adapter asks TensorRT for exists in the published bindings, or is asked for first.

`tests/captured/tensorrt-names` holds, for each release, those of the adapter's names that its bindings really have,
written by `tensorrt_names.py`. TensorRT for RTX is asked directly. TensorRT 8.5 has no bindings on a package index:
what holds for 8.6 is taken for it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tensorrt_names import FOLDER, ROOT, known_names, members, named_members

from runtimes.trt_adapter import _MARKS, NAMED, OPTIONAL, REQUIRED
from runtimes.trt_build import _QUANTIZING, _flags_for

LISTS = {path.stem: known_names(path) for path in sorted(FOLDER.glob("*.txt"))}
FILES = [path for path in sorted((ROOT / "runtimes").glob("trt*.py")) if "trtexec" not in path.name]
# Attributes of Python's and our own objects that TensorRT's happen to have too.
OURS = {"append", "clear", "file", "flags", "float32", "format", "int64", "kind", "logger", "message", "nbytes", "read"}
OURS |= {"update", "value", "write"}


@pytest.fixture(scope="module")
def rtx() -> set[str]:
    return members(pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed"))


def test_there_is_a_list_of_each_generation() -> None:
    assert {version.split(".")[0] for version in LISTS} == {"8", "10", "11"}


@pytest.mark.parametrize("version", LISTS)
def test_a_release_has_all_that_is_required(version: str) -> None:
    assert not {*REQUIRED, *NAMED} - LISTS[version]


def test_tensorrt_for_rtx_has_all_that_is_required(rtx: set[str]) -> None:
    assert not set(REQUIRED) - rtx
    assert named_members(pytest.importorskip("tensorrt_rtx"), NAMED) == set(NAMED)


def test_what_is_known_by_its_text_is_in_the_table() -> None:
    """The texts themselves: a misspelt one would be a type or a severity that never comes."""
    known: dict[str, set[str]] = {}
    for name in NAMED:
        known.setdefault(name.split(".")[0], set()).add(name.split(".")[1])
    assert known["ILogger"] == set(_MARKS)
    assert known["LayerType"] == _QUANTIZING
    assert known["DataType"] == {"HALF", "INT8"}
    assert _flags_for(sorted(known["DataType"])) == ("FP16", "INT8")


def test_an_optional_name_is_in_one_release_and_not_in_another(rtx: set[str]) -> None:
    """In none, it would be a slip of the pen; in all, it would be required."""
    lists = [*LISTS.values(), rtx]
    for name in OPTIONAL:
        assert {name in names for names in lists} == {True, False}, name


def test_lists_hold_only_what_is_asked_for() -> None:
    assert not set().union(*LISTS.values()) - {*REQUIRED, *NAMED, *OPTIONAL}


def test_what_the_sources_use_of_tensorrt_is_in_the_table(rtx: set[str]) -> None:
    """By another route: attributes in the syntax trees that TensorRT for RTX has somewhere."""
    known = {part for name in (*REQUIRED, *OPTIONAL) for part in name.split(".")}
    tensorrt_s = {name.split(".")[-1] for name in rtx}
    used = {
        node.attr: path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in tensorrt_s
    }
    assert not {name: file for name, file in used.items() if name not in known | OURS}
    assert used["build_serialized_network"] == "trt_build.py"


def test_what_is_asked_for_by_capability_is_in_the_table() -> None:
    asked = {
        argument.value
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "has"
        for argument in node.args
        if isinstance(argument, ast.Constant)
    }
    assert len(asked) >= 3
    assert asked <= set(OPTIONAL)


def test_optional_names_are_never_plain_attributes() -> None:
    """`error.node_name()` in a source would be an AttributeError on 8.6."""
    optional = {name.split(".")[-1] for name in OPTIONAL} - {"num_compute_capabilities", "set_compute_capability"}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr in optional), f"{path.name}:{node.lineno}"


def test_a_list_is_of_the_release_that_its_name_says() -> None:
    """Of each generation one name that the reference tells of it."""
    strong, explicit = "NetworkDefinitionCreationFlag.STRONGLY_TYPED", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"
    found = {version: (strong in names, explicit in names) for version, names in LISTS.items()}
    assert found == {
        "8.6.1": (False, True),
        "10.3.0": (True, True),
        "10.13.3.9": (True, True),
        "11.4.0.106": (True, False),
    }
    assert Path(FOLDER / "8.6.1.txt").read_text(encoding="utf-8").startswith("# TensorRT 8.6.1:")
