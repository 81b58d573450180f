"""What tests read out of Markdown: fenced blocks, commands, links, headings, and drawings of folder trees."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"(?ms)^```(\S*)[^\n]*\n(.*?)^```$")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_BRACES = re.compile(r"\{([^{}]*)\}")


class Block(NamedTuple):
    """A fenced block: what is said behind its fence, and its lines."""

    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks in order."""
    return [Block(*found) for found in _FENCE.findall(text)]


def commands(text: str) -> list[list[str]]:
    """The words of each command in `sh` blocks, without comments; a backslash continues a line."""
    lines = [line for block in blocks(text) if block.language == "sh" for line in _joined(block.text)]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def edgeprune_commands(text: str) -> list[list[str]]:
    """The commands that call edgeprune, from the verb on."""
    told = [words[2:] if words[:2] == ["uv", "run"] else words for words in commands(text)]
    return [words[1:] for words in told if words[0] == "edgeprune"]


def broken_links(path: Path, text: str) -> list[str]:
    """Links to a file that is not there, or to a heading that its file does not have."""
    return [f"{path.name}: {link}" for link in local_links(text) if not _leads_somewhere(path, link)]


def local_links(text: str) -> list[str]:
    """Where links and images point, but for those into the web; blocks of code have none."""
    return [
        link for link in _LINK.findall(_FENCE.sub("", text)) if "://" not in link and not link.startswith("mailto:")
    ]


def anchors(text: str) -> set[str]:
    """The names of the headings as GitHub makes them: lower case, spaces to hyphens, other signs dropped."""
    headings = re.findall(r"(?m)^#+ +(.*?) *$", _FENCE.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tree_entries(text: str) -> list[str]:
    """The paths in drawings of a tree: blocks without a language that begin with a folder's name.

    Deeper entries are indented further; a line may name several, and what follows two spaces is a remark. A name may
    have a glob's signs and `{a,b}` in it.
    """
    drawings = [block.text for block in blocks(text) if not block.language and re.match(r"[\w-]+/( |\n)", block.text)]
    return [path for drawing in drawings for path in _drawn(drawing)]


def _drawn(drawing: str) -> Iterator[str]:
    above: list[tuple[int, str]] = []
    for line in drawing.splitlines():
        plain = re.sub(r"[│├└─]", " ", line)
        if not plain.strip():
            continue
        depth = len(plain) - len(plain.lstrip())
        names = re.split(r" {2,}", plain.strip())[0].split(" ")
        above = [(deep, name) for deep, name in above if deep < depth]
        folder = "".join(name for _, name in above)
        yield from (f"{folder}{one}" for name in names for one in _expanded(name))
        if names[-1].endswith("/"):
            above.append((depth, names[-1]))


def _expanded(name: str) -> list[str]:
    found = _BRACES.search(name)
    if not found:
        return [name]
    return [one for choice in found[1].split(",") for one in _expanded(name.replace(found[0], choice, 1))]


def _joined(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


def _leads_somewhere(path: Path, link: str) -> bool:
    place, _, heading = link.partition("#")
    target = (path.parent / place) if place else path
    if not target.exists():
        return False
    return not heading or heading in anchors(target.read_text(encoding="utf-8"))
