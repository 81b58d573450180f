"""What the tests of the watch have in common: a line of tegrastats, programs, trees, and a source of power."""

from __future__ import annotations

import stat
from pathlib import Path

NANO = (
    "04-14-2025 21:53:07 RAM 1820/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,off,0%@1510] "
    "EMC_FREQ 2%@2133 GR3D_FREQ 37%@305 cpu@47.5C gpu@48.25C VDD_IN 4825mW/4830mW VDD_CPU_GPU_CV 600mW/600mW "
    "VDD_SOC 1400mW/1400mW"
)
WITHOUT_RAILS = NANO.partition(" VDD_IN")[0]


def program(folder: Path, body: str) -> None:
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


class Constant:
    """A source of power that always gives the same, and counts how often it was asked."""

    name = "made up"
    counts_energy = False
    least_interval_s = 0.0

    def __init__(self, rails):
        self.rails, self.asked = rails, 0

    def read(self):
        self.asked += 1
        return self.rails
