"""Clocks: captured prints of jetson_clocks in both generations, devfreq and cpufreq, pinned or not."""

from __future__ import annotations

import pytest
from board_prints import NOTHING, Programs, printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.clocks import (
    Clock,
    JetsonClocks,
    clock_files,
    clock_state,
    cpu_policies,
    emc_mhz,
    governors,
    gpu_clock,
    gpu_highest_mhz,
    gpu_load_file,
    mode_contradictions,
    parse_cpu_count,
    parse_highest_mhz,
    parse_jetson_clocks,
)

SUPER = "jetson_clocks-show-orin-nano-super-jp7.2.1.txt"
SHOW = "jetson_clocks --show"
# A whole print of the older generation, in the form of the captured fragment.
JETPACK_4 = """\
SOC family:tegra194  Machine:Jetson-AGX
Online CPUs: 0-3
cpu0: Online=1 Governor=schedutil MinFreq=2265600 MaxFreq=2265600 CurrentFreq=2265600 IdleStates: C1=0 c6=0
cpu1: Online=0 Governor=schedutil MinFreq=1190400 MaxFreq=2265600 CurrentFreq=1190400 IdleStates: C1=1 c6=1
GPU MinFreq=1377000000 MaxFreq=1377000000 CurrentFreq=1377000000
EMC MinFreq=204000000 MaxFreq=2133000000 CurrentFreq=2133000000 FreqOverride=1
Fan: speed=255
NV Power Mode: MAXN
"""


def test_the_captured_print_of_jetpack_7() -> None:
    now = [960.0, 960.0, 1344.0, 1344.0, 1344.0, 1267.2]
    assert parse_jetson_clocks(printed(SUPER)) == JetsonClocks(
        machine="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        cpus={number: Clock(729.6, 1344.0, clock) for number, clock in enumerate(now)},
        governors=dict.fromkeys(range(6), "schedutil"),
        offline=[],
        gpu=Clock(306.0, 918.0, 306.0),
        emc=Clock(204.0, 3199.0, 665.6),
        gpu_tpcs=4,
        power_mode="25W",
    )


def test_the_captured_print_without_the_super_firmware() -> None:
    found = parse_jetson_clocks(printed("jetson_clocks-show-orin-nano-r39.2.0.txt"))
    assert found is not None
    assert found.gpu == Clock(306.0, 624.75, 306.0)
    assert found.emc == Clock(204.0, 2133.0, 2133.0)
    assert (found.power_mode, found.gpu_tpcs, len(found.cpus)) == ("15W", 4, 6)
    assert found.cpus[4] == Clock(729.6, 1510.4, 729.6)


def test_the_captured_fragment_of_jetpack_5() -> None:
    assert parse_jetson_clocks(printed("jetson_clocks-show-agx-orin-jp5-fragment.txt")) == JetsonClocks(
        machine="NVIDIA Orin Jetson-Small Developer Kit",
        cpus={0: Clock(115.2, 2201.6, 2112.0)},
        governors={0: "schedutil"},
        offline=[],
        gpu=None,
        emc=None,
        gpu_tpcs=None,
        power_mode=None,
    )


def test_the_older_generation_says_for_each_processor_whether_it_is_online() -> None:
    found = parse_jetson_clocks(JETPACK_4)
    assert found is not None
    assert found.cpus == {0: Clock(2265.6, 2265.6, 2265.6)}
    assert found.offline == [1]
    assert (found.gpu, found.gpu and found.gpu.pinned) == (Clock(1377.0, 1377.0, 1377.0), True)
    assert (found.emc, found.emc and found.emc.pinned) == (Clock(204.0, 2133.0, 2133.0), False)


def test_the_newer_generation_lists_what_is_offline() -> None:
    text = printed(SUPER).replace("Offline CPUs: \n", "Offline CPUs: 4-5,7\n")
    found = parse_jetson_clocks(text)
    assert found is not None
    assert found.offline == [4, 5, 7]


@pytest.mark.parametrize("text", ["", "Can't access cpu frequency information. Run as root", "GPU busy"])
def test_a_refusal_is_none(text: str) -> None:
    assert parse_jetson_clocks(text) is None


@pytest.mark.parametrize(
    ("text", "count"),
    [("0-5\n", 6), ("0-3,6\n", 5), ("0\n", 1), ("0-1,4-7,9", 7), ("", None), ("a-b", None), ("0-99999999", None)],
)
def test_processors_of_a_kernel_list(text: str, count: int | None) -> None:
    assert parse_cpu_count(text) == count


def test_the_highest_of_the_clocks_on_offer() -> None:
    assert parse_highest_mhz("306000000 408000000 624750000 612000000\n") == 624.75
    assert parse_highest_mhz("\n") is None


def gpu_files(name: str, lowest: int, highest: int, now: int) -> dict[str, int]:
    place = f"sys/class/devfreq/{name}"
    return {f"{place}/min_freq": lowest, f"{place}/max_freq": highest, f"{place}/cur_freq": now}


@pytest.mark.parametrize(
    "name",
    ["17000000.gpu", "17000000.ga10b", "17000000.gv11b", "17000000.gp10b", "57000000.gpu", "gpu-gpc-0", "ff9a0000.gpu"],
)
def test_the_gpu_is_found_under_each_releases_name(tmp_path, name: str) -> None:
    others = {"sys/class/devfreq/15340000.vic/cur_freq": 115200000, "sys/class/devfreq/gpu-nvd-0/cur_freq": 1}
    root = tree(tmp_path, {**others, **gpu_files(name, 306000000, 1020000000, 612000000)})
    assert gpu_clock(root).value == Clock(306.0, 1020.0, 612.0)
    assert gpu_highest_mhz(root) is None
    tree(root, {f"sys/class/devfreq/{name}/available_frequencies": "306000000 1020000000\n"})
    assert gpu_highest_mhz(root) == 1020.0


