"""tegrastats: captured lines against values read off by eye, any line of the grammar against a printer of its own."""

from __future__ import annotations

import string

import pytest
from board_prints import CAPTURED, printed
from hypothesis import given
from hypothesis import strategies as st
from tegrastats_by_eye import BY_EYE, loads

from runtimes.board.tegrastats import CpuLoad, Tegrastats, parse_tegrastats

SUPER = "tegrastats-orin-nano-super-jp7.2.1.txt"
OTHERS = {SUPER, "tegrastats-orin-nano-r39.2.0.txt"}


@pytest.mark.parametrize("name", BY_EYE)
def test_a_captured_line_says_what_a_person_reads_in_it(name: str) -> None:
    assert [parse_tegrastats(line) for line in printed(name).splitlines()] == [
        Tegrastats(**{"cpu": [], **expected})  # type: ignore[arg-type]
        for expected in BY_EYE[name]
    ]


def test_every_captured_line_is_looked_at() -> None:
    assert {path.name for path in CAPTURED.glob("tegrastats-*")} == BY_EYE.keys() | OTHERS


def test_of_three_values_the_first_is_now() -> None:
    """4 lines of one run: rails and temperatures change from line to line, averages and maxima are not taken."""
    lines = [parse_tegrastats(line) for line in printed(SUPER).splitlines()]
    assert [line and line.rails_mw["VDD_IN"] for line in lines] == [3582, 3462, 3462, 3462]
    assert [line and line.rails_mw["VDD_CPU_GPU_CV"] for line in lines] == [523, 442, 442, 442]
    assert [line and line.temperatures_c["tj"] for line in lines] == [46.843, 46.562, 46.781, 46.5]
    assert [line and line.gpu_mhz for line in lines] == [305, 305, 305, 306]
    assert [line and line.emc_percent for line in lines] == [5, 3, 3, 3]
    assert [line and line.ram_used_mb for line in lines] == [2850, 2845, 2840, 2837]
    assert all(line and line.swap_total_mb is None and line.unknown == [] for line in lines)


def test_a_loaded_board_of_the_next_release() -> None:
    first, second = (parse_tegrastats(line) for line in printed("tegrastats-orin-nano-r39.2.0.txt").splitlines())
    assert first is not None
    assert second is not None
    assert first.cpu == loads("66@1510 2@1510 0@1510 1@1510 33@729 0@729")
    assert (second.gpu_percent, second.gpu_mhz, second.emc_mhz) == (12, 306, 665)
    assert second.rails_mw == {"VDD_IN": 4093, "VDD_CPU_GPU_CV": 802, "VDD_SOC": 1243}
    assert second.unknown == []


@pytest.mark.parametrize(
    "line",
    [
        "",
        "tegrastats: command not found",
        "VDD_IN 3582mW/3582mW",
        "cpu@45C",
        "RAM 1/2",
        "CPU [1%@",
        "NVDEC off",
        "@ [ %",
    ],
)
def test_what_is_not_such_a_line_is_none(line: str) -> None:
    assert parse_tegrastats(line) is None


# Any line of the grammar -------------------------------------------------------------------------------------------

NUMBER = st.integers(0, 200_000)
PERCENT = st.integers(0, 100)
NAME = st.text(string.ascii_lowercase, min_size=1, max_size=5)
CORE = st.none() | st.builds(CpuLoad, PERCENT, st.integers(1, 4000))


