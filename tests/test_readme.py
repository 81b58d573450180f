"""What the README says: its commands, its tree, and its numbers, each of which comes from a committed measurement."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from architecture_rules import ROOT
from docs_generator import generate
from markdown import blocks, commands, tree_entries

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = sorted((ROOT / "docs" / "results").glob("*.json"))
MAIN_JOB, TESTS = ["uv", "run", "edgeprune", "run", "quickstart"], ["uv", "run", "pytest"]

MEASURED = re.compile(r"(\d+\.\d+) ?(?:%|ms\b|s\b|MB|kB|MiB|points|x\b)")


def test_the_two_commands_stand_in_it() -> None:
    assert MAIN_JOB in commands(README)
    assert TESTS in commands(README)
    assert ["pip", "install", "uv"] in commands(README)


def test_ci_runs_the_tests_as_the_readme_does() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert " ".join(TESTS) in lines
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_everything_in_its_tree_exists() -> None:
    drawn = tree_entries(README)
    assert set(drawn) >= {"edgeprune/", "export/", "runtimes/", "devices/", "docs/", "tests/"}
    assert not [path for path in drawn if not any(ROOT.glob(path))]


# Numbers -------------------------------------------------------------------------------------------------------------


def test_every_measured_table_is_rendered_from_a_committed_measurement() -> None:
    assert generate.rendered(README) == README
    assert not list(unmarked_tables(README))


def test_every_measured_number_in_the_text_is_one_of_a_committed_measurement() -> None:
    assert not unsupported(README, [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS])


def test_every_results_file_is_shown() -> None:
    shown = re.findall(r"(?m)^<!-- results: (\S+) -->$", "".join(path.read_text() for path in generate.documents(ROOT)))
    assert {path.relative_to(ROOT).as_posix() for path in RESULTS} <= set(shown)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_results_file_says_where_its_numbers_come_from(path: Path) -> None:
    assert not list(faults(json.loads(path.read_text(encoding="utf-8"))))


def written_by_hand(text: str) -> list[str]:
    """The lines that are neither in a block of code nor between marks, nor in a table under one."""
    for block in blocks(text):
        text = text.replace(block.text, "")
    text = re.sub(r"(?ms)^<!-- generated: .*?^<!-- end -->", "", text)
    return re.sub(r"(?m)^<!-- results: \S+ -->\n+(?:\|.*\n?)*", "", text).splitlines()


def unmarked_tables(text: str) -> Iterator[str]:
    """Rows of tables with a measured number, or a spread, that do not stand under a mark."""
    rows = [line for line in written_by_hand(text) if line.startswith("|")]
    yield from (row for row in rows if MEASURED.search(row) or "±" in row)


def unsupported(text: str, measured: list[Mapping[str, Any]]) -> list[str]:
    """Numbers with a unit in the text that are no value of a results file, nor the mean of a row's."""
    rows = [values for content in measured for row in content["rows"] for values in row["values"].values()]
    known = [[value for value in values if value is not None] for values in rows]
    values = [value for one in known for value in (*one, *([fmean(one)] if one else []))]
    told = [number for line in written_by_hand(text) for number in MEASURED.findall(line)]
    return [number for number in told if number not in {f"{v:.{len(number.split('.')[1])}f}" for v in values}]


def faults(content: Mapping[str, Any]) -> Iterator[str]:
    """What a file of results lacks: its origin, or values for each seed of each row."""
    for key in ("recipe", "command", "machine", "versions", "date", "columns", "rows"):
        if not content.get(key):
            yield f"{key} is missing"
    if content.get("schema_version") != 1:
        yield f"schema_version is {content.get('schema_version')}"
    known = {column["key"] for column in content.get("columns", ())}
    for row in content.get("rows", ()):
        if row["values"].keys() - known:
            yield f"{row['label']}: no column for {sorted(row['values'].keys() - known)}"
        short = [key for key, values in row["values"].items() if len(values) != len(row["seeds"])]
        if short or len(set(row["seeds"])) != len(row["seeds"]):
            yield f"{row['label']}: {short or 'seeds'} do not match its seeds {row['seeds']}"


GOOD: dict[str, Any] = {
    "schema_version": 1,
    "recipe": "a",
    "command": "edgeprune run a",
    "machine": {"cpu_model": "x"},
    "versions": {"torch": "2"},
    "date": "2025-11-21",
    "columns": [{"key": "top1", "title": "top-1", "unit": "%", "digits": 1}, {"key": "n", "title": "n", "digits": 0}],
    "rows": [
        {"label": "three|seeds", "seeds": [0, 1, 2], "values": {"top1": [97.0, 98.0, 99.0], "n": [10, None, 10]}},
        {"label": "one seed", "seeds": [0], "values": {"top1": [97.04]}},
        {"label": "no seed", "seeds": [], "values": {"top1": []}},
    ],
}
TABLE = r"""|  | top-1, % | n |
| --- | ---: | ---: |
| three\|seeds | 98.0 ± 1.0 (3) | 10 ± 0 (2) |
| one seed | 97.0 | not run |
| no seed | not run | not run |
"""


def test_a_table_by_hand() -> None:
    assert generate.results(GOOD) == TABLE


def test_a_table_is_put_under_its_mark_and_nothing_else_moves(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(GOOD))
    text = "before\n<!-- results: r.json -->\n\n| 99.9 % | of old |\n\nafter\n"
    made = generate.rendered(text, tmp_path)
    assert made == f"before\n<!-- results: r.json -->\n\n{TABLE}\nafter\n"
    assert generate.rendered(made, tmp_path) == made
    assert generate.rendered("<!-- results: r.json -->\nafter", tmp_path).endswith(f"-->\n\n{TABLE}\nafter")


@pytest.mark.parametrize(
    "row", ["| sparse | 97.31 % |", "| sparse | 1.94 ms |", "| sparse | 97 ± 1 |", "| a | 3.1x |", "| a | 8.2 kB |"]
)
def test_a_number_of_nowhere_is_seen(row: str) -> None:
    assert list(unmarked_tables(f"| a | b |\n| --- | --- |\n{row}\n"))
    assert not list(unmarked_tables(f"<!-- results: x.json -->\n\n{row}\n\ntext"))
    assert not list(unmarked_tables("| pattern | 2:4 |\n| Python | 3.11 |\n"))


def test_a_number_in_the_text_is_looked_up() -> None:
    text = (
        "It is at 98.0 % here, 97.04 % there, and 97.1 % nowhere; Python 3.11, and `0.5` in code.\n```\n3.3 ms\n```\n"
    )
    assert unsupported(text, [GOOD]) == ["97.1"]
    assert unsupported(text, []) == ["98.0", "97.04", "97.1"]


@pytest.mark.parametrize(
    "change",
    [
        {"machine": {}},
        {"schema_version": 2},
        {"rows": [{"label": "a", "seeds": [0, 1], "values": {"top1": [1.0]}}]},
        {"rows": [{"label": "a", "seeds": [0, 0], "values": {"top1": [1.0, 1.0]}}]},
        {"rows": [{"label": "a", "seeds": [0], "values": {"top5": [1.0]}}]},
    ],
)
def test_a_faulty_results_file_is_seen(change: dict[str, Any]) -> None:
    assert list(faults(GOOD | change))
    assert not list(faults(GOOD))
