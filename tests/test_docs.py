"""The documentation is true: generated parts are current, links lead somewhere, commands are ones that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from architecture_rules import ROOT
from docs_generator import generate
from markdown import anchors, blocks, broken_links, commands, edgeprune_commands, tree_entries

from edgeprune.recipe import Part, Recipe, shipped

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# Generated parts -----------------------------------------------------------------------------------------------------


def test_every_generated_part_is_current() -> None:
    """What `python docs/generate.py --check` says."""
    assert generate.main(["--check"]) == 0


def test_a_stale_part_is_told_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text("# Page\n\n<!-- generated: recipes -->\nof old\n<!-- end -->\nby hand\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    assert generate.main(["--check"]) == 1
    assert "of old" in text_of(page)
    assert generate.main([]) == 0
    assert "- `quickstart`: " in text_of(page)
    assert text_of(page).endswith("<!-- end -->\nby hand\n")
    assert generate.main(["--check"]) == 0


def test_every_key_of_the_recipe_is_told_with_its_meaning() -> None:
    told, parts = generate.recipe_keys(), dict(generate._parts(Recipe(), ""))
    assert set(re.findall(r"(?:### | and )`\[(.*?)\]`", told)) == parts.keys() - {""}
    plain = {field for part in parts.values() for field, value in part if not isinstance(value, Part)}
    assert set(re.findall(r"(?m)^\| `(\w+)` \|", told)) == plain
    assert "share of the prunable weights that become zero" in told


def test_comments_are_found_behind_above_and_in_the_classes_below() -> None:
    from edgeprune.recipe import Student
    from runtimes.records import Measurement

    assert generate.field_comments(Measurement)["n"] == "latency samples"
    assert "the learning rate rises" in generate.field_comments(Student)["warmup"]


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 1}, "a number, above 0, at most 1"),
        ({"anyOf": [{"type": "integer", "minimum": 2}, {"type": "null"}]}, "a whole number, at least 2"),
        (
            {"anyOf": [{"enum": ["a", "b"], "type": "string"}, {"type": "boolean"}]},
            '`"a"`, `"b"`, or `true` or `false`',
        ),
        ({"type": "array", "items": {"type": "string"}}, "a list of text"),
    ],
)
def test_what_may_stand_in_a_recipe_is_put_in_words(schema: dict[str, object], words: str) -> None:
    assert generate.allowed_values(schema) == words


# Links and commands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path: Path) -> None:
    assert not broken_links(path, text_of(path))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_is_one_that_edgeprune_has(path: Path) -> None:
    assert not [complaint for words in edgeprune_commands(text_of(path)) for complaint in misunderstood(words)]


@pytest.mark.parametrize(
    "line",
    [
        "prume x",
        "run quickstart --sed 3",
        "run quickstrat",
        "run quickstart --set prune.sparcity=0.9",
        "run --set seed",
    ],
)
def test_a_command_it_has_not_is_seen(line: str) -> None:
    assert misunderstood(line.split())


def misunderstood(words: list[str]) -> Iterator[str]:
    """What edgeprune would not understand of a command: the verb, an option, a key of the recipe, a recipe's name."""
    from typer.main import get_command

    from edgeprune.cli import app

    program = get_command(app)
    if words[0].startswith("-"):
        return
    verb = program.commands.get(words[0])  # type: ignore[attr-defined]
    if verb is None:
        yield f"{words}: no verb {words[0]}"
        return
    options = {option for parameter in verb.params for option in parameter.opts} | {"--help"}
    yield from (f"{words}: no option {word}" for word in words if word.startswith("--") and word not in options)
    keys = {
        f"{name}.{key}".lstrip(".") for name, part in generate._parts(Recipe(), "") for key in type(part).model_fields
    }
    settings = [value for option, value in pairwise(words) if option == "--set"]
    yield from (f"{words}: no key {one}" for one in settings if "=" not in one or one.split("=")[0] not in keys)
    if words[0] == "run" and not re.search(r"[./]|^[A-Z]+$|^-", words[1]) and words[1] not in shipped():
        yield f"{words}: no recipe {words[1]}"


# How Markdown is read ------------------------------------------------------------------------------------------------

PAGE = """# A page: of `text`!

See [one](one.md#a-part), [two](#nowhere), [web](https://example.org/x).

```sh
uv run edgeprune run quickstart \\
    --seed 1  # a comment
make check
```

```
pack/   what it is
├── one.py two.py   START HERE
│   inner/
│     deep-{a,b}.md
last/
```

```text
pack/none   no drawing
```
"""


def test_commands_are_joined_and_split() -> None:
    assert commands(PAGE) == [["uv", "run", "edgeprune", "run", "quickstart", "--seed", "1"], ["make", "check"]]
    assert edgeprune_commands(PAGE) == [["run", "quickstart", "--seed", "1"]]
    assert [block.language for block in blocks(PAGE)] == ["sh", "", "text"]


def test_a_drawing_becomes_paths() -> None:
    drawn = [
        "pack/",
        "pack/one.py",
        "pack/two.py",
        "pack/inner/",
        "pack/inner/deep-a.md",
        "pack/inner/deep-b.md",
        "last/",
    ]
    assert tree_entries(PAGE) == drawn


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("## A part\n")
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert broken_links(page, PAGE) == ["page.md: #nowhere"]
    (tmp_path / "one.md").write_text("## Another part\n")
    assert broken_links(page, PAGE) == ["page.md: one.md#a-part", "page.md: #nowhere"]
    (tmp_path / "one.md").unlink()
    assert broken_links(page, PAGE) == ["page.md: one.md#a-part", "page.md: #nowhere"]
    assert anchors(PAGE) == {"a-page-of-text"}