@st.composite
def lines(draw: st.DrawFn) -> tuple[list[str], Tegrastats]:
    """The words of a line, and what they mean; the forms are those of the releases, chosen at random."""
    words, fields = [], {}
    if draw(st.booleans()):
        words.append("09-19-2026 13:33:02")
    fields["ram_used_mb"], fields["ram_total_mb"] = draw(NUMBER), draw(NUMBER)
    block = draw(st.sampled_from([" (lfb 33x4MB)", " (lfb 1x512kB)", ""]))
    words.append(f"RAM {fields['ram_used_mb']}/{fields['ram_total_mb']}MB{block}")
    if draw(st.booleans()):
        fields["swap_used_mb"], fields["swap_total_mb"] = draw(NUMBER), draw(NUMBER)
        words.append(f"SWAP {fields['swap_used_mb']}/{fields['swap_total_mb']}MB (cached 3MB)")
    fields["cpu"], word = draw(cpus())
    words.append(word)
    for name, load in (("EMC_FREQ", "emc"), ("GR3D_FREQ", "gpu")):
        percent, clock, word = draw(load_words(lists=load == "gpu"))
        fields |= {f"{load}_percent": percent, f"{load}_mhz": clock}
        words += [f"{name} {word}"] if word else []
    words += draw(st.lists(st.sampled_from(["NVDEC off", "VIC 36%@115", "NVENC0_FREQ @314", "NVJPG1 729", "APE 174"])))
    fields["temperatures_c"] = draw(st.dictionaries(NAME, st.integers(-2000, 110_000).map(lambda n: n / 1000)))
    words += [
        f"{name}@{celsius:g}C{draw(st.sampled_from(['', '/99.5C']))}"
        for name, celsius in fields["temperatures_c"].items()
    ]
    words += draw(st.sampled_from([[], ["CV0@-256C"]]))
    fields["rails_mw"] = draw(st.dictionaries(NAME.map(str.upper).filter(lambda name: name != "NC"), NUMBER))
    unit = draw(st.sampled_from(["/1", "mW/1mW", "mW/1mW/2mW"]))
    words += [f"{rail} {power}{unit}" for rail, power in fields["rails_mw"].items()]
    words += draw(st.sampled_from([[], ["NC 0mW/0mW"]]))
    return words, Tegrastats(**fields)


@st.composite
def cpus(draw: st.DrawFn) -> tuple[list[CpuLoad | None], str]:
    """The processors in the form with a clock each, or one for all."""
    cores = draw(st.lists(CORE, min_size=1, max_size=14))
    if draw(st.booleans()):
        return cores, "CPU [{}]".format(
            ",".join("off" if one is None else f"{one.percent}%@{one.mhz}" for one in cores)
        )
    clock = draw(st.integers(1, 4000))
    same = [one and CpuLoad(one.percent, clock) for one in cores]
    words = ["off" if one is None else f"{one.percent}%" for one in cores]
    return same, f"CPU [{','.join(words)}]@{clock}"


@st.composite
def load_words(draw: st.DrawFn, *, lists: bool) -> tuple[int | None, int | None, str]:
    """`5%`, `5%@665`, `@665`, with the clock in a list too, or nothing at all."""
    percent, clock = draw(st.none() | PERCENT), draw(st.none() | st.integers(0, 4000))
    text = "" if percent is None else f"{percent}%"
    if clock is not None:
        slower = draw(st.integers(0, clock))
        forms = [
            f"@{clock}",
            *([f"@[{clock}]", f"@[{clock},{slower}]", f"@[{slower},{slower},{clock}]"] if lists else []),
        ]
        text += draw(st.sampled_from(forms))
    return percent, clock, text


@given(lines())
def test_what_is_printed_is_read_back(line: tuple[list[str], Tegrastats]) -> None:
    words, expected = line
    assert parse_tegrastats(" ".join(words)) == expected


@given(lines(), st.integers(0, 40), st.sampled_from(["FUTURE", "X_FREQ", "a@b", "12", "[1,2]", "q/r", "%"]))
def test_an_unknown_word_is_kept_and_changes_nothing_else(
    line: tuple[list[str], Tegrastats], place: int, word: str
) -> None:
    words, expected = line
    at = place % (len(words) + 1)
    assert parse_tegrastats(" ".join([*words[:at], word, *words[at:]])) == expected._replace(unknown=[word])


@given(lines(), st.integers(0, 40))
def test_a_line_of_which_words_are_missing_says_what_is_left(line: tuple[list[str], Tegrastats], place: int) -> None:
    words, whole = line
    at = place % len(words)
    found = parse_tegrastats(" ".join(words[at:]))
    if found is not None:
        numbers = [name for name in Tegrastats._fields if name not in ("cpu", "rails_mw", "temperatures_c", "unknown")]
        assert all(getattr(found, name) in (None, getattr(whole, name)) for name in numbers)
        assert found.cpu in ([], whole.cpu)
        assert found.rails_mw.items() <= whole.rails_mw.items()
        assert found.temperatures_c.items() <= whole.temperatures_c.items()
        assert found.unknown == []


@given(st.text())
def test_no_text_makes_it_fail(text: str) -> None:
    parse_tegrastats(text)
