"""The watch beside a run: at what rate and cost, what it comes to in a measurement, and that nothing is left behind."""

import math
import os
import re
import subprocess
import threading
import time

import pytest
from tiny_networks import QUICK
from watched import NANO, Constant, program

from runtimes import watch_files
from runtimes.bundle import read_bundle
from runtimes.measure import measure
from runtimes.readings import Reading
from runtimes.watch import Watch

pytestmark = pytest.mark.usefixtures("nothing_on_the_path")

# The thread ----------------------------------------------------------------------------------------------------------


def test_the_rate_that_is_reached_is_told(tmp_path, powered):
    source = powered(Constant({"VDD_IN": 5.0}))
    with Watch(0.05, tmp_path) as watch:
        begin = time.monotonic()
        time.sleep(1.0)
    seen, passed_s = watch.seen(), time.monotonic() - begin
    assert (seen.source, seen.power.value, seen.interval_s) == ("sysfs", "made up", 0.05)
    assert 10 < seen.rate_hz <= 20.1  # fewer on a busy machine
    assert len(seen.samples) == source.asked - 1  # the first reading begins the first span
    assert seen.rate_hz == pytest.approx(len(seen.samples) / passed_s, rel=0.1)


def test_a_slow_source_is_asked_less_often_and_not_without_a_pause(tmp_path, powered):
    class Slow(Constant):
        def read(self):
            time.sleep(0.07)
            return super().read()

    powered(Slow({}))
    with Watch(0.05, tmp_path) as watch:
        time.sleep(1.0)
    assert 5 < watch.seen().rate_hz <= 10.1  # each second turn is left out


def test_what_watching_costs_is_told(tmp_path, powered):
    """A source that burns 10 ms of processor time in each of 20 readings a second keeps a fifth of a core busy."""

    class Burning(Constant):
        def read(self):
            end = time.thread_time() + 0.010
            while time.thread_time() < end:
                pass
            return super().read()

    powered(Burning({}))
    with Watch(0.05, tmp_path) as watch:
        time.sleep(1.0)
    seen = watch.seen()
    assert seen.overhead_cores == pytest.approx(0.010 * seen.rate_hz, rel=0.25)


def test_borders_are_part_of_the_cost(tmp_path, powered):
    """An energy counter whose reading takes 10 ms of processor time, read at ten borders and, but for them, never."""

    class Burning(Constant):
        counts_energy = True

        def read(self):
            end = time.thread_time() + 0.010
            while time.thread_time() < end:
                pass
            return super().read()

    powered(Burning({}))
    begin = time.monotonic()
    with Watch(60.0, tmp_path) as watch:
        for _ in range(10):
            watch.mark()
    seen, most_s = watch.seen(), time.monotonic() - begin
    assert seen.overhead_cores * most_s >= 0.1
    assert seen.overhead_cores <= 1.2
    assert (len(seen.samples), seen.rate_hz) == (10, 0)


def test_a_program_that_the_source_starts_is_part_of_the_cost(tmp_path, powered):
    class Asking(Constant):
        def read(self):
            subprocess.run(["/bin/sh", "-c", "i=0; while [ $i -lt 9000 ]; do i=$((i+1)); done"], check=True)
            return super().read()

    powered(Asking({}))
    begin = os.times()
    with Watch(0.2, tmp_path) as watch:
        time.sleep(1.5)
    end = os.times()
    used = sum(end[:4]) - sum(begin[:4])
    seconds = end.elapsed - begin.elapsed
    assert watch.seen().overhead_cores * seconds == pytest.approx(used, rel=0.4)
    assert watch.seen().overhead_cores > 0.01


def test_an_error_in_the_thread_costs_what_comes_after_it_and_is_told(tmp_path, powered):
    class Broken(Constant):
        def read(self):
            if self.asked == 3:
                raise ZeroDivisionError("a bug")
            return super().read()

    powered(Broken({"VDD_IN": 5.0}))
    with Watch(0.02, tmp_path) as watch:
        time.sleep(0.3)
    seen = watch.seen()
    assert [sample.rails_mw for sample in seen.samples] == [{"VDD_IN": 5.0}] * 2
    assert re.fullmatch(r"the watch failed after \d\.\d s: ZeroDivisionError\('a bug'\)", seen.stopped)


def test_a_watch_that_goes_on_to_the_end_has_not_stopped(tmp_path, powered):
    powered(Constant({"VDD_IN": 5.0}))
    with Watch(0.02, tmp_path) as watch:
        time.sleep(0.3)
    assert watch.seen().stopped is None


def test_an_error_in_the_block_comes_through_and_ends_the_thread(tmp_path):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Watch(0.05, tmp_path):
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_a_watch_that_is_switched_off_reads_nothing(tmp_path, powered):
    source = powered(Constant({"VDD_IN": 5.0}))
    with Watch(0.0, tmp_path) as watch:
        before = time.monotonic()
        assert before <= watch.mark() <= time.monotonic()
        assert watch.power == (None, "the watch was switched off: sample_s is 0")
    assert (watch.seen(), source.asked) == (None, 0)


