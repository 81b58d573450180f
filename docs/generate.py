"""Write the generated parts of the documentation: `python docs/generate.py`; with `--check`, only say which are stale.

Prose is written by hand. What follows from the code or from results stands between marks in the Markdown files:

    <!-- generated: NAME [ARGUMENT] -->            made by the function that `GENERATORS` has under NAME
    ...
    <!-- end -->

    <!-- results: docs/results/NAME.json -->        the table after it is rendered from the committed measurements
    | ... |
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import statistics
import sys
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.listing import TITLES, facts
from edgeprune.methods import ALIASES, METHODS
from edgeprune.recipe import Part, Recipe, flat, shipped
from edgeprune.tables import TABLES
from export.targets import TARGETS
from runtimes.errors import UserError
from runtimes.files import read_json, write_text
from runtimes.tables import pick, resolve

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 100  # columns of the help pages
NOT_RUN = "not run"

_GENERATED = re.compile(r"(?ms)(?<=^<!-- generated: )([\w-]+)(?: (\S+))? -->\n.*?(?=^<!-- end -->)")
_RESULTS = re.compile(r"(?m)(?<=^<!-- results: )(\S+) -->\n+(?:\|.*\n)*\n*")

# The last part of a recipe key -> the table in which its value is looked up.
_NAMED = {
    "allocation": "allocations",
    "criterion": "criteria",
    "loss": "losses",
    "lr_schedule": "lr-schedules",
    "method": "methods",
    "model": "models",
    "pattern": "patterns",
    "protocol": "protocols",
    "repair": "repairs",
    "runtimes": "runtimes",
    "schedule": "schedules",
    "target": "targets",
    "temperature_schedule": "temperatures",
    "weight_schedule": "weights",
}


def main(arguments: Sequence[str]) -> int:
    """Write, or with `--check` compare; exit code 1 where something is stale."""
    check = "--check" in arguments
    told = {path.relative_to(ROOT): refresh(path, check=check) for path in documents(ROOT)}
    for path, what in told.items():
        if what:
            print(f"{path} {what}")
    return 1 if any(what != "is written" for what in told.values() if what) else 0


def refresh(path: Path, *, check: bool) -> str | None:
    """Make the generated parts of one document anew; what is to be told about it, if anything."""
    text = path.read_text(encoding="utf-8")
    try:
        made = rendered(text)
    except UserError as error:  # a name that is none, or results that are not there
        return f"cannot be made: {error.message}; {error.hint}"
    if made == text:
        return None
    if check:
        return "is stale: run python docs/generate.py"
    write_text(path, made)
    return "is written"


def documents(root: Path) -> list[Path]:
    """The Markdown files: those beside the README, and everything under docs/."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def rendered(text: str, root: Path = ROOT) -> str:
    """A document with everything between its marks made anew."""

    def part(found: re.Match[str]) -> str:
        name, argument = found.groups()
        make: Callable[..., str] = pick(GENERATORS, name, "generated part")
        return f"{found.group().splitlines()[0]}\n\n{make(*[argument] if argument else []).strip()}\n\n"

    def table(found: re.Match[str]) -> str:
        return f"{found.group(1)} -->\n\n{results(read_json(root / found.group(1)))}\n"

    return _RESULTS.sub(table, _GENERATED.sub(part, text))


# Results -------------------------------------------------------------------------------------------------------------


def results(content: Mapping[str, Any]) -> str:
    """A Markdown table of measurements: a row for each label, a column for each number, `mean ± deviation (n)`."""
    columns = content["columns"]
    titles = ["", *(", ".join(filter(None, (column["title"], column.get("unit")))) for column in columns)]
    rows = [
        [str(row["label"]), *(cell(row["values"].get(column["key"]), column["digits"]) for column in columns)]
        for row in content["rows"]
    ]
    return grid(titles, rows, numbers=True)


