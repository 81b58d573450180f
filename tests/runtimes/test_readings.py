"""What is read from files that many places have need of: numbers, sizes and lists of processors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.readings import numbered, parse_cpu_list, parse_number, parse_sizes

MEMINFO = "MemTotal:        3884372 kB\nMemAvailable:    3384368 kB\nHugePages_Total:       0\nActive(anon):   100 kB\n"
STATUS = "Name:\tpython3\nVmHWM:\t   10240 kB\nVmRSS:\t    9216 kB\nThreads:\t1\n"


def test_sizes_are_bytes_of_lines_in_kb() -> None:
    assert parse_sizes(MEMINFO) == {
        "MemTotal": 3884372 * 1024,
        "MemAvailable": 3384368 * 1024,
        "Active(anon)": 100 * 1024,
    }
    assert parse_sizes(STATUS) == {"VmHWM": 10 << 20, "VmRSS": 9 << 20}


@pytest.mark.parametrize(
    ("text", "number"), [("45250\n", 45250), ("-5000", -5000), ("0x50005\n", 0x50005), ("n/a", None)]
)
def test_number(text: str, number: int | None) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize(("text", "cpus"), [("0-3,6\n", [0, 1, 2, 3, 6]), ("0", [0]), ("\n", []), ("3-1", [])])
def test_a_list_of_processors(text: str, cpus: list[int]) -> None:
    assert parse_cpu_list(text) == cpus


@given(st.lists(st.integers(0, 99999), max_size=9))
def test_a_list_that_is_written_out_is_itself(cpus: list[int]) -> None:
    assert parse_cpu_list(",".join(map(str, cpus))) == cpus


@pytest.mark.parametrize("text", ["0-99999999999", "100000", "a-b", "0-", "1--3", "-1", "1 2"])
def test_what_is_no_list_of_processors_is_told_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="these are no processors"):
        parse_cpu_list(text)


def test_entries_are_sorted_by_the_number_at_their_end() -> None:
    names = ["policy10", "policy9", "policy", "policy100"]
    assert sorted(map(Path, names), key=numbered) == [Path(f"policy{end}") for end in ("", "9", "10", "100")]
