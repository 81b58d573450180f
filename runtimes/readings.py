"""Reading what a machine says about itself: files of /proc and /sys, each a value or None with the reason.

A parser is a pure function of a file's text; `root` is where the file system starts, so that captured trees are read
the same way.
"""

import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

ROOT_NAME = "EDGEPRUNE_ROOT"  # environment: a made-up board's files lie there; every measurement then says so
ROOT = Path(os.environ.get(ROOT_NAME) or "/")
CPU_RANGE = r"(\d{1,5})(?:-(\d{1,5}))?"  # of processors; no machine has more, and so many can be written out


class Reading(NamedTuple):
    """A value, or None and the reason why there is none."""

    value: Any
    reason: Optional[str] = None


def read(path: str, parse: Callable[[str], Any] = str.strip, root: Path = ROOT) -> Reading:
    """What `parse` makes of the file at `path` under `root`."""
    try:
        text = (root / path).read_bytes().decode("utf-8", "replace").replace("\0", " ")
        value = parse(text)
    except OSError as error:
        return Reading(None, "/{}: {}".format(path, os.strerror(error.errno or 0)))
    except ValueError:
        value = None
    return Reading(value) if value not in (None, "") else Reading(None, "/{}: not in a known form".format(path))


def parse_number(text: str) -> Optional[int]:
    """A file that holds one whole number, decimal or 0x hexadecimal."""
    found = re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", text.strip())
    return int(text, 0 if "x" in text else 10) if found else None


def parse_sizes(text: str) -> Dict[str, int]:
    """/proc/meminfo or /proc/<pid>/status: the lines that carry kB, key -> bytes."""
    lines = re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d+) kB$", text, re.MULTILINE)
    return {key: int(kilobytes) * 1024 for key, kilobytes in lines}


def parse_cpu_list(text: str) -> List[int]:
    """A kernel CPU list such as `0-3,6`: [0, 1, 2, 3, 6]; what is none, or names one above 99999, is a ValueError."""
    cpus: List[int] = []
    for part in filter(None, text.strip().split(",")):
        found = re.fullmatch(CPU_RANGE, part)
        if found is None:
            raise ValueError("these are no processors: {}".format(part))
        cpus.extend(range(int(found.group(1)), int(found.group(2) or found.group(1)) + 1))
    return cpus


def numbered(path: Path) -> int:
    """The number at the end of a file's name, by which the kernel's entries are sorted: `policy10` after `policy9`."""
    found = re.search(r"\d+$", path.name)
    return int(found.group()) if found else -1
