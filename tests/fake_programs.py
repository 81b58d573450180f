"""What the executables of a fake board do: tegrastats, nvpmodel, jetson_clocks, trtexec, sudo, tee and dpkg-query.

They answer with captured prints, and change the made-up file tree as the real ones change a board's. Each call is
written down in `calls.jsonl`. How well they behave stands in `behaviour.json`, see `fake_boards.FakeBoard.behave`.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from itertools import cycle
from pathlib import Path

SUDO = "FAKE_SUDO"  # environment: the fake sudo has let this through
_LONGEST_HOLD_S = 60.0


class Board:
    """The folder of a fake board, as its executables see it."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.root = self.folder / "root"
        self.facts = json.loads((self.folder / "board.json").read_text())
        self.behaviour = json.loads((self.folder / "behaviour.json").read_text())

    def is_root(self) -> bool:
        """As the made-up /proc has it: a test that runs as root can so play an ordinary user."""
        uids = re.search(r"^Uid:\s+\d+\s+(\d+)", (self.root / "proc/self/status").read_text(), re.MULTILINE)
        return SUDO in os.environ or (uids is not None and uids.group(1) == "0")

    def mode(self) -> str:
        """The id of the power mode, from the status file."""
        found = re.match(r"pmode:(\d+)", (self.root / "var/lib/nvpmodel/status").read_text())
        return str(int(found.group(1))) if found else "0"

    def write(self, place: str, value: object) -> None:
        """One file of the tree, whole or as it was, as in /sys."""
        path = self.root / place
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(f"{value}\n")
        beside.replace(path)

    def read(self, place: str) -> str:
        """One file of the tree."""
        return (self.root / place).read_text().strip()

    def governed(self) -> list[str]:
        """The folders of the processors' clocks."""
        return [f"sys/devices/system/cpu/cpufreq/policy{number}" for number in range(self.facts["cpus"])]

    def note(self, program: str, words: list[str]) -> int:
        """Write a call down; how many there are now."""
        with (self.folder / "calls.jsonl").open("a+") as calls:
            calls.write(json.dumps([program, words, self.is_root()]) + "\n")
            calls.seek(0)
            return len(calls.readlines())

    def wait_while_held(self, program: str, number: int) -> None:
        """A test may hold a program, or the call of a number, for as long as it looks at the board."""
        deadline = time.monotonic() + _LONGEST_HOLD_S
        while any((self.folder / f"hold-{what}").exists() for what in (program, number)):
            if time.monotonic() > deadline:
                sys.exit("held for too long")
            time.sleep(0.01)


def main(program: str, folder: str, words: list[str]) -> int:
    """Run one of them; its exit code."""
    board = Board(folder)
    board.wait_while_held(program, board.note(program, words))
    return {
        "tegrastats": tegrastats,
        "nvpmodel": nvpmodel,
        "jetson_clocks": jetson_clocks,
        "trtexec": trtexec,
        "sudo": sudo,
        "tee": tee,
        "dpkg-query": dpkg_query,
    }[program](board, words)


def tegrastats(board: Board, words: list[str]) -> int:
    """The captured lines, over and over, until it is told to end."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))
    every_ms = int(words[words.index("--interval") + 1]) if "--interval" in words else 1000
    for line in cycle(board.facts["tegrastats"]):
        print(line, flush=True)
        time.sleep(every_ms / 1000)
    return 0


def nvpmodel(board: Board, words: list[str]) -> int:
    """-q, -p --verbose and -m ID."""
    modes = board.facts["modes"]
    if "-p" in words:
        print("\n".join(f"NVPM VERB: POWER_MODEL: ID={number} NAME={mode['name']}" for number, mode in modes.items()))
    elif "-m" in words:
        return _switch(board, words[words.index("-m") + 1])
    elif "-q" in words:
        print(board.facts["before_query"] + f"NV Power Mode: {modes[board.mode()]['name']}\n{board.mode()}")
        if not board.is_root():  # as real ones do, with exit code 0
            print("NVPM ERROR: Error opening /sys/kernel/nvpmodel_emc_cap/emc_iso_cap: 13", file=sys.stderr)
    return 0


def _switch(board: Board, number: str) -> int:
    """The exit code says nothing, as on real boards; the prompt is as reports quote it."""
    if not board.is_root():
        print("NVPM ERROR: failed to set power mode!", file=sys.stderr)
        return 0
    if int(number) in board.behaviour.get("reboot", []):
        print("NVPM WARN: Golden image context is already created")
        print(f"NVPM WARN: Reboot required for changing to this power mode: {number}")
        print("NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:", flush=True)
        if sys.stdin.readline().strip() in ("YES", "yes"):
            (board.folder / "rebooted").touch()
        print("NVPM ERROR: bad input!\nNVPM ERROR: optMask is 1, no request for power mode")
    elif int(number) not in board.behaviour.get("silent", []):
        set_mode(board, number)
    return 0


def set_mode(board: Board, number: str) -> None:
    """The clocks' ranges and the status file as they are in that mode."""
    mode, gpu = board.facts["modes"][number], board.facts["gpu"]
    board.write(f"{gpu}/min_freq", board.facts["gpu_min_hz"])
    board.write(f"{gpu}/max_freq", mode["gpu_max_hz"])
    board.write(f"{gpu}/cur_freq", board.facts["gpu_min_hz"])
    for place in board.governed():
        board.write(f"{place}/scaling_min_freq", board.facts["cpu_min_khz"])
        board.write(f"{place}/scaling_max_freq", mode["cpu_max_khz"])
        board.write(f"{place}/scaling_cur_freq", board.facts["cpu_min_khz"])
    board.write("var/lib/nvpmodel/status", f"pmode:{int(number):04d} fmode:fan_mode_quiet")


