"""The watch's samples from the files of /proc and /sys: what is read, when, and what is not."""

import time

import pytest
from watched import Constant, tree

from runtimes import energy
from runtimes.board.energy_counters import Counter, EnergyCounters
from runtimes.readings import Reading
from runtimes.watch import Watch
from runtimes.watch_files import Files
from runtimes.watch_sources import Sample

pytestmark = pytest.mark.usefixtures("nothing_on_the_path")


def test_each_column_is_read_from_its_file(tmp_path):
    root = tree(
        tmp_path / "root",
        {
            "proc/meminfo": "MemTotal:        8000000 kB\nMemAvailable:    6976000 kB\n",
            "sys/class/thermal/thermal_zone0/type": "soc\n",
            "sys/class/thermal/thermal_zone0/temp": "48500\n",
            "sys/class/thermal/thermal_zone1/temp": "-256000\n",
            "sys/class/thermal/thermal_zone2/type": "PMIC-Die\n",
            "sys/class/thermal/thermal_zone2/temp": "100000\n",
            "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "729600\n",
            "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "1510400\n",
            "sys/class/devfreq/17000000.gpu/cur_freq": "306000000\n",
            "sys/devices/platform/bus@0/17000000.gpu/load": "437\n",
            "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000\n",
        },
    )
    files = Files(0.1, root)
    at_s = files.look()
    (found,) = files.samples()
    assert found == Sample(at_s, found.seconds, {}, 43.7, 306.0, 2133.0, 1510.4, 48.5, 1000.0)
    assert files.power.value is None
    assert files.power.reason


def test_what_is_not_there_is_none_and_never_zero(tmp_path):
    files = Files(0.1, tmp_path / "nothing")
    files.look()
    (found,) = files.samples()
    assert found[2:] == ({}, None, None, None, None, None, None)


def test_a_sensor_that_is_switched_off_meanwhile_is_left_out(tmp_path):
    names = ["sys/class/thermal/thermal_zone0/temp", "sys/class/thermal/thermal_zone1/temp"]
    root = tree(tmp_path / "root", dict(zip(names, ["-256000\n", "40000\n"], strict=True)))
    files = Files(0.1, root)
    files.look()
    (root / names[1]).unlink()
    files.look()
    assert [sample.temperature_c for sample in files.samples()] == [40.0, None]


def test_memory_without_a_total_is_none(tmp_path):
    files = Files(0.1, tree(tmp_path / "root", {"proc/meminfo": "MemAvailable:    6976000 kB\n"}))
    files.look()
    assert files.samples()[0].ram_used_mb is None


def test_of_many_sensors_those_of_the_processors_are_read_and_numbers_are_sorted_as_numbers(tmp_path):
    """Twelve zones and twelve policies; eight of each are read."""
    zones = {f"sys/class/thermal/thermal_zone{number}": 30 + number for number in range(12)}
    kinds = {10: "gpu-thermal", 11: "cpu-thermal"}
    cores = {f"sys/devices/system/cpu/cpufreq/policy{number}": 1000 + number for number in range(12)}
    root = tree(
        tmp_path / "root",
        {
            **{f"{place}/temp": f"{celsius}000\n" for place, celsius in zones.items()},
            **{f"{place}/type": f"{kinds.get(number, 'soc')}\n" for number, place in enumerate(zones)},
            **{f"{place}/scaling_cur_freq": f"{mhz}000\n" for place, mhz in cores.items()},
            **{f"{place}/related_cpus": f"{2 * number} {2 * number + 1}\n" for number, place in enumerate(cores)},
        },
    )
    found = {}
    for cpus in ((), (23,)):
        files = Files(0.1, root, cpus)
        files.look()
        found[cpus] = (files.samples()[0].temperature_c, files.samples()[0].cpu_mhz)
    assert found == {(): (41.0, 1007.0), (23,): (41.0, 1011.0)}


class Meter(Constant):
    """A meter of this moment, on a machine that takes 10 W while its engine works and 2 W otherwise."""

    def __init__(self):
        super().__init__({})
        self.works = False

    def read(self):
        return {"VDD_IN": 10_000.0 if self.works else 2_000.0}


def test_a_meter_of_the_moment_is_not_read_at_the_borders_when_the_engine_has_answered(tmp_path, powered):
    """Between the borders it is read as often as the interval has it, here three times; the round is all at 10 W."""
    meter = powered(Meter())
    files, rounds = Files(0.1, tmp_path), []
    for _ in range(4):
        files.look()
        begin = files.mark()
        meter.works = True
        for _ in range(3):
            files.look()
        meter.works = False
        rounds.append((begin, files.mark()))
    own = energy.within(files.samples(), rounds)
    assert len(own) == 12
    assert energy.mean_rails(own) == {"VDD_IN": pytest.approx(10_000)}
    assert len(files.samples()) == 16


def test_a_source_that_costs_much_is_asked_less_often_and_the_interval_is_told(tmp_path, powered):
    source = powered(Constant({"VDD_IN": 5.0}))
    source.least_interval_s = 0.3
    with Watch(0.02, tmp_path) as watch:
        time.sleep(0.8)
    assert source.asked - 1 in (1, 2)
    assert watch.seen().interval_s == 0.3
    assert Files(0.7, tmp_path).interval_s == 0.7


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