def cell(values: Sequence[float | None] | None, digits: int) -> str:
    """One value as it is, several as mean ± sample standard deviation (how many); none at all: not run."""
    known = [value for value in values or () if value is not None]
    if not known:
        return NOT_RUN
    if len(known) == 1:
        return f"{known[0]:.{digits}f}"
    return f"{statistics.fmean(known):.{digits}f} ± {statistics.stdev(known):.{digits}f} ({len(known)})"


def grid(titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False) -> str:
    """A Markdown table; `numbers` sets every column but the first flush right."""
    rule = ["---", *["---:" if numbers else "---"] * (len(titles) - 1)]
    lines = [[text.replace("|", r"\|") for text in row] for row in (titles, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])) + "\n"


# The recipe ----------------------------------------------------------------------------------------------------------


def recipe_keys() -> str:
    """A section for each table of the recipe: key, what it may be, default, meaning."""
    sections: dict[tuple[type[Part], str], list[str]] = {}  # equal tables are described once
    for name, part in _parts(Recipe(), ""):
        sections.setdefault((type(part), part.model_dump_json()), []).append(name)
    blocks = []
    for (kind, values), names in sections.items():
        heading = " and ".join(f"`[{name}]`" for name in names) if names != [""] else "At the top"
        blocks.append(f"### {heading}\n\n{_prose(kind)}\n\n{_keys(kind, json.loads(values), names[0])}")
    return "\n".join(blocks)


def methods() -> str:
    """What each named method is, and what it prescribes: a row each."""
    rows = [
        [f"`{name}`", prescribed["summary"], " ".join(f"`{key} = {_toml(value)}`" for key, value in _told(prescribed))]
        for name, prescribed in METHODS.items()
    ]
    rows += [[f"`{alias}`", f"the same as `{real}`", ""] for alias, real in ALIASES.items()]
    return grid(["", "is", "prescribes"], rows)


