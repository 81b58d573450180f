"""Knowing boards: each probe is a file or a command and a pure parser of what it says.

A probe never fails and takes at most 5 s: what cannot be read is None with a reason (`runtimes.readings`).
"""

from runtimes.board.commands import Run, run_command
from runtimes.board.facts import board_facts, board_state
from runtimes.board.rails import Power, PowerSource, power_source, total
from runtimes.board.tegrastats import CpuLoad, Tegrastats, parse_tegrastats

__all__ = [
    "CpuLoad",
    "Power",
    "PowerSource",
    "Run",
    "Tegrastats",
    "board_facts",
    "board_state",
    "parse_tegrastats",
    "power_source",
    "run_command",
    "total",
]