@pytest.mark.parametrize(
    ("device", "load"),
    [
        ("sys/class/devfreq/17000000.gpu/cur_freq", "sys/class/devfreq/17000000.gpu/device/load"),
        ("sys/class/devfreq/17000000.gpu/cur_freq", "sys/devices/platform/17000000.gpu/load"),
        (None, "sys/devices/gpu.0/load"),
        (None, "sys/devices/platform/17000000.ga10b/load"),
        (None, "sys/devices/platform/bus@0/17000000.gpu/load"),
    ],
)
def test_the_gpus_load_is_found_through_devfreq_or_without(tmp_path, device: str | None, load: str) -> None:
    assert gpu_load_file(tree(tmp_path, {device: 1} if device else {})) is None
    assert gpu_load_file(tree(tmp_path, {load: 437})) == load


def test_groups_of_processors_are_sorted_by_number_those_that_are_named_first(tmp_path) -> None:
    place = "sys/devices/system/cpu/cpufreq/policy{}"
    for number in (0, 4, 8, 12):
        tree(tmp_path, {f"{place.format(number)}/related_cpus": f"{number} {number + 1} {number + 2} {number + 3}\n"})
    by_number = [place.format(number) + "/scaling_cur_freq" for number in (0, 4, 8, 12)]
    assert clock_files(root=tmp_path) == by_number
    assert clock_files([14, 5], tmp_path) == [by_number[1], by_number[3], by_number[0], by_number[2]]
    assert list(cpu_policies(tmp_path)) == ["policy0", "policy4", "policy8", "policy12"]


def cpu_files(*policies: tuple[str, int, int, int, str]) -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for name, lowest, highest, now, governor in policies:
        place = f"sys/devices/system/cpu/cpufreq/{name}/scaling"
        values = {"min_freq": lowest, "max_freq": highest, "cur_freq": now, "governor": f"{governor}\n"}
        found |= {f"{place}_{key}": value for key, value in values.items()}
    return found


def test_pinned_is_one_clock_left_on_every_processor(tmp_path) -> None:
    pinned, free = (
        ("policy0", 1344000, 1344000, 1344000, "schedutil"),
        ("policy4", 729600, 1344000, 729600, "schedutil"),
    )
    root = tree(tmp_path, {**cpu_files(pinned, free), **gpu_files("17000000.gpu", 918000000, 918000000, 918000000)})
    state = clock_state(root, NOTHING)
    assert state["clocks_pinned"].value == {"gpu": True, "cpu": False}
    assert state["gpu_clock_mhz"].value == {"min": 918.0, "max": 918.0, "cur": 918.0}
    assert governors(root).value == ["schedutil"]
    tree(root, cpu_files(("policy4", 1344000, 1344000, 1344000, "performance")))
    assert clock_state(root, NOTHING)["clocks_pinned"].value == {"gpu": True, "cpu": True}
    assert governors(root).value == ["schedutil", "performance"]


def test_what_sysfs_hides_jetson_clocks_tells(tmp_path) -> None:
    state = clock_state(tmp_path, Programs({SHOW: printed(SUPER)}))
    assert state["gpu_clock_mhz"].value == {"min": 306.0, "max": 918.0, "cur": 306.0}
    assert state["emc_clock_mhz"].value == {"min": 204.0, "max": 3199.0, "cur": 665.6}
    assert state["clocks_pinned"].value == {"gpu": False, "cpu": False, "emc": False}


def test_the_memory_clock_of_the_kernels_debug_files(tmp_path) -> None:
    root = tree(tmp_path, {"sys/kernel/debug/bpmp/debug/clk/emc/rate": 3199000000})
    assert emc_mhz(root).value == 3199.0
    assert clock_state(root, NOTHING)["emc_clock_mhz"].value == {"cur": 3199.0}


def test_where_nothing_is_shown_every_none_has_its_reason(tmp_path) -> None:
    state = clock_state(tmp_path, NOTHING)
    assert set(state) == {"gpu_clock_mhz", "emc_clock_mhz", "clocks_pinned", "governors"}
    assert all(reading.value is None and reading.reason for reading in state.values())


def test_a_mode_whose_gpu_is_capped_below_it_is_told() -> None:
    assert mode_contradictions("25W", 918.0, 624.75) == [
        "power mode 25W allows the GPU 918 MHz, but its highest clock is set to 624.75 MHz"
    ]
    assert mode_contradictions("15W", 612.0, 918.0) == [
        "power mode 15W allows the GPU 612 MHz, but its highest clock is set to 918 MHz"
    ]


@pytest.mark.parametrize(("allowed", "highest"), [(625.0, 624.75), (918.0, 918.0), (1020.0, 1020.0), (1300.5, 1300.0)])
def test_the_step_beside_it_is_the_same_clock(allowed: float, highest: float) -> None:
    assert mode_contradictions("any", allowed, highest) == []


@given(st.text(), st.lists(st.tuples(st.sampled_from(["cpu0:", "GPU", "EMC"]), st.text())))
def test_no_text_makes_a_parser_fail(text: str, lines: list[tuple[str, str]]) -> None:
    for parse in (parse_jetson_clocks, parse_cpu_count, parse_highest_mhz):
        parse(text)
        parse("\n".join(f"{name} MinFreq={rest}" for name, rest in lines))
