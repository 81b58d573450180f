"""Whether this machine stands in for another one: emulated, or made up of files.

What it measures then is no property of any board.
"""

import os
import platform
import re
import threading
from pathlib import Path
from typing import Optional

from runtimes.readings import ROOT, ROOT_NAME

_FAMILIES = {"x86": r"x86_64|amd64|i[3-6]86|x86", "arm": r"aarch64(_be)?|arm64|arm.*"}


def stand_in(root: Path = ROOT) -> Optional[str]:
    """What this machine really is where it is not what it says: for people, for example "emulated by qemu-aarch64".

    None: nothing gives it away. An emulator of a whole machine, which brings its own kernel, is not recognised.
    """
    found = [said for said in (emulator(), _made_up(root)) if said is not None]
    return "; ".join(found) or None


def emulator(proc: Path = Path("/proc"), sys: Path = Path("/sys"), machine: str = "") -> Optional[str]:
    """The program by which this process runs on a processor of another kind.

    qemu's user mode answers /proc/self/exe itself, so that a program sees its own name there; the same link of a thread
    is the kernel's and names qemu. Should that be answered too one day, the kernel still says in /sys what processor it
    runs on.

    Args:
        machine: the processor that this process believes to run on; not given: as `platform` has it.
    """
    try:
        link = os.readlink(str(proc / "self/task" / str(threading.get_native_id()) / "exe"))
    except OSError:
        link = ""
    name = re.fullmatch(r"(qemu-[a-z0-9_]+?)(-static)?( \(deleted\))?", link.rpartition("/")[2])
    if name:
        return "emulated by {}".format(name.group(1))
    ours, kernels = _family(machine or platform.machine()), _kernels_family(sys)
    if None in (ours, kernels) or ours == kernels:
        return None
    return "emulated: this program is for {} processors, the kernel runs on {}".format(ours, kernels)


def _made_up(root: Path) -> Optional[str]:
    """Not looking under / is asked for by `EDGEPRUNE_ROOT`, or by a test."""
    if os.environ.get(ROOT_NAME) or root != Path("/"):
        return "a made-up board: files are read under {}".format(root)
    return None


def _kernels_family(sys: Path) -> Optional[str]:
    """Of the processor that the kernel loads modules for: `cpu:type:aarch64:feature:...`."""
    try:
        text = (sys / "devices/system/cpu/modalias").read_bytes().decode("utf-8", "replace")
    except OSError:
        return None
    found = re.match(r"cpu:type:([A-Za-z0-9_]+)", text)
    return _family(found.group(1)) if found else None


def _family(machine: str) -> Optional[str]:
    """A kernel of 64 bits runs programs of 32 without emulation: their names differ, their family does not."""
    return next((name for name, form in _FAMILIES.items() if re.fullmatch(form, machine.lower())), None)
