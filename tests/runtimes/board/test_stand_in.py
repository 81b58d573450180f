"""A machine that only stands in for a board says so; a real one says nothing.

Under a real qemu this is tried in tests/emulated_board.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runtimes.board import stand_in as stand_ins
from runtimes.board.stand_in import emulator, stand_in
from runtimes.readings import ROOT_NAME


def proc_and_sys(folder: Path, exe: str | None = None, modalias: str | None = None) -> tuple[Path, Path]:
    """Trees like /proc and /sys, with the link of this thread's program and the kernel's word on the processor."""
    task = folder / "proc/self/task" / str(threading.get_native_id())
    cpu = folder / "sys/devices/system/cpu"
    task.mkdir(parents=True)
    cpu.mkdir(parents=True)
    if exe is not None:
        (task / "exe").symlink_to(exe)
    if modalias is not None:
        (cpu / "modalias").write_text(modalias)
    return folder / "proc", folder / "sys"


X86 = "cpu:type:x86,ven0002fam0019mod0011:feature:,0000,0001\n"
ARM = "cpu:type:aarch64:feature:,0000,0001\n"


def test_this_machine_is_real(monkeypatch):
    monkeypatch.delenv(ROOT_NAME, raising=False)
    assert stand_in(Path("/")) is None


@pytest.mark.parametrize(
    ("exe", "name"),
    [
        ("/usr/bin/qemu-aarch64-static", "qemu-aarch64"),
        ("/usr/bin/qemu-aarch64", "qemu-aarch64"),
        ("/usr/bin/qemu-aarch64_be-static (deleted)", "qemu-aarch64_be"),
        ("/opt/qemu-arm", "qemu-arm"),
    ],
)
def test_qemus_user_mode_is_known_by_the_link_of_a_thread(tmp_path, exe, name):
    assert emulator(*proc_and_sys(tmp_path, exe, X86), machine="aarch64") == f"emulated by {name}"


@pytest.mark.parametrize("exe", ["/usr/bin/python3.11", "/opt/qemu-tools/python3", "/usr/bin/python3 (deleted)"])
def test_a_python_of_its_own_is_no_emulator(tmp_path, exe):
    assert emulator(*proc_and_sys(tmp_path, exe, ARM), machine="aarch64") is None


def test_a_kernel_of_another_processor_gives_an_emulator_away_that_hides_its_name(tmp_path):
    found = emulator(*proc_and_sys(tmp_path, "/usr/bin/python3.11", X86), machine="aarch64")
    assert found == "emulated: this program is for arm processors, the kernel runs on x86"


@pytest.mark.parametrize(
    ("machine", "modalias"),
    [("armv7l", ARM), ("armv8l", ARM), ("arm64", ARM), ("i686", X86), ("x86_64", X86), ("riscv64", X86)],
)
def test_32_bit_programs_and_unknown_processors_are_not_taken_for_emulated(tmp_path, machine, modalias):
    assert emulator(*proc_and_sys(tmp_path, "/usr/bin/python3.11", modalias), machine=machine) is None


def test_where_proc_and_sys_say_nothing_nothing_is_claimed(tmp_path):
    assert emulator(*proc_and_sys(tmp_path), machine="aarch64") is None
    assert emulator(*proc_and_sys(tmp_path / "odd", modalias="cpu"), machine="aarch64") is None


def test_a_tree_of_files_is_a_made_up_board(tmp_path, monkeypatch):
    monkeypatch.delenv(ROOT_NAME, raising=False)
    assert stand_in(tmp_path) == f"a made-up board: files are read under {tmp_path}"


def test_a_made_up_board_that_is_emulated_says_both(tmp_path, monkeypatch):
    monkeypatch.setenv(ROOT_NAME, str(tmp_path))
    monkeypatch.setattr(stand_ins, "emulator", lambda: "emulated by qemu-aarch64")
    assert stand_in(tmp_path) == f"emulated by qemu-aarch64; a made-up board: files are read under {tmp_path}"