class Placed(Constant):
    """A source that notes where it is read."""

    def __init__(self):
        super().__init__({})
        self.places = []

    def read(self):
        self.places.append(os.sched_getaffinity(0))
        return super().read()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor has to do for all")
def test_the_watch_keeps_off_the_processors_of_the_engines(tmp_path, powered, nothing_on_the_path):
    source = powered(Placed())
    everywhere, first = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    with Watch(0.02, tmp_path, engines_on=[first]):
        assert os.sched_getaffinity(0) == everywhere  # the coordinator's own thread is as it was
        time.sleep(0.2)
    assert source.places[-1] == everywhere - {first}
    program(nothing_on_the_path, f'echo $$ > {tmp_path}/pid\nwhile :; do echo "{NANO}"; sleep 0.05; done')
    with Watch(0.05, tmp_path, engines_on=[first]):
        assert os.sched_getaffinity(int((tmp_path / "pid").read_text())) == everywhere - {first}


def test_where_the_engines_may_run_everywhere_so_may_the_watch(tmp_path, powered):
    source = powered(Placed())
    for engines_on in ((), sorted(os.sched_getaffinity(0))):
        with Watch(0.02, tmp_path, engines_on=engines_on):
            time.sleep(0.1)
        assert set(map(frozenset, source.places)) == {frozenset(os.sched_getaffinity(0))}


# In a measurement ----------------------------------------------------------------------------------------------------


def test_a_network_busy_for_a_millisecond_at_five_watts_takes_five_millijoules_or_more(
    pristine_bundle, tmp_path, powered
):
    powered(Constant({"VDD_IN": 5000.0, "VDD_SOC": 1400.0}))
    work = QUICK.changed(round_s=0.06, passes=2, idle_s=0.2, sample_s=0.02, options={"busy_us": "1000"})
    measured = measure(read_bundle(pristine_bundle), tmp_path, ["null"], [], work, str)
    for found in measured.values():
        spent = found.power
        assert (spent["scope"], spent["source"], found.power_mw) == ("module", "made up", 5000.0)
        assert spent["rails"] == {"VDD_IN": pytest.approx(5000), "VDD_SOC": pytest.approx(1400)}
        busy_s = math.fsum(map(math.fsum, found.latency_ns)) / 1e9
        assert spent["energy_mj"] * found.n == pytest.approx(5000 * busy_s)  # milliwatts times seconds
        assert spent["energy_mj"] >= 5.0  # a millisecond each, and what interrupts it
        assert (spent["idle_mw"], spent["net_energy_mj"]) == (pytest.approx(5000), pytest.approx(0, abs=1e-9))
        assert "power" not in found.reasons
        columns = found.watch["columns"]
        assert len(columns["at_s"]) == spent["samples"] >= work.passes * work.rounds
        assert columns["at_s"] == sorted(columns["at_s"])
        assert set(columns["power_mw"]) == {5000.0}
    dense, sparse = measured["null-dense.json"], measured["null-sparse.json"]
    assert not set(dense.watch["columns"]["at_s"]) & set(sparse.watch["columns"]["at_s"])
    twin = [math.fsum(samples) / len(samples) / 1e6 for samples in dense.twin_ns]
    assert min(twin) >= 1.0


def test_without_samples_in_most_of_the_rounds_power_is_none_and_it_is_told_why(
    pristine_bundle, tmp_path, nothing_on_the_path
):
    """tegrastats says two lines and hangs; the rounds go on for two seconds and more."""
    program(nothing_on_the_path, f'echo "{NANO}"; sleep 0.1; echo "{NANO}"; exec sleep 600')
    work = QUICK.changed(passes=2, rounds=5, round_s=0.3, sample_s=0.05, options={"busy_us": "1000"})
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.power, found.power_mw) == (None, None)
    assert re.fullmatch(r"tegrastats said nothing after 0\.\d s", found.reasons["power"])
    (doubt,) = [doubt for doubt in found.warnings if doubt.code == "watch_stopped"]
    assert doubt.message.endswith(found.reasons["power"])


def test_without_a_rail_power_is_none_with_the_reason_and_nobody_waits_for_idle(pristine_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_files, "power_source", lambda root: Reading(None, "no rail here"))
    work = QUICK.changed(idle_s=60.0)
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.power, found.power_mw) == (None, None)
    assert found.reasons["power"] == found.reasons["power_mw"] == "no rail here"
    assert found.watch["columns"]["power_mw"] == [None] * len(found.watch["columns"]["at_s"])


def test_without_an_idle_baseline_the_net_energy_is_none_with_the_reason(pristine_bundle, tmp_path, powered):
    powered(Constant({"VDD_IN": 5000.0}))
    work = QUICK.changed(round_s=0.1, sample_s=0.02, options={"busy_us": "1000"})
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.power["idle_mw"], found.power["net_energy_mj"]) == (None, None)
    assert "idle_s" in found.reasons["power.net_energy_mj"]


def test_without_a_watch_both_are_none_with_the_reason(pristine_bundle, tmp_path):
    work = QUICK.changed(sample_s=0)
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.watch, found.power) == (None, None)
    assert found.reasons["watch"] == found.reasons["power"] == "the watch was switched off: sample_s is 0"