def _told(prescribed: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a method prescribes against the recipe's defaults."""
    defaults = flat(Recipe().model_dump())
    return ((k, v) for k, v in flat(prescribed).items() if k != "summary" and defaults.get(k) != v)


def rows(table: str) -> str:
    """A section for each row of a table whose rows are addresses: what file and docstring say, and where they stand."""
    sections = []
    for name, address in sorted(pick(TABLES, table, "table").items()):
        found = resolve(str(address))
        module = sys.modules[str(address).partition(":")[0]]
        path = Path(str(module.__file__)).resolve().relative_to(ROOT)
        about = inspect.getdoc(module) if path.stem == name else ""  # the file is this row's own
        said = getattr(found, "note", "") or inspect.getdoc(getattr(found, "score", found))
        title = f"#### `{name}`" if table in ("weights", "temperatures") else f"### `{name}`"
        sections.append(f"{title}\n\n{about}\n\n{said}\n\nIn [{path.name}](../{path.as_posix()}).\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(sections))


def study(folder: str) -> str:
    """The accuracies of a study in `folder`, a column for each sparsity, and how far its own method is ahead."""
    told = read_json(ROOT / folder / "study.json")
    tables = {table["sparsity"]: table for table in told["aggregates"]}
    shares = [f"{100 * sparsity:g} % zeros" for sparsity in tables]
    lines = [
        [f"`{method}`", *(_accuracy(table["lines"], method) for table in tables.values())] for method in told["methods"]
    ]
    ahead = [
        [
            f"`{told['ours']}` - `{method}`",
            *(_ahead(table["contrasts"], told["ours"], method) for table in tables.values()),
        ]
        for method in told["methods"]
        if method != told["ours"]
    ]
    first = grid(["test top-1, %", *shares], lines, numbers=True)
    return f"{first}\n{grid(['difference, points [95 % interval]', *shares], ahead, numbers=True)}"


def _accuracy(lines: Sequence[Mapping[str, Any]], method: str) -> str:
    found = next((line["test_top1"] for line in lines if line["method"] == method), None)
    if not found:
        return NOT_RUN
    return f"{found['mean']:.2f}" + (f" ± {found['deviation']:.2f} ({found['n']})" if found["n"] > 1 else "")


def _ahead(contrasts: Sequence[Mapping[str, Any]], one: str, other: str) -> str:
    pair = ((c["one"], c["other"], c["difference"]) for c in contrasts)
    found = next((difference for a, b, difference in pair if (a, b) == (one, other)), None)
    if not found:
        return NOT_RUN
    edges = found["interval"]
    return f"{found['mean']:+.2f}" + (f" [{edges[0]:+.2f}, {edges[1]:+.2f}]" if edges else " (one seed)")


def bench(folder: str) -> str:
    """The benchmarks whose JSON files lie in `folder`, by name, in one table."""
    from edgeprune.benching.markdown import as_markdown

    return as_markdown([read_json(path) for path in sorted((ROOT / folder).glob("*.json"))])


def roofline(path: str) -> str:
    """The layers of one benchmark that was made with `--layers`."""
    from edgeprune.benching import markdown

    return markdown.roofline(read_json(ROOT / path))


def recipes() -> str:
    """The recipes that ship, each with its own first comment."""
    firsts = {name: path.read_text(encoding="utf-8").splitlines()[0] for name, path in shipped().items()}
    return "\n".join(f"- `{name}`: {first.removeprefix('#').strip()}" for name, first in firsts.items())


def targets() -> str:
    """The catalogue: a table of what devices are, then each with its power modes and the sources of its numbers."""
    columns = ["runtime", "tensorrt", "compute_capability", "sparse_tensor_cores", "precisions", "writes"]
    columns += ["memory_gb", "bandwidth_gbs", "prunes"]
    titles = ["", *(TITLES.get(field, field) for field in columns)]
    known = {name: facts(target) for name, target in TARGETS.items()}
    lines = [[f"`{name}`", *(told.get(field, "") for field in columns)] for name, told in known.items()]
    sections = []
    for name, target in TARGETS.items():
        told = [f"- {TITLES.get(field, field)}: {said}." for field, said in target.sources.items()]
        if target.alias_of:
            told = [f"Another name of `{target.alias_of}`."]
        modes = f"Power modes: {known[name]['power_modes']}.\n\n" if target.power_modes else ""
        sections.append(f"### `{name}`\n\n{target.device}: {target.note}.\n\n{modes}" + "\n".join(told) + "\n")
    return "\n".join([grid(titles, lines), *sections])


def plan(asked: str) -> str:
    """What `edgeprune plan MODEL --target TARGET` prints; `asked` is MODEL@TARGET."""
    from edgeprune.planning import plan_for, written

    model, _, target = asked.partition("@")
    return f"```text\n{written(plan_for(model, target), None, as_json=False)}\n```\n"


def _parts(part: Part, name: str) -> Iterator[tuple[str, Part]]:
    yield name, part
    for field in type(part).model_fields:
        value = getattr(part, field)
        if isinstance(value, Part):
            yield from _parts(value, f"{name}.{field}".lstrip("."))


def _keys(kind: type[Part], values: Mapping[str, Any], section: str) -> str:
    """`values` are the defaults where this table stands, which may not be those of its class."""
    schema, comments = kind.model_json_schema()["properties"], field_comments(kind)
    plain = [name for name in kind.model_fields if not isinstance(kind.model_fields[name].default, Part)]
    rows = []
    for name in plain:
        table = "datasets" if (section, name) == ("data", "name") else _NAMED.get(name)
        allowed = f"`edgeprune list {table}`" if table else allowed_values(schema[name])
        rows.append([f"`{name}`", allowed, f"`{_toml(values[name])}`", comments.get(name, "")])
    return grid(["key", "may be", "default", "meaning"], rows)


def allowed_values(schema: Mapping[str, Any]) -> str:
    """What a JSON schema allows, in words."""
    if "anyOf" in schema:
        return ", or ".join(allowed_values(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if schema["type"] == "array":
        return f"a list of {allowed_values(schema['items'])}"
    words = {"boolean": "`true` or `false`", "integer": "a whole number", "number": "a number", "string": "text"}
    limits = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    said = [f"{word} {schema[key]:g}" for key, word in limits.items() if key in schema]
    return ", ".join([words[schema["type"]], *said])


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if value is not None else "not set"


def _prose(kind: type) -> str:
    """A docstring as one paragraph, without the table's name in front, which is the heading already."""
    said = re.sub(r"^`\[.*?\]`: ", "", " ".join((inspect.getdoc(kind) or "").split()))
    return f"{said[:1].upper()}{said[1:]}"


# Records -------------------------------------------------------------------------------------------------------------


def record(address: str) -> str:
    """The fields of a dataclass, `package.module:Class`: its docstring, then name, type and comment of each field."""
    kind: type = resolve(address)
    comments = field_comments(kind)
    rows = [[f"`{name}`", f"`{typed}`", comments.get(name, "")] for name, typed in _annotations(kind).items()]
    return f"{inspect.getdoc(kind)}\n\n{grid(['field', 'type', 'meaning'], rows)}"


def field_comments(kind: type) -> dict[str, str]:
    """The comment at each field of a class, or above it, those of the classes it extends included."""
    found: dict[str, str] = {}
    for one in reversed([one for one in kind.__mro__ if one.__module__.split(".")[0] in ("edgeprune", "runtimes")]):
        source, fields = _fields(one)
        comments = _comments(source)
        for name, node in fields.items():
            said = _above(comments, node.lineno)
            said += [comments[line][1] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in comments]
            if said:
                found[name] = " ".join(said)
    return found


def _annotations(kind: type) -> dict[str, str]:
    return {name: ast.unparse(node.annotation) for name, node in _fields(kind)[1].items()}


def _fields(kind: type) -> tuple[str, dict[str, ast.AnnAssign]]:
    source = textwrap.dedent(inspect.getsource(kind))
    definition = ast.parse(source).body[0]
    nodes = definition.body if isinstance(definition, ast.ClassDef) else []
    return source, {ast.unparse(node.target): node for node in nodes if isinstance(node, ast.AnnAssign)}


def _comments(source: str) -> dict[int, tuple[bool, str]]:
    """Line number -> (whether the comment has the line to itself, its text)."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {
        token.start[0]: (not token.line[: token.start[1]].strip(), token.string.removeprefix("#").strip())
        for token in tokens
        if token.type == tokenize.COMMENT
    }


def _above(comments: Mapping[int, tuple[bool, str]], line: int) -> list[str]:
    alone, text = comments.get(line - 1, (False, ""))
    return [*_above(comments, line - 1), text] if alone else []


# The command line ----------------------------------------------------------------------------------------------------


def verbs() -> str:
    """The help page of the program and of each verb, as a terminal of `WIDTH` columns shows it."""
    import typer
    from typer.main import get_command

    from edgeprune.cli import app

    program: Any = get_command(app)
    top = typer.Context(program, info_name="edgeprune", terminal_width=WIDTH)
    pages = {"edgeprune": program.get_help(top)}
    for name, command in program.commands.items():
        pages[f"edgeprune {name}"] = command.get_help(
            typer.Context(command, info_name=name, parent=top, terminal_width=WIDTH)
        )
    return "\n".join(f"## {name}\n\n```text\n{_trimmed(page)}\n```\n" for name, page in pages.items())


def _trimmed(page: str) -> str:
    return "\n".join(line.rstrip() for line in page.strip().splitlines())


GENERATORS: dict[str, Callable[..., str]] = {
    "bench": bench,
    "methods": methods,
    "plan": plan,
    "recipe-keys": recipe_keys,
    "recipes": recipes,
    "record": record,
    "roofline": roofline,
    "rows": rows,
    "study": study,
    "targets": targets,
    "verbs": verbs,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
