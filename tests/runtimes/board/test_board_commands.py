"""Programs of a board, real ones: what they print, and how they fail, hang or ask."""

from __future__ import annotations

import stat
import time
from pathlib import Path

import pytest

from runtimes.board import commands
from runtimes.board.commands import ask, find_program, run_command


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a shell script on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def write(name: str, script: str) -> Path:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


def test_what_it_prints_is_the_value_and_arguments_are_not_a_shells(program) -> None:
    program("told", 'printf "%s|" "$@"; echo to standard error >&2')
    assert run_command(["told", "a b", "$HOME;*", ""]) == ("a b|$HOME;*||", None)


def test_a_program_that_is_not_there(program) -> None:
    assert run_command(["edgeprune-no-such-program"]) == (None, "edgeprune-no-such-program is not on PATH")


def test_a_program_is_found_on_the_path_or_where_administrators_programs_lie(program, tmp_path, monkeypatch) -> None:
    assert find_program("told") is None
    path = program("told", "echo yes")
    assert find_program("told") == str(path)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(commands, "_MORE_PLACES", (str(tmp_path),))
    assert find_program("told") == str(path)


def test_a_failure_gives_its_code_and_its_first_words(program) -> None:
    program("fails", "echo; echo Please run as root >&2; exit 3")
    assert run_command(["fails"]) == (None, "fails ended with exit code 3: Please run as root")
    program("mute", "exit 4")
    assert run_command(["mute"]) == (None, "mute ended with exit code 4: it says nothing")


def test_what_is_no_program_is_told(program) -> None:
    program("broken", "").write_bytes(b"\x7fELF broken")
    found = run_command(["broken"])
    assert found.value is None
    assert found.reason is not None
    assert found.reason.startswith("broken: ")


def test_a_question_meets_an_empty_input(program) -> None:
    program("asks", "read -r answer || echo nobody answered")
    assert run_command(["asks"]).value == "nobody answered\n"


def test_one_that_hangs_is_given_up_though_its_child_holds_its_output(program, monkeypatch) -> None:
    monkeypatch.setattr(commands, "_TIMEOUT_S", 0.3)
    program("hangs", "sleep 3")
    began = time.monotonic()
    assert run_command(["hangs"]) == (None, "hangs did not answer within 0.3 s")
    assert run_command(["hangs"]) == (None, "hangs did not answer before and is not asked again")
    assert time.monotonic() - began < 2


def test_without_a_place_for_what_it_prints_the_reason_is_told(program, monkeypatch) -> None:
    program("told", "echo yes")

    def no_room() -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(commands.tempfile, "TemporaryFile", no_room)
    assert run_command(["told"]) == (None, "told: No usable temporary directory found")


def test_output_without_an_end_is_cut(program) -> None:
    program("talks", "head -c 3000000 /dev/zero")
    assert len(run_command(["talks"]).value) == 1 << 20


def test_an_answer_is_parsed_or_told_as_it_is(program) -> None:
    program("number", 'echo "$1"')
    assert ask(run_command, ["number", "7"], lambda text: int(text) if text.strip().isdigit() else None).value == 7
    assert ask(run_command, ["number", "x y"], lambda text: None) == (
        None,
        "number x y: not in a known form: 'x y'",
    )
