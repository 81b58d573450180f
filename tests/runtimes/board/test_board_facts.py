"""All facts of a board together: a Jetson, a Raspberry Pi, a PC and a machine that says nothing; and in the sampler."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from board_prints import NOTHING, Programs, printed, tree

from runtimes import sampler
from runtimes.board.facts import board_facts, board_state, gpu_names, parse_gpu_name, parse_user, throttled

GPU = "sys/class/devfreq/17000000.gpu"
STAYS = {
    *("module", "module_evidence", "contradictions", "soc", "gpu", "sm_count", "l4t", "l4t_built", "jetpack", "cuda"),
    *("tensorrt", "power_mode", "power_modes", "user", "stand_in"),
}
CHANGES = {
    *("gpu_clock_mhz", "emc_clock_mhz", "clocks_pinned", "governors", "cores_online", "throttled"),
    *("temperature_unread", "swap_used_bytes", "busy_programs", "firmware_clock_mhz", "firmware_temperature_c"),
}
ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal:        7665664 kB\nMemAvailable: 1 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    "proc/self/status": "Name:\tpython3\nUid:\t1000\t1000\t1000\t1000\n",
    "etc/nv_tegra_release": printed("nv_tegra_release-r39.2.1.txt"),
    "etc/nvpmodel.conf": printed("nvpmodel-conf-lines-orin-nano-super-jp7.2.1.txt"),
    "sys/devices/system/cpu/present": "0-5\n",
    "sys/devices/system/cpu/online": "0-3\n",
    f"{GPU}/min_freq": 306000000,
    f"{GPU}/max_freq": 918000000,
    f"{GPU}/cur_freq": 306000000,
}
NANO_PROGRAMS = {
    "nvpmodel -q": printed("nvpmodel-query-orin-nano-super-25w.txt"),
    "jetson_clocks --show": printed("jetson_clocks-show-orin-nano-super-jp7.2.1.txt"),
}


def nano(root: Path, **other: str | int) -> Path:
    return tree(root, {**ORIN_NANO, **other})


def test_an_orin_nano_says_what_it_is(tmp_path) -> None:
    found = {name: reading.value for name, reading in board_facts(nano(tmp_path), Programs(NANO_PROGRAMS)).items()}
    assert found["module"] == "Jetson Orin Nano 8GB"
    assert found["module_evidence"][1:4] == ["part p3767-0005", "chip tegra234", "7.3 GiB of memory"]
    assert found["contradictions"] == []
    assert found["soc"] == "nvidia,tegra234"
    assert (found["sm_count"], found["l4t"], found["jetpack"]) == (8, "39.2.1", "7.2.1")
    assert found["power_mode"] == {"name": "25W", "id": 1}
    assert found["power_modes"] == ["15W", "25W", "MAXN_SUPER"]
    assert found["user"] == "not root"
    assert found["stand_in"] == f"a made-up board: files are read under {tmp_path}"


def test_a_mode_whose_clock_is_wrong_is_told_by_the_known_limits(tmp_path) -> None:
    """The reported case: 25W by name, the GPU capped at 624.75 MHz."""
    root = nano(tmp_path, **{f"{GPU}/max_freq": 624750000})
    assert board_facts(root, Programs(NANO_PROGRAMS))["contradictions"].value == [
        "power mode 25W allows the GPU 918 MHz, but its highest clock is set to 624.75 MHz"
    ]


def test_a_mode_whose_clock_is_wrong_is_told_by_the_boards_own_list(tmp_path) -> None:
    conf = "< POWER_MODEL ID=1 NAME=25W >\nGPU MAX_FREQ 765000000\n"
    root = nano(tmp_path, **{"etc/nvpmodel.conf": conf})
    assert board_facts(root, Programs(NANO_PROGRAMS))["contradictions"].value == [
        "power mode 25W allows the GPU 765 MHz, but its highest clock is set to 918 MHz"
    ]


def test_a_mode_without_a_limit_or_a_name_contradicts_nothing(tmp_path) -> None:
    for conf, answer in (
        (
            "< POWER_MODEL ID=2 NAME=MAXN >\nGPU MAX_FREQ -1\n< POWER_MODEL ID=3 NAME=7W >\nGPU MAX_FREQ 408000000\n",
            "MAXN\n2",
        ),
        (ORIN_NANO["etc/nvpmodel.conf"], "MODE_OF_TOMORROW\n17"),
    ):
        root = nano(tmp_path, **{"etc/nvpmodel.conf": conf})
        run = Programs({**NANO_PROGRAMS, "nvpmodel -q": f"NV Power Mode: {answer}\n"})
        assert board_facts(root, run)["contradictions"].value == []


def test_the_state_of_an_orin_nano(tmp_path) -> None:
    zone = "sys/class/thermal/thermal_zone0"
    root = nano(tmp_path, **{f"{zone}/type": "cv0-thermal\n", f"{zone}/temp": "-256000\n"})
    found = {name: reading.value for name, reading in board_state(root, Programs(NANO_PROGRAMS)).items()}
    assert found["gpu_clock_mhz"] == {"min": 306.0, "max": 918.0, "cur": 306.0}
    assert found["emc_clock_mhz"] == {"min": 204.0, "max": 3199.0, "cur": 665.6}
    assert found["clocks_pinned"] == {"gpu": False, "cpu": False, "emc": False}
    assert found["cores_online"] == "0-3"
    assert found["temperature_unread"] == ["cv0-thermal"]
    assert found["swap_used_bytes"] == 0


def test_without_root_a_jetson_says_what_is_missing(tmp_path) -> None:
    refused = Programs({"nvpmodel -q": NANO_PROGRAMS["nvpmodel -q"]})
    root = nano(tmp_path)
    assert board_facts(root, refused)["sm_count"] == (None, "not asked of CUDA; jetson_clocks is not on PATH")
    reason = board_state(root, refused)["emc_clock_mhz"].reason
    assert reason is not None
    assert "show it to root" in reason


def test_a_jetson_with_a_system_of_somebodys_own_is_still_a_jetson(tmp_path) -> None:
    root = nano(tmp_path)
    (root / "etc/nv_tegra_release").unlink()
    found = board_facts(root, NOTHING)
    assert found["module"].value == "Jetson Orin Nano 8GB"
    for name in ("l4t", "jetpack"):
        assert found[name] == (None, "neither /etc/nv_tegra_release nor a package nvidia-l4t-core")
    assert found["power_mode"] == (None, "nvpmodel is not on PATH")
    assert found["sm_count"].reason == "not asked of CUDA; jetson_clocks is not on PATH"


def test_a_raspberry_pi(tmp_path) -> None:
    files = {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}
    files["proc/device-tree/compatible"] = "raspberrypi,5-model-b\0brcm,bcm2712\0"
    run = Programs(
        {
            "vcgencmd get_throttled": "throttled=0x50004\n",
            "vcgencmd measure_clock arm": "frequency(0)=2400033792\n",
            "vcgencmd measure_temp": "temp=61.5'C\n",
        }
    )
    root = tree(tmp_path, files)
    facts, state = board_facts(root, run), board_state(root, run)
    assert (facts["module"].value, facts["soc"].value) == ("Raspberry Pi 5 Model B", "brcm,bcm2712")
    assert facts["power_mode"] == facts["l4t"]
    assert state["throttled"].value == {"now": "throttled", "since boot": "under-voltage, throttled"}
    assert state["firmware_clock_mhz"].value == 2400.033792
    assert state["firmware_temperature_c"].value == 61.5
    assert sampler.throttling(root, run).value == {"get_throttled": 0x50004}


def test_what_slows_a_machine_down_is_put_together(tmp_path) -> None:
    device = "sys/class/thermal/cooling_device0"
    root = tree(tmp_path, {f"{device}/type": "cpufreq-cpu0\n", f"{device}/cur_state": 0})
    assert throttled(root, NOTHING).value == {"now": "no"}
    files = {f"{device}/cur_state": 1, "sys/class/hwmon/hwmon0/oc1_event_cnt": 3}
    assert throttled(tree(root, files), NOTHING).value == {
        "now": "cpufreq-cpu0",
        "since boot": "over-current (3 times)",
    }
    run = Programs({"vcgencmd get_throttled": "throttled=0x10001\n"})
    assert throttled(root, run).value == {
        "now": "under-voltage, cpufreq-cpu0",
        "since boot": "under-voltage, over-current (3 times)",
    }


@pytest.mark.parametrize(("uid", "user"), [("0", "root"), ("1000", "not root")])
def test_the_effective_user_counts(uid: str, user: str) -> None:
    assert parse_user(f"Name:\tx\nUid:\t1000\t{uid}\t1000\t1000\n") == user


def test_cards_of_a_pc(tmp_path) -> None:
    text = "Model: \t\t NVIDIA GeForce RTX 4090\nIRQ:   \t\t 136\nGPU UUID: \t GPU-1\n"
    assert parse_gpu_name(text) == "NVIDIA GeForce RTX 4090"
    root = tree(tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": text})
    assert gpu_names(root).value == ["NVIDIA GeForce RTX 4090"]


def test_on_a_machine_that_says_nothing_every_none_has_its_reason(tmp_path) -> None:
    found = {**board_facts(tmp_path, NOTHING), **board_state(tmp_path, NOTHING)}
    assert set(found) == STAYS | CHANGES
    assert [name for name, reading in found.items() if reading.value is None and not reading.reason] == []
    known = {name for name, reading in found.items() if reading.value is not None}
    assert known == {"contradictions", "temperature_unread", "stand_in"}


def test_the_keys_are_the_same_on_every_machine(tmp_path) -> None:
    root, run = nano(tmp_path), Programs(NANO_PROGRAMS)
    assert set(board_facts(root, run)) == set(board_facts()) == STAYS
    assert set(board_state(root, run)) == set(board_state()) == CHANGES


def test_this_machine_answers_in_time() -> None:
    began = time.monotonic()
    facts, state = board_facts(), board_state()
    assert time.monotonic() - began < 5
    assert facts["user"].value in ("root", "not root")
    assert state["swap_used_bytes"].value >= 0


def test_the_samplers_facts_hold_the_boards(tmp_path) -> None:
    """As they go into a measurement: plain JSON, what changes before and after, reasons by name."""
    root, run = nano(tmp_path), Programs(NANO_PROGRAMS)
    before = sampler.changing(root, run)
    tree(root, {f"{GPU}/cur_freq": 918000000})
    facts = sampler.facts(before, root, run)
    assert json.loads(json.dumps(facts)) == facts
    assert set(facts) >= STAYS | CHANGES
    assert facts["module"] == "Jetson Orin Nano 8GB"
    assert facts["power_mode"] == {"name": "25W", "id": 1}
    assert facts["gpu_clock_mhz"]["before"]["cur"] == 306.0
    assert facts["gpu_clock_mhz"]["after"]["cur"] == 918.0
    unread = {"before": None, "after": None}
    assert {name for name, value in facts.items() if value is None or value == unread} == set(facts["reasons"])
