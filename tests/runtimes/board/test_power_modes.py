"""Power modes: captured answers of nvpmodel and its files, and the limit that each sets for the GPU."""

from __future__ import annotations

import pytest
from board_prints import NOTHING, Programs, printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.power_modes import (
    Modes,
    PowerMode,
    gpu_cap_mhz,
    modes,
    parse_modes,
    parse_query,
    parse_status,
    power_mode,
)

SUPER_7_2 = "nvpmodel-conf-lines-orin-nano-super-jp7.2.1.txt"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("nvpmodel-query-agx-orin-maxn.txt", PowerMode("MAXN", 0)),
        ("nvpmodel-query-orin-nano-super-25w.txt", PowerMode("25W", 1)),
        ("nvpmodel-query-orin-nano-super-maxn.txt", PowerMode("MAXN_SUPER", 2)),
    ],
)
def test_a_captured_answer(name: str, mode: PowerMode) -> None:
    assert parse_query(printed(name)) == mode


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("NV Fan Mode:quiet\nNV Power Mode: MODE_20W_6CORE\n8\n", PowerMode("MODE_20W_6CORE", 8)),
        ("NV Power Mode: my own mode\n", PowerMode("my own mode", None)),
        ("NV Power Mode: GPU_FREQ_100(fast)|x\n42\n", PowerMode("GPU_FREQ_100(fast)|x", 42)),
        ("NV Power Mode: \n5\n", PowerMode(None, 5)),
        ("NV Power Mode: MAXN\n", PowerMode("MAXN", None)),
        ("NV Power Mode: \n", None),
        ("NVPM ERROR: Failed to read PMODE\n", None),
        ("", None),
    ],
)
def test_modes_that_nobody_knows_and_answers_without_one(text: str, mode: PowerMode | None) -> None:
    assert parse_query(text) == mode


def test_lists_of_modes_in_each_form() -> None:
    assert parse_modes(printed(SUPER_7_2)) == Modes({0: "15W", 1: "25W", 2: "MAXN_SUPER"}, None, {})
    older = printed("nvpmodel-conf-lines-orin-nano-super-jp6.2-reconstructed.txt")
    assert parse_modes(older) == Modes({0: "15W", 1: "25W", 2: "MAXN_SUPER", 3: "7W"}, 1, {})
    verbose = printed("nvpmodel-parse-xavier-nx-jp5-abridged.txt")
    assert parse_modes(verbose) == Modes({0: "MODE_15W_2CORE", 8: "MODE_20W_6CORE"}, None, {})
    assert parse_modes("# nothing\n") is None


def test_a_list_with_limits() -> None:
    """-1 is no limit; the processors' and the memory's lines are not the GPU's."""
    found = parse_modes(printed("nvpmodel-conf-jetson-nano-jp4-fragment.txt"))
    assert found == Modes({0: "MAXN", 1: "5W"}, None, {1: 640.0})
    assert parse_modes("< POWER_MODEL ID=0 NAME=MAXN >\nGPU MAX_FREQ 0\n") == Modes({0: "MAXN"}, None, {})


def test_the_captured_status_file() -> None:
    assert parse_status(printed("nvpmodel-status-file.txt")) == 2
    assert parse_status("fmode:quiet") is None


def test_nvpmodel_is_asked_first(tmp_path) -> None:
    root = tree(tmp_path, {"var/lib/nvpmodel/status": "pmode:0002\n", "etc/nvpmodel.conf": printed(SUPER_7_2)})
    run = Programs({"nvpmodel -q": printed("nvpmodel-query-orin-nano-super-25w.txt")})
    assert power_mode(root, run).value == PowerMode("25W", 1)


def test_without_an_answer_its_files_tell_the_name(tmp_path) -> None:
    root = tree(tmp_path, {"var/lib/nvpmodel/status": printed("nvpmodel-status-file.txt")})
    assert power_mode(root, NOTHING).value == PowerMode(None, 2)
    tree(root, {"etc/nvpmodel.conf": printed(SUPER_7_2)})
    assert power_mode(root, NOTHING).value == PowerMode("MAXN_SUPER", 2)
    tree(root, {"var/lib/nvpmodel/status": "pmode:0009"})
    assert power_mode(root, NOTHING).value == PowerMode(None, 9)


def test_a_board_that_says_nothing_gives_the_reason(tmp_path) -> None:
    assert power_mode(tmp_path, NOTHING) == (None, "nvpmodel is not on PATH")
    assert modes(tmp_path, NOTHING) == (None, "nvpmodel is not on PATH")
    asked = Programs({"nvpmodel -p --verbose": printed("nvpmodel-parse-xavier-nx-jp5-abridged.txt")})
    assert modes(tmp_path, asked).value.names == {0: "MODE_15W_2CORE", 8: "MODE_20W_6CORE"}


def test_the_limit_of_a_mode_is_the_boards_own_before_the_known_one() -> None:
    own = Modes({0: "15W", 1: "25W"}, None, {0: 625.0})
    assert gpu_cap_mhz(PowerMode("15W", 0), own, "Jetson Orin Nano 8GB") == 625
    assert gpu_cap_mhz(PowerMode("15W", None), own, "Jetson Orin Nano 8GB") == 625
    assert gpu_cap_mhz(PowerMode("25W", 1), own, "Jetson Orin Nano 8GB") is None


@pytest.mark.parametrize(("mode", "mhz"), [("7W", 408), ("15W", 612), ("25W", 918), ("MAXN_SUPER", 1020)])
def test_known_limits_of_an_orin_nano(mode: str, mhz: float) -> None:
    names_only = parse_modes(printed(SUPER_7_2))
    for listed in (None, names_only):
        assert gpu_cap_mhz(PowerMode(mode, 1), listed, "Jetson Orin Nano 8GB") == mhz
    assert gpu_cap_mhz(PowerMode(mode, 1), None, "Jetson AGX Orin 64GB") is None
    assert gpu_cap_mhz(PowerMode(mode, 1), None, None) is None
    assert gpu_cap_mhz(PowerMode("MODE_OF_TOMORROW", 1), None, "Jetson Orin Nano 8GB") is None


@given(st.text(), st.text())
def test_no_text_makes_a_parser_fail(text: str, name: str) -> None:
    for parse in (parse_query, parse_modes, parse_status):
        parse(text)
        parse(f"NV Power Mode: {name}\n")
        parse(f"< POWER_MODEL ID=1 NAME={name} >\nGPU MAX_FREQ {text}\n")