def jetson_clocks(board: Board, words: list[str]) -> int:
    """--show, --store FILE, --restore FILE, and without a word: every clock to its maximum."""
    if not board.is_root():
        print("Error: Run this script as a root user")
        return 1
    if words == ["--show"]:
        print(_shown(board))
    elif words[:1] == ["--store"]:
        return _store(board, Path(words[1]))
    elif words[:1] == ["--restore"]:
        for line in Path(words[1]).read_text().splitlines():
            board.write(*line.split(":", 1))
    elif not board.behaviour.get("clocks_stay"):
        for low, high in _ranges(board):
            board.write(low, board.read(high))
    return 0


def _ranges(board: Board) -> list[tuple[str, str]]:
    """The files of the lowest and the highest clock, of the GPU and of each processor."""
    gpu = board.facts["gpu"]
    processors = [(f"{place}/scaling_min_freq", f"{place}/scaling_max_freq") for place in board.governed()]
    return [(f"{gpu}/min_freq", f"{gpu}/max_freq"), *processors]


def _store(board: Board, file: Path) -> int:
    if file.exists():  # asks, and without an answer it gives up
        print(f"File {file} already exists. Can I overwrite it? Y/N:\nError: file {file} already exists!")
        return 1
    file.write_text("".join(f"{place}:{board.read(place)}\n" for pair in _ranges(board) for place in pair))
    return 0


def _shown(board: Board) -> str:
    """In the form of the captured print of R39.2.1."""
    gpu = board.facts["gpu"]
    lines = [f"SOC family:{board.facts['soc']}  Machine:{board.facts['model']}"]
    lines += [f"Online CPUs: 0-{board.facts['cpus'] - 1}, Offline CPUs: "]
    for number, place in enumerate(board.governed()):
        low, high, now = (board.read(f"{place}/scaling_{which}_freq") for which in ("min", "max", "cur"))
        lines.append(f"cpu{number}:  Governor=schedutil MinFreq={low} MaxFreq={high} CurrentFreq={now} IdleStates: ")
    low, high, now = (board.read(f"{gpu}/{which}_freq") for which in ("min", "max", "cur"))
    lines.append(f"GPU MinFreq={low} MaxFreq={high} CurrentFreq={now}")
    lines.append("EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=665600000")
    return "\n".join([*lines, f"NV Power Mode: {board.facts['modes'][board.mode()]['name']}"])


def trtexec(board: Board, words: list[str]) -> int:
    """Its banner; it builds nothing, because this board has no GPU."""
    print(board.facts["banner"].format(" ".join(words)))
    if "--help" in words:
        return 0
    print(board.facts["banner"].format(" ".join(words)).replace("RUNNING", "FAILED"))
    return 1


def sudo(board: Board, words: list[str]) -> int:
    """Lets everything through, or asks for a password, which `-n` forbids."""
    command = [word for word in words if word not in ("-n", "-k", "--")]
    if board.behaviour.get("sudo") == "password":
        print("sudo: a password is required", file=sys.stderr)
        return 1
    import shutil  # here: every call of any program would wait for them
    import subprocess

    if shutil.which(command[0]) is None:
        print(f"sudo: {command[0]}: command not found", file=sys.stderr)
        return 1
    return subprocess.call(command, env={**os.environ, SUDO: "1"})


def tee(board: Board, words: list[str]) -> int:
    """To files of /sys: one that is opened and not written stays as it is."""
    given = sys.stdin.read()
    print(given, end="")
    for name in words if given else []:
        try:
            Path(name).write_text(given)
        except OSError as error:
            print(f"tee: {name}: {error.strerror}", file=sys.stderr)
            return 1
    return 0


def dpkg_query(board: Board, words: list[str]) -> int:
    """-W with or without a format; unknown packages are an error beside the answer."""
    form = "${Package}\t${Version}\n"
    names = []
    for place, word in enumerate(words):
        if word in ("-f", "--showformat"):
            form = words[place + 1]
        elif word.startswith(("-f", "--showformat=")):
            form = word.partition("=")[2] or word[2:]
        elif not word.startswith("-") and words[place - 1] not in ("-f", "--showformat"):
            names.append(word)
    form = form.replace("\\n", "\n").replace("\\t", "\t")
    known = board.facts["packages"]
    for name in names or known:
        if name in known:
            print(form.replace("${Package}", name).replace("${Version}", known[name]), end="")
        else:
            print(f"dpkg-query: no packages found matching {name}", file=sys.stderr)
    return 0 if all(name in known for name in names) else 1
