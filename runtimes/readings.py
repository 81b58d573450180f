"""Reading what a machine says about itself: files of /proc and /sys, each a value or None with the reason.

A parser is a pure function of a file's text; `root` is where the file system starts, so that captured trees are read
the same way.
"""

import os
import re
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional

ROOT_NAME = "EDGEPRUNE_ROOT"  # environment: a made-up board's files lie there; every measurement then says so
ROOT = Path(os.environ.get(ROOT_NAME) or "/")


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
