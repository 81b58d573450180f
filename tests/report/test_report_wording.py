"""Numbers as people read them, and the ticks of the plots."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edgeprune.report import wording
from edgeprune.report.facts import describe
from edgeprune.report.svg import ticks


def plain(text):
    return text.replace(wording.SPACE, " ").replace(wording.MINUS, "-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.share(0.99999), "> 99.9 %"),
        (wording.share(1.0), "100.0 %"),
        (wording.share(0.00001), "< 0.1 %"),
        (wording.share(0.0), "0.0 %"),
        (wording.share(None), wording.NONE),
        (wording.points(-0.56), "-0.6 points"),
        (wording.points(0.04), "0.0 points"),
        (wording.points(1.0), "+1.0 points"),
        (wording.milliseconds(0.0004), "400 ns"),
        (wording.milliseconds(0.52), "520 \N{GREEK SMALL LETTER MU}s"),
        (wording.milliseconds(1.314), "1.31 ms"),
        (wording.milliseconds(1500), "1.50 s"),
        (wording.milliseconds(None), wording.NONE),
        (wording.size(999), "999 B"),
        (wording.size(74_396), "74.4 kB"),
        (wording.size(1_090_112), "1.09 MB"),
        (wording.mebibytes(0.00390625), "0.0 MiB"),
        (wording.mebibytes(-0.004), "0.0 MiB"),
        (wording.mebibytes(4.14), "4.1 MiB"),
        (wording.mebibytes(9.96), "10.0 MiB"),
        (wording.mebibytes(65.97), "66.0 MiB"),
        (wording.mebibytes(412.0), "412 MiB"),
        (wording.mebibytes(None), wording.NONE),
        (wording.count(9_216), "9,216"),
        (wording.count(267_264), "267 k"),
        (wording.count(556_000_000), "556 M"),
        (wording.plural(1, "thread"), "1 thread"),
        (wording.plural(4, "thread"), "4 threads"),
    ],
)
def test_wording(text, expected):
    assert plain(text) == expected


@given(st.floats(1e-7, 1e7))
def test_times_keep_their_value_to_three_digits(ms):
    number, unit = wording.milliseconds(ms).split(wording.SPACE)
    factor = {"ns": 1e-6, "\N{GREEK SMALL LETTER MU}s": 1e-3, "ms": 1.0, "s": 1e3}[unit]
    assert float(number) * factor == pytest.approx(ms, rel=0.006)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_round_inside_and_evenly_spaced(low, width):
    high = low + width
    assume(width > 1e-6 * abs(low))
    marks = ticks(low, high)
    assert 1 <= len(marks) <= 12
    steps = [b - a for a, b in itertools.pairwise(marks)]
    for step in steps:
        assert step == pytest.approx(steps[0], rel=1e-6, abs=1e-9)
        lead = step / 10 ** math.floor(math.log10(step) + 1e-6)
        assert min(abs(lead - round_one) for round_one in (1, 2, 5, 10)) < 1e-4
    assert low - 1e-6 * width <= marks[0]
    assert marks[-1] <= high + 1e-6 * width


def test_facts_carry_units_moments_and_reasons():
    facts = {
        "memory_total_bytes": 16_000_000_000,
        "temperature_mc": {"before": {"soc": 41000}, "after": {"soc": 47500}},
        "clocks_mhz": {"before": [2400.0], "after": [2400.0]},
        "governor": None,
        "reasons": {"governor": "no such file"},
        "mine": "x" * 500,
    }
    found = {label: plain(text) for label, text in describe(facts)}
    assert found["Memory"] == "16.0 GB"
    assert found["Temperature"] == "soc 41 \N{DEGREE SIGN}C before, soc 48 \N{DEGREE SIGN}C after"
    assert found["Clocks, MHz"] == "2400"
    assert found["Clock governor"] == "not read (no such file)"
    assert len(found["mine"]) == 160
