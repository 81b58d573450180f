import os

import pytest

from runtimes import sampler
from runtimes.readings import parse_number

PI_CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
CPU part\t: 0xd08

Hardware\t: BCM2835
Model\t\t: Raspberry Pi 4 Model B Rev 1.4
"""
MEMINFO = "MemTotal:        3884372 kB\nMemAvailable:    3384368 kB\nHugePages_Total:       0\nActive(anon):   100 kB\n"
STATUS = "Name:\tpython3\nVmHWM:\t   10240 kB\nVmRSS:\t    9216 kB\nThreads:\t1\n"
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


def test_parse_sizes_are_bytes_of_lines_in_kb():
    assert sampler.parse_sizes(MEMINFO) == {
        "MemTotal": 3884372 * 1024,
        "MemAvailable": 3384368 * 1024,
        "Active(anon)": 100 * 1024,
    }
    assert sampler.parse_sizes(STATUS) == {"VmHWM": 10 << 20, "VmRSS": 9 << 20}


def test_busy_ticks_leave_out_idle_iowait_and_guest():
    assert sampler.parse_busy_ticks(STAT) == 100 + 5 + 30 + 1 + 2 + 4


@pytest.mark.parametrize("text", ["", "intr 1\n", "cpu  0 0 0 0 0 0 0 0 0 0\n"])
def test_busy_ticks_that_are_not_counted_are_none(text):
    assert sampler.parse_busy_ticks(text) is None


@pytest.mark.parametrize(("text", "cpus"), [("0-3,6\n", [0, 1, 2, 3, 6]), ("0", [0]), ("\n", [])])
def test_cpu_list(text, cpus):
    assert sampler.parse_cpu_list(text) == cpus


@pytest.mark.parametrize(
    ("text", "number"), [("45250\n", 45250), ("-5000", -5000), ("0x50005\n", 0x50005), ("n/a", None)]
)
def test_number(text, number):
    assert parse_number(text) == number


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
    root = board(tmp_path, {**files, "proc/cpuinfo": "cpu MHz : 1.0\n"})
    assert set(sampler.clocks_mhz(root).value) == {1510.4}
    for file in files:
        (root / file).unlink()
    assert sampler.clocks_mhz(root).value == [1.0]


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
