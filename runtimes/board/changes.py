"""Changing a board's power mode and clocks: each change is read back, and notes first how it is undone.

A note is a plain mapping, because it has to outlive the process that makes the change (`runtimes.board.keeper`).
"""

import os
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from runtimes.board import power_modes
from runtimes.board.clocks import cpu_policies, gpu_clock
from runtimes.board.commands import find_program
from runtimes.board.privileged import GOVERNOR, as_root, last_words, tee
from runtimes.errors import UserError
from runtimes.readings import read
from runtimes.tables import pick

Note = Mapping[str, Any]
_FIXED = "performance"
STORED = "clocks-*.conf"  # files of jetson_clocks


class Place(NamedTuple):
    """Where changes are made and noted."""

    root: Path  # where the file system starts
    folder: Path  # for the files that jetson_clocks stores
    note: Callable[[Note], None]  # called before each change with what it sets and what undoes it


# Power mode ------------------------------------------------------------------------------------------------------


def switch_power_mode(name: str, place: Place) -> Dict[str, Any]:
    """Switch to the power mode of that name: `asked`, and `before` and `after` as {"name", "id"}.

    Raises:
        UserError: there are no such modes here, or the switch did not take; the board is as it was then.
    """
    known, before = _power_modes(place.root), power_mode(place.root)
    number = pick(known, name, "power mode")
    if before["id"] != number:
        if clocks_pinned(place.root):  # the switch undoes that
            _store_clocks(place, ["power_mode", number])
        place.note({"do": "power_mode", "set": ["power_mode", number], **before})
        said = _set_power_mode(number, place.root)
        if power_mode(place.root)["id"] != number:
            raise _not_taken(name, number, before["name"], said)
    return {"asked": name, "before": before, "after": power_mode(place.root), "restored": None}


def power_mode(root: Path) -> Dict[str, Any]:
    """The power mode that the board is in, {"name", "id"}; one that is not told is a `UserError`."""
    found = power_modes.power_mode(root)
    if found.value is None or found.value.id is None:
        why = found.reason or "its number is not in what it says"
        raise UserError("nvpmodel does not tell the power mode: {}".format(why), "run `nvpmodel -q` there by hand")
    mode: Dict[str, Any] = found.value._asdict()
    return mode


def _power_modes(root: Path) -> Dict[str, int]:
    """Name -> id, as this board's release has them: the ids differ from board to board."""
    if find_program("nvpmodel") is None:
        what = "there are no power modes here: nvpmodel, which a Jetson has, is not on PATH"
        raise UserError(what, "measure without --power-mode{}".format(_instead(root)))
    listed = power_modes.modes(root)
    if listed.value is None:
        raise UserError("the names of the power modes: {}".format(listed.reason), "measure without --power-mode")
    return {name: number for number, name in listed.value.names.items()}


def _instead(root: Path) -> str:
    policy = next(iter(cpu_policies(root)), "policy0")
    there = read(GOVERNOR.format(policy).replace("_governor", "_available_governors"), root=root).value
    if not there:
        return "; here is no cpufreq governor either"
    found = "; what there is here are the cpufreq governors {}, now {}".format(
        ", ".join(there.split()), read(GOVERNOR.format(policy), root=root).value
    )
    return found + (": --lock-clocks sets {}".format(_FIXED) if _FIXED in there.split() else "")


def _set_power_mode(number: int, root: Path) -> str:
    return as_root([find_program("nvpmodel") or "nvpmodel", "-m", str(number)], root)


def _not_taken(name: str, number: int, before: str, said: str) -> UserError:
    if re.search("reboot", said, re.IGNORECASE):
        return UserError(
            "power mode {} needs a reboot, so the board stayed in {}".format(name, before),
            "run `sudo nvpmodel -m {}` there by hand, answer yes, and measure after the reboot".format(number),
        )
    return UserError(
        "the board stayed in power mode {} when {} was asked for: {}".format(before, name, last_words(said)),
        "run `sudo nvpmodel -m {}` there by hand and measure without --power-mode".format(number),
    )


# Clocks ----------------------------------------------------------------------------------------------------------


def lock_clocks(place: Place) -> Dict[str, Any]:
    """Fix the clocks: by jetson_clocks on a Jetson, elsewhere by the cpufreq governor `performance`.

    Returns:
        `how`, and `after` as `clocks` tells it.

    Raises:
        UserError: neither is here or may be used, or it did not take.
    """
    if find_program("jetson_clocks") is None:
        return _fix_governors(place)
    _store_clocks(place, ["clocks_pinned", True])
    said = as_root([find_program("jetson_clocks") or "jetson_clocks"], place.root)
    if not clocks_pinned(place.root):
        raise UserError(
            "jetson_clocks did not fix the GPU's clock: {}".format(last_words(said)),
            "run `sudo jetson_clocks --show` there; a GPU without /sys/class/devfreq entry needs a reboot",
        )
    return {"how": "jetson_clocks", "after": clocks(place.root)}


def clocks(root: Path) -> Dict[str, Any]:
    """What is fixed or restored: the ends of the range of the GPU's clock and of each group of processors, in MHz, and
    the groups' governors."""
    gpu = gpu_clock(root).value
    policies = cpu_policies(root)
    return {
        "gpu_mhz": None if gpu is None else [gpu.min, gpu.max],
        "cpu_mhz": {name: [clock.min, clock.max] for name, clock in policies.items()},
        "governor": {name: read(GOVERNOR.format(name), root=root).value for name in policies},
    }


