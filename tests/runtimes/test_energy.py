"""Which samples are a network's own, and what its power and energy come to, each by another route as well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.energy import Spent, columns, covered, mean_rails, median_of_each, power, within
from runtimes.readings import Reading
from runtimes.watch_sources import Sample

SOURCE = Reading("ina3221 (sysfs)")


def samples(*rails, seconds=0.1):
    """One sample each 0.1 s, from 0.1 s on, of the rail VDD_IN."""
    return [
        Sample(round(0.1 * (number + 1), 6), seconds, {} if value is None else {"VDD_IN": value})
        for number, value in enumerate(rails)
    ]


MOMENTS = st.lists(st.floats(0, 100), max_size=30).map(sorted)


@given(MOMENTS, MOMENTS)
def test_samples_belong_to_the_spans_in_which_they_lie(times, borders):
    """Against a look at each pair. Of two spans that touch, a sample on the border belongs to the one that it ends."""
    spans = list(zip(borders[::2], borders[1::2], strict=False))
    taken = [Sample(at_s, 0.1, {}) for at_s in times]
    expected = [sample for sample in taken if any(begin < sample.at_s <= end for begin, end in spans)]
    assert within(taken, spans[::-1]) == expected


TENTHS = st.lists(st.integers(0, 100), max_size=20).map(sorted)


@given(TENTHS, TENTHS, st.integers(1, 30))
def test_the_watched_share_is_that_of_the_steps_that_have_a_sample_shortly_before_them(times, borders, reach):
    """Against a look at each step. Whole numbers, so that a step lies within or without."""
    spans = list(zip(borders[::2], borders[1::2], strict=False))
    steps = [step for begin, end in spans for step in range(begin, end)]
    seen = [step for step in steps if any(at <= step < at + reach for at in times)]
    taken = [Sample(float(at), 1.0, {"VDD_IN": 1.0}) for at in times]
    assert covered(taken, spans, reach) == pytest.approx(len(seen) / max(len(steps), 1), abs=1e-6)
    assert covered([sample._replace(rails_mw={}) for sample in taken], spans, reach) == 0


def test_each_span_has_the_median_of_what_was_read_in_it_and_none_where_all_was_off():
    taken = [Sample(0.1 * number, 0.1, {}, gpu_mhz=mhz) for number, mhz in enumerate([9, 918, 0, 306, 918, None, 0, 0])]
    spans = [(0.05, 0.45), (0.45, 0.55), (0.55, 0.75)]
    assert median_of_each(taken, spans, "gpu_mhz") == [918]
    assert median_of_each(taken, [(-1.0, 0.05), (0.25, 0.35)], "gpu_mhz") == [9, 306]


@given(st.lists(st.tuples(st.floats(0.001, 10), st.floats(0, 1e5)), min_size=1, max_size=20))
def test_a_mean_is_the_energy_over_the_time(parts):
    taken = [Sample(float(number), seconds, {"VDD_IN": mw}) for number, (seconds, mw) in enumerate(parts)]
    energy, time = sum(seconds * mw for seconds, mw in parts), sum(seconds for seconds, _ in parts)
    assert mean_rails(taken)["VDD_IN"] == pytest.approx(energy / time, abs=1e-6)


def test_a_rail_that_is_missing_now_and_then_has_the_mean_of_when_it_was_there():
    taken = [Sample(1.0, 0.1, {"a": 10.0, "b": 7.0}), Sample(2.0, 0.3, {"a": 20.0}), Sample(3.0, 0.1, {})]
    assert mean_rails(taken) == {"a": pytest.approx(17.5), "b": 7.0}


def test_constant_power_gives_power_times_time():
    """5 W for 4 ms is 20 mJ; 2 W of it are there anyway, so 12 mJ are the network's."""
    taken = samples(*[2000.0] * 10, *[5000.0] * 10)
    found = power(SOURCE, taken, Spent([(1.0, 2.0)], 0.004), [(0.0, 1.0)]).value
    assert found == {
        "source": "ina3221 (sysfs)",
        "scope": "module",
        "rails": {"VDD_IN": pytest.approx(5000)},
        "note": None,
        "mean_mw": pytest.approx(5000),
        "idle_mw": pytest.approx(2000),
        "samples": 10,
        "energy_mj": pytest.approx(20),
        "net_energy_mj": pytest.approx(12),
    }


def test_only_its_own_rounds_count():
    """A thousand watts between two rounds are somebody else's."""
    taken = samples(*[4000.0] * 5, *[1e6] * 5, *[6000.0] * 5)
    found = power(SOURCE, taken, Spent([(0.0, 0.5), (1.0, 1.5)], 0.001), []).value
    assert found["mean_mw"] == pytest.approx(5000)
    assert (found["samples"], found["idle_mw"], found["net_energy_mj"]) == (10, None, None)


def test_rails_are_added_by_the_rule_of_the_module():
    """On an AGX Orin the memory's rail hangs on VIN_SYS_5V0 and is in it already."""
    rails = {"VDD_GPU_SOC": 3000.0, "VDD_CPU_CV": 1000.0, "VIN_SYS_5V0": 4000.0, "VDDQ_VDD2_1V8AO": 900.0}
    found = power(SOURCE, [Sample(1.0, 0.1, rails)], Spent([(0.0, 2.0)], 0.01), []).value
    assert (found["mean_mw"], found["scope"], found["energy_mj"]) == (8000.0, "sum_of_rails", pytest.approx(80))
    assert found["rails"] == rails


@pytest.mark.parametrize(
    ("source", "taken", "reason"),
    [
        (Reading(None, "reading it needs root"), samples(1.0), "reading it needs root"),
        (SOURCE, samples(None, None), "no sample of power fell into its rounds: they are too short, or too few"),
        (SOURCE, [], "no sample of power fell into its rounds: they are too short, or too few"),
        (SOURCE, [Sample(0.5, 0.1, {"MYSTERY": 5.0})], "it is not known how the power rails MYSTERY add up"),
    ],
)
def test_no_power_has_a_reason(source, taken, reason):
    assert power(source, taken, Spent([(0.0, 1.0)], 0.001), []) == (None, reason)


def test_the_idle_power_of_other_rails_is_none():
    """A rail that was lost on the way would make the difference nonsense."""
    lost = [Sample(0.5, 0.1, {"package-0": 9.0}), Sample(1.5, 0.1, {"package-0": 9.0, "package-1": 9.0})]
    found = power(SOURCE, lost, Spent([(1.0, 2.0)], 0.001), [(0.0, 1.0)]).value
    assert (found["mean_mw"], found["idle_mw"], found["net_energy_mj"]) == (18.0, None, None)


def test_columns_are_of_one_length_and_hold_none_where_nothing_was_read():
    first = Sample(11.0, 0.1, {"VDD_IN": 5000.0}, gpu_percent=0.0, gpu_mhz=306.0, temperature_c=48.5, ram_used_mb=900.1)
    found = columns([first, Sample(11.12341, 0.1, {})], started_s=10.0)
    assert found == {
        "at_s": [1.0, 1.1234],
        "power_mw": [5000.0, None],
        "gpu_percent": [0.0, None],
        "gpu_mhz": [306.0, None],
        "emc_mhz": [None, None],
        "cpu_mhz": [None, None],
        "temperature_c": [48.5, None],
        "ram_used_mb": [900.1, None],
    }
