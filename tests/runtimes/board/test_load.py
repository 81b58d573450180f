"""Other load: swap in use, and programs that keep a processor busy, seen among real processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from board_prints import tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.load import busy_programs, parse_process, parse_swap_used, swap_used_bytes

BUSY = """
import time
open('/proc/self/comm', 'w').write('edge busy) 1')
print(flush=True)
end = time.monotonic() + 30  # should nobody end it
while time.monotonic() < end: pass
"""
DETACHED = (
    "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], start_new_session=True, "
    "stdout=subprocess.PIPE); child.stdout.readline(); print(child.pid)"
)


@pytest.mark.parametrize(
    ("text", "used"),
    [
        ("MemTotal: 100 kB\nSwapCached: 9 kB\nSwapTotal:  3901436 kB\nSwapFree: 3030000 kB\n", 871436 * 1024),
        ("SwapTotal:       0 kB\nSwapFree:        0 kB\n", 0),
        ("MemTotal: 100 kB\n", None),
    ],
)
def test_swap_in_use(text: str, used: int | None) -> None:
    assert parse_swap_used(text) == used


def test_swap_of_this_machine_and_of_none(tmp_path) -> None:
    assert swap_used_bytes(tree(tmp_path, {"proc/meminfo": "SwapTotal: 8 kB\nSwapFree: 5 kB\n"})).value == 3072
    assert swap_used_bytes(tmp_path / "none") == (None, "/proc/meminfo: No such file or directory")


def test_a_process_by_hand() -> None:
    """Fields 1 to 15 of proc(5): pid, name, state, parent, ... user and system time are the 14th and 15th."""
    line = "4711 (a (b) c) R 99 4711 4711 0 -1 4194304 1 2 3 4 250 50 7 8 20 0 1 0 12345\n"
    found = parse_process(line)
    assert found is not None
    assert (found.name, found.parent, found.ticks) == ("a (b) c", 99, 300)
    assert parse_process("4711 (a) R 99") is None


def test_this_processs_own_times_agree_with_the_interpreters() -> None:
    found = parse_process(Path("/proc/self/stat").read_text())
    used = os.times()
    assert found is not None
    assert found.parent == os.getppid()
    assert found.ticks / os.sysconf("SC_CLK_TCK") == pytest.approx(used.user + used.system, abs=0.1)


def test_a_busy_program_of_somebody_else_is_named_and_one_of_ours_is_not() -> None:
    """The stranger's parent has ended, so that it is not among our descendants."""
    ours = subprocess.Popen([sys.executable, "-c", BUSY.replace("edge busy", "edge ours")], stdout=subprocess.PIPE)
    stranger = int(subprocess.check_output([sys.executable, "-c", DETACHED, BUSY]))
    try:
        assert ours.stdout is not None
        ours.stdout.readline()
        deadline = time.monotonic() + 10
        while "edge busy) 1" not in (found := busy_programs(watch_s=0.5).value):
            assert time.monotonic() < deadline, found
        assert not [name for name in found if name.startswith("edge ours")]
    finally:
        os.kill(stranger, 9)
        ours.kill()
        ours.wait()
        if ours.stdout is not None:
            ours.stdout.close()


def test_without_proc_the_reason_is_told(tmp_path) -> None:
    assert busy_programs(tmp_path) == (None, "/proc shows no process")


@given(st.text())
def test_no_text_makes_a_parser_fail(text: str) -> None:
    parse_swap_used(text)
    parse_process(text)
