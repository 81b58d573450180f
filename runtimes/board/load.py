"""What else the machine is busy with: swap, and programs that are not ours."""

import os
import re
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Set

from runtimes.readings import ROOT, Reading, parse_sizes, read

_WATCH_S = 0.25
_BUSY = 0.10  # of one processor


class _Process(NamedTuple):
    name: str
    parent: int
    ticks: int  # of user and system time


def parse_swap_used(text: str) -> Optional[int]:
    """/proc/meminfo: bytes in use in all swap; 0 where there is no swap."""
    sizes = parse_sizes(text)
    return sizes["SwapTotal"] - sizes["SwapFree"] if {"SwapTotal", "SwapFree"} <= set(sizes) else None


def parse_process(text: str) -> Optional[_Process]:
    """/proc/<pid>/stat. The name stands in brackets and may hold blanks and brackets itself."""
    found = re.fullmatch(r"\d+ \((.*)\) \S+ (\d+) (?:\S+ ){9}(\d+) (\d+) .*", text.strip(), re.DOTALL)
    return _Process(found.group(1), int(found.group(2)), int(found.group(3)) + int(found.group(4))) if found else None


def swap_used_bytes(root: Path = ROOT) -> Reading:
    """Bytes in use in all swap."""
    return read("proc/meminfo", parse_swap_used, root)


def busy_programs(root: Path = ROOT, watch_s: float = _WATCH_S) -> Reading:
    """Names of programs that use more than a tenth of a processor while this watches for `watch_s` seconds.

    This process and all that it started are left out. Only names: a command line may hold secrets.
    """
    before = _processes(root)
    if not before:
        return Reading(None, "/proc shows no process")
    begin_s = time.monotonic()
    time.sleep(watch_s)
    after, passed_s = _processes(root), time.monotonic() - begin_s
    least = _BUSY * passed_s * os.sysconf("SC_CLK_TCK")
    ours = _family(after, os.getpid())
    busy = {
        process.name
        for pid, process in after.items()
        if pid not in ours and pid in before and process.ticks - before[pid].ticks > least
    }
    return Reading(sorted(busy))


def _processes(root: Path) -> Dict[int, _Process]:
    found = {}
    for folder in (root / "proc").glob("[0-9]*"):
        process = read("proc/{}/stat".format(folder.name), parse_process, root).value
        if process is not None:
            found[int(folder.name)] = process
    return found


def _family(processes: Dict[int, _Process], pid: int) -> Set[int]:
    """A process, all that it started, and all that they started."""
    children: Dict[int, List[int]] = {}
    for child, process in processes.items():
        children.setdefault(process.parent, []).append(child)
    family, waiting = {pid}, [pid]
    while waiting:
        new = [child for child in children.get(waiting.pop(), []) if child not in family]
        family.update(new)
        waiting += new
    return family