def clocks_pinned(root: Path) -> bool:
    """Whether the GPU has no choice of its clock."""
    gpu = gpu_clock(root).value
    return gpu is not None and bool(gpu.pinned)


def _store_clocks(place: Place, sets: Sequence[Any]) -> None:
    """As they are now, into a new file: jetson_clocks asks before it writes over one, and gives up unanswered."""
    program = find_program("jetson_clocks")
    if program is None:
        what = "the clocks are fixed, and without jetson_clocks they could not be fixed again after the power mode"
        raise UserError(what, "measure without --power-mode")
    taken = len(list(place.folder.glob(STORED)))
    file = place.folder / STORED.replace("*", "{}-{}".format(os.getpid(), taken))
    said = as_root([program, "--store", str(file)], place.root)
    if not file.is_file() or not file.stat().st_size:
        what = "jetson_clocks --store did not store the clocks: {}".format(last_words(said))
        raise UserError(what, "run `sudo jetson_clocks --store` there by hand to see why")
    place.note({"do": "clocks", "set": list(sets), "file": str(file), "clocks": clocks(place.root)})


def _fix_governors(place: Place) -> Dict[str, Any]:
    if "tegra" in (read("proc/device-tree/compatible", root=place.root).value or ""):
        raise UserError(
            "jetson_clocks is not on PATH", "`sudo apt-get install nvidia-l4t-tools` installs it on a Jetson"
        )
    before = clocks(place.root)
    fixed = {policy: _FIXED for policy, now in before["governor"].items() if now}
    if not fixed:
        raise UserError("no clock can be fixed here: /sys has no cpufreq governor", "measure without --lock-clocks")
    place.note({"do": "governor", "set": ["governor_fixed", True], "clocks": before})
    said = _set_governors(fixed, place.root)
    after = clocks(place.root)
    if set(after["governor"].values()) != {_FIXED}:
        raise UserError(
            "the cpufreq governor is {}: {}".format(after["governor"], last_words(said)),
            "run {} there by hand, and measure without --lock-clocks".format(_by_hand(_FIXED)),
        )
    return {"how": "cpufreq governor", "after": after}


def _set_governors(governors: Mapping[str, str], root: Path) -> str:
    """What was said of it: nothing, or why one was not set."""
    return "\n".join(
        as_root([tee(), str(root / GOVERNOR.format(policy))], root, governor)
        for policy, governor in governors.items()
        if read(GOVERNOR.format(policy), root=root).value != governor
    )


def _by_hand(governor: str) -> str:
    return "`echo {} | sudo tee /{}`".format(governor, GOVERNOR.format("policy*"))


# Undoing ---------------------------------------------------------------------------------------------------------


def still_set(note: Note, root: Path) -> bool:
    """Whether the board is as a change left it: somebody may have chosen otherwise since, or restarted it.

    Raises:
        UserError: the board does not tell.
    """
    what, value = note["set"]
    return bool(_FOUND[what](root) == value)


def named(note: Note) -> str:
    """What undoing a change brings back, for people."""
    return "power mode {}".format(note["name"]) if note["do"] == "power_mode" else _NAMES[note["do"]]


def undo(note: Note, root: Path) -> Optional[str]:
    """Undo one change and read it back; None, or what is not as it was, with the line to run by hand."""
    try:
        done, by_hand = _UNDO[note["do"]](note, root)
    except UserError as error:
        return "{}: {}".format(error.message, error.hint)
    return None if done else "{} was not restored: run {}".format(_NAMES[note["do"]], by_hand)


def _undo_power_mode(note: Note, root: Path) -> Tuple[bool, str]:
    said = _set_power_mode(int(note["id"]), root)
    back = power_mode(root)["id"] == note["id"]
    why = " and answer yes, it needs a reboot" if re.search("reboot", said, re.IGNORECASE) else ""
    return back, "`sudo nvpmodel -m {}` ({}){}".format(note["id"], note["name"], why)


def _undo_clocks(note: Note, root: Path) -> Tuple[bool, str]:
    words = [find_program("jetson_clocks") or "jetson_clocks", "--restore", str(note["file"])]
    as_root(words, root)
    back = _floors(clocks(root)) == _floors(note["clocks"])
    if back and os.path.exists(note["file"]):
        os.unlink(note["file"])
    return back, "`sudo {}`, or reboot".format(" ".join(words))


def _floors(found: Mapping[str, Any]) -> List[Any]:
    """What jetson_clocks raises. The upper ends also come down by themselves, when the board is hot."""
    gpu = found["gpu_mhz"]
    return [gpu and gpu[0], {name: ends[0] for name, ends in found["cpu_mhz"].items()}, found["governor"]]


def _undo_governor(note: Note, root: Path) -> Tuple[bool, str]:
    governors = {policy: governor for policy, governor in note["clocks"]["governor"].items() if governor}
    _set_governors(governors, root)
    return clocks(root)["governor"] == note["clocks"]["governor"], _by_hand(next(iter(governors.values())))


_FOUND: Mapping[str, Callable[[Path], Any]] = {
    "power_mode": lambda root: power_mode(root)["id"],
    "clocks_pinned": clocks_pinned,
    "governor_fixed": lambda root: _FIXED in clocks(root)["governor"].values(),
}
_UNDO = {"power_mode": _undo_power_mode, "clocks": _undo_clocks, "governor": _undo_governor}
_NAMES = {"power_mode": "the power mode", "clocks": "the clocks' ranges", "governor": "the cpufreq governor"}
