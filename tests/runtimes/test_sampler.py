import os

import pytest

from runtimes import sampler

PI_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
CPU part\t: 0xd08

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
STAT = "cpu  100 5 30 1000 7 1 2 4 50 0\ncpu0 100 5 30 1000 7 1 2 4 50 0\nintr 1\n"


def board(root, files):
    """A captured tree: path -> content."""
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(content)
    return root


def test_parse_cpuinfo_keeps_one_value_for_each_processor():
    assert sampler.parse_cpuinfo("processor: 0\ncpu MHz : 800.1\n\nprocessor: 1\ncpu MHz : 2400.0\nflags :\n") == {
        "processor": ["0", "1"],
        "cpu MHz": ["800.1", "2400.0"],
    }


def test_busy_ticks_leave_out_idle_iowait_and_guest():
    assert sampler.parse_busy_ticks(STAT) == 100 + 5 + 30 + 1 + 2 + 4


@pytest.mark.parametrize("text", ["", "intr 1\n", "cpu  0 0 0 0 0 0 0 0 0 0\n"])
def test_busy_ticks_that_are_not_counted_are_none(text):
    assert sampler.parse_busy_ticks(text) is None


def test_load_average():
    assert sampler.parse_load_average("0.17 0.27 0.25 2/86 7876\n") == [0.17, 0.27, 0.25]
    assert sampler.parse_load_average("") is None


def test_a_raspberry_pi_tells_its_model_temperature_and_throttling(tmp_path):
    root = board(
        tmp_path,
        {
            "proc/cpuinfo": PI_CPUINFO,
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "48199\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        },
    )
    assert sampler.cpu_model(root).value == "Raspberry Pi 4 Model B Rev 1.4"
    assert sampler.temperatures_mc(root).value == {"cpu-thermal": 48199}
    assert sampler.throttling(root).value == {"get_throttled": 0x50005}
    assert sampler.facts(root=root)["board"] == "Raspberry Pi 4 Model B Rev 1.4"


def test_zones_of_one_name_are_both_kept_and_a_silent_one_is_left_out(tmp_path):
    zones = {f"sys/class/thermal/thermal_zone{i}/type": "soc\n" for i in range(3)}
    temperatures = {f"sys/class/thermal/thermal_zone{i}/temp": f"{40 + i}000\n" for i in range(2)}
    root = board(tmp_path, {**zones, **temperatures})
    assert sampler.temperatures_mc(root).value == {"soc": 40000, "thermal_zone1": 41000}


def test_clocks_come_from_cpufreq_before_cpuinfo(tmp_path):
    cpus = sorted(os.sched_getaffinity(0))
    files = {f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": "1510400\n" for cpu in cpus}
    root = board(tmp_path, {**files, "proc/cpuinfo": f"processor : {cpus[0]}\ncpu MHz : 1.0\n"})
    assert set(sampler.clocks_mhz(root).value) == {1510.4}
    for file in files:
        (root / file).unlink()
    assert sampler.clocks_mhz(root).value == [1.0]


def test_clocks_are_those_of_the_processors_that_are_asked_for(tmp_path):
    place = "sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq"
    root = board(tmp_path / "files", {place.format(cpu): f"{1000 + cpu}000\n" for cpu in range(12)})
    assert sampler.clocks_mhz(root, [9, 11]).value == [1009.0, 1011.0]
    assert sampler.sample(root, [9]).clock_mhz.value == 1009.0
    printed = "".join(f"processor : {cpu}\ncpu MHz : {2000 + cpu}\n\n" for cpu in range(12))
    root = board(tmp_path / "printed", {"proc/cpuinfo": printed})
    assert sampler.clocks_mhz(root, [9, 11]).value == [2009.0, 2011.0]


def test_throttle_counts_add_up_over_the_cores(tmp_path):
    place = "sys/devices/system/cpu/cpu{}/thermal_throttle/core_throttle_count"
    root = board(tmp_path, {place.format(0): "2\n", place.format(1): "5\n"})
    assert sampler.throttling(root).value == {"core_throttle_count": 7}


def test_on_a_machine_that_says_nothing_every_none_has_its_reason(tmp_path):
    facts = sampler.facts(before=sampler.changing(tmp_path), root=tmp_path)
    silent = {name for name, value in facts.items() if value is None or value == {"before": None, "after": None}}
    assert silent == set(facts["reasons"])
    assert {"clocks_mhz", "load_average", "temperature_mc", "throttling", "governor", "cpu_model"} <= silent
    reading = sampler.sample(tmp_path)
    assert reading.busy_s == (None, "/proc/stat: No such file or directory")


def test_this_machine_answers():
    facts = sampler.facts()
    assert facts["cores"] == os.cpu_count()
    assert facts["os"]
