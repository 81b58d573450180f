"""The watch beside a run: what it reads, when, at what rate and cost, and that nothing of it is left behind."""

import math
import os
import stat
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tiny_networks import QUICK

from runtimes import energy, watch_sources
from runtimes.board.energy_counters import Counter, EnergyCounters
from runtimes.bundle import read_bundle
from runtimes.measure import measure
from runtimes.readings import Reading
from runtimes.watch import Watch
from runtimes.watch_sources import Files, Sample, open_source

NANO = (
    "04-14-2025 21:53:07 RAM 1820/7620MB (lfb 4x4MB) SWAP 0/3810MB (cached 0MB) CPU [1%@729,off,0%@1510] "
    "EMC_FREQ 2%@2133 GR3D_FREQ 37%@305 cpu@47.5C gpu@48.25C VDD_IN 4825mW/4830mW VDD_CPU_GPU_CV 600mW/600mW "
    "VDD_SOC 1400mW/1400mW"
)
WITHOUT_RAILS = NANO.partition(" VDD_IN")[0]


@pytest.fixture(autouse=True)
def nothing_on_the_path(monkeypatch, tmp_path):
    """No tegrastats, unless the test puts one there."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path / "bin"


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

    def __init__(self, rails):
        self.rails, self.asked = rails, 0

    def read(self):
        self.asked += 1
        return self.rails


@pytest.fixture
def powered(monkeypatch):
    def by(source):
        monkeypatch.setattr(watch_sources, "power_source", lambda root: Reading(source))
        return source

    return by


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def children() -> str:
    """Of this thread, those that have ended and were not waited for among them."""
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


# Files ---------------------------------------------------------------------------------------------------------------


def test_each_column_is_read_from_its_file(tmp_path):
    root = tree(
        tmp_path / "root",
        {
            "proc/meminfo": "MemTotal:        8000000 kB\nMemAvailable:    6976000 kB\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/temp": "-256000\n",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
            "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "1510400\n",
            "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
            "sys/devices/platform/bus@0/17000000.gpu/load": "437\n",
            "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n",
        },
    )
    files = Files(root)
    at_s = files.mark()
    (found,) = files.samples()
    assert found == Sample(at_s, found.seconds, {}, 43.7, 306.0, 2133.0, 1510.4, 48.5, 1000.0)
    assert files.power.value is None
    assert files.power.reason


def test_what_is_not_there_is_none_and_never_zero(tmp_path):
    files = Files(tmp_path / "nothing")
    files.mark()
    (found,) = files.samples()
    assert found[2:] == ({}, None, None, None, None, None, None)


def test_a_sensor_that_is_switched_off_meanwhile_is_left_out(tmp_path):
    names = ["sys/class/thermal/thermal_zone0/temp", "sys/class/thermal/thermal_zone1/temp"]
    root = tree(tmp_path / "root", dict(zip(names, ["-256000\n", "40000\n"], strict=True)))
    files = Files(root)
    files.mark()
    (root / names[1]).unlink()
    files.mark()
    assert [sample.temperature_c for sample in files.samples()] == [40.0, None]


class Turning:
    """An energy counter of a machine that takes `milliwatts`, which a test may change while it counts."""

    def __init__(self):
        self.milliwatts, self.since, self.uj = 10_000.0, time.monotonic(), 0.0

    def turn(self, milliwatts):
        self.uj, self.since, self.milliwatts = self.now(), time.monotonic(), milliwatts

    def now(self):
        return self.uj + (time.monotonic() - self.since) * self.milliwatts * 1000

    def read(self):
        return str(int(self.now()))


def test_an_energy_counter_that_is_read_at_the_borders_gives_each_round_its_own_energy(tmp_path, powered, monkeypatch):
    """40 W in the rounds and 10 W between them. The samples between the borders are 0.03 s apart and lie anywhere."""
    machine = Turning()
    monkeypatch.setattr("runtimes.board.energy_counters.read", lambda path, parse, root: Reading(int(machine.read())))
    powered(EnergyCounters([Counter("package-0", "energy", 1 << 62)]))
    rounds = []
    with Watch(0.03, tmp_path) as watch:
        for seconds in (0.1, 0.05, 0.02):
            time.sleep(0.07)
            machine.turn(40_000.0)
            begin = watch.mark()
            time.sleep(seconds)
            rounds.append((begin, watch.mark()))
            machine.turn(10_000.0)
    seen = watch.seen()
    own = energy.within(seen.samples, rounds)
    assert energy.mean_rails(own)["package-0"] == pytest.approx(40_000, rel=0.02)
    assert sum(sample.seconds for sample in own) == pytest.approx(sum(end - begin for begin, end in rounds))
    others = [sample for sample in seen.samples if sample not in own and sample.rails_mw]
    assert energy.mean_rails(others[2:])["package-0"] == pytest.approx(10_000, rel=0.1)


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


def test_an_error_in_the_thread_is_raised_when_the_watch_ends(tmp_path, powered):
    class Broken(Constant):
        def read(self):
            if self.asked == 2:
                raise ZeroDivisionError("a bug")
            return super().read()

    powered(Broken({}))
    with pytest.raises(ZeroDivisionError), Watch(0.02, tmp_path):
        time.sleep(0.3)


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


# tegrastats ----------------------------------------------------------------------------------------------------------


def test_tegrastats_is_taken_where_it_is_on_the_path(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'echo $$ "$@" > {tmp_path}/said\nwhile :; do echo "{NANO}"; sleep 0.05; done')
    before = time.monotonic()
    with Watch(0.05, tmp_path) as watch:
        time.sleep(0.6)
        pid, *arguments = (tmp_path / "said").read_text().split()
        assert alive(int(pid))
    assert not alive(int(pid))
    assert arguments == ["--interval", "50"]
    seen = watch.seen()
    assert (seen.source, seen.power.value) == ("tegrastats", "tegrastats")
    first = seen.samples[0]
    rails = {"VDD_IN": 4825.0, "VDD_CPU_GPU_CV": 600.0, "VDD_SOC": 1400.0}
    assert first == Sample(first.at_s, 0.05, rails, 37, 305, 2133, 1510, 48.25, 1820)
    assert before < first.at_s < time.monotonic()
    times = [sample.at_s for sample in seen.samples]
    assert times == sorted(times)
    assert 5 < seen.rate_hz < 25


def test_somebody_elses_tegrastats_goes_on(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'while :; do echo "{NANO}"; sleep 0.05; done')
    with subprocess.Popen([nothing_on_the_path / "tegrastats"], stdout=subprocess.DEVNULL) as other:
        with Watch(0.05, tmp_path):
            time.sleep(0.2)
        assert other.poll() is None
        other.kill()


def test_the_processor_time_of_tegrastats_is_part_of_the_cost(tmp_path, nothing_on_the_path):
    """This one burns what it can get, with a pause of 50 ms in each turn; /proc knows what that was."""
    burn = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"
    program(nothing_on_the_path, f'echo $$ > {tmp_path}/pid\nwhile :; do {burn}; echo "{NANO}"; sleep 0.05; done')
    with Watch(0.05, tmp_path) as watch:
        time.sleep(1.0)
        ticks = Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}/stat").read_text().rpartition(")")[2].split()
        used = sum(map(int, ticks[11:15])) / os.sysconf("SC_CLK_TCK")
    assert used > 0.1
    assert watch.seen().overhead_cores == pytest.approx(used, rel=0.3)


@pytest.mark.parametrize(
    "body", ["exit 1", "echo tegrastats: permission denied; sleep 0.1", "exec sleep 60", "exec /no"]
)
def test_a_tegrastats_that_tells_nothing_gives_way_to_the_files(tmp_path, nothing_on_the_path, monkeypatch, body):
    monkeypatch.setattr(watch_sources, "_FIRST_LINE_S", 0.3)
    program(nothing_on_the_path, body)
    before = children()
    assert open_source(0.05, tmp_path).name == "sysfs"
    assert children() == before


def test_where_only_the_files_know_of_power_they_are_taken(tmp_path, nothing_on_the_path, powered):
    program(nothing_on_the_path, f'while :; do echo "{WITHOUT_RAILS}"; sleep 0.05; done')
    powered(Constant({"VDD_IN": 5.0}))
    source = open_source(0.05, tmp_path)
    source.close()
    assert source.name == "sysfs"


def test_where_nobody_knows_of_power_tegrastats_tells_the_rest(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'while :; do echo "{WITHOUT_RAILS}"; sleep 0.05; done')
    source = open_source(0.05, tmp_path)
    source.close()
    assert (source.name, source.power) == ("tegrastats", (None, "tegrastats prints no power rail that is known"))
    assert source.samples()[0].gpu_percent == 37


def test_a_tegrastats_that_dies_in_the_midst_ends_the_samples_and_nothing_else(tmp_path, nothing_on_the_path):
    program(nothing_on_the_path, f'echo "{NANO}"; sleep 0.1; echo "{NANO}"; printf "RAM 18"')
    with Watch(0.05, tmp_path) as watch:
        time.sleep(0.5)
    assert [sample.ram_used_mb for sample in watch.seen().samples] == [1820, 1820]
    assert watch.seen().rate_hz < 4


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


def test_without_a_rail_power_is_none_with_the_reason_and_nobody_waits_for_idle(pristine_bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(watch_sources, "power_source", lambda root: Reading(None, "no rail here"))
    work = QUICK.changed(idle_s=60.0)
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.power, found.power_mw) == (None, None)
    assert found.reasons["power"] == found.reasons["power_mw"] == "no rail here"
    assert found.watch["columns"]["power_mw"] == [None] * len(found.watch["columns"]["at_s"])


def test_without_an_idle_baseline_the_net_energy_is_none_with_the_reason(pristine_bundle, tmp_path, powered):
    powered(Constant({"VDD_IN": 5000.0}))
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], QUICK, str)["null-dense.json"]
    assert (found.power["idle_mw"], found.power["net_energy_mj"]) == (None, None)
    assert "idle_s" in found.reasons["power.net_energy_mj"]


def test_without_a_watch_both_are_none_with_the_reason(pristine_bundle, tmp_path):
    work = QUICK.changed(sample_s=0)
    found = measure(read_bundle(pristine_bundle), tmp_path, ["null"], ["dense"], work, str)["null-dense.json"]
    assert (found.watch, found.power) == (None, None)
    assert found.reasons["watch"] == found.reasons["power"] == "the watch was switched off: sample_s is 0"
