"""Which module a board is: the strings that boards print, true and misleading, and what their hardware shows."""

from __future__ import annotations

import pytest
from board_prints import printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.identity import Hardware, hardware, identify, identity
from runtimes.board.modules import MODULES, PARTS

GIB = 1 << 30
WRONG_TREE = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"

# What each captured row is, by the words of the person who published it.
BY_MODEL = {
    "NVIDIA Jetson AGX Thor Developer Kit": "Jetson AGX Thor",
    "NVIDIA Jetson AGX Orin Developer Kit": "Jetson AGX Orin",
    "Jetson AGX Orin": "Jetson AGX Orin",
    "Jetson AGX Orin Industrial": "Jetson AGX Orin Industrial",
    "NVIDIA Orin Jetson-Small Developer Kit": "Jetson AGX Orin",
    "NVIDIA Orin Nano Developer Kit": "Jetson Orin Nano",
    "NVIDIA Orin NX Developer Kit": "Jetson Orin NX",
    "NVIDIA Jetson Orin Nano Developer Kit": "Jetson Orin Nano",
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super": "Jetson Orin Nano",
    WRONG_TREE: "Jetson Orin NX",
    "NVIDIA Jetson Orin NX Engineering Reference Developer Kit Super": "Jetson Orin NX",
    "lanai-3636": None,
}


def rows() -> list[list[str]]:
    return [line.split("\t") for line in printed("device-tree-model-and-compatible.tsv").splitlines()[1:]]


def test_every_captured_model_string_names_its_module() -> None:
    assert {row[0] for row in rows()} == BY_MODEL.keys()
    assert {model: identify(model).name for model in BY_MODEL} == BY_MODEL


@pytest.mark.parametrize(
    ("model", "compatible", "memory_gib", "cpus", "name"),
    [
        ("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008", 122.8, 14, "Jetson AGX Thor T5000"),
        ("NVIDIA Jetson AGX Thor Developer Kit", "nvidia,p4071-0000+p3834-0008", 61.4, 12, "Jetson AGX Thor T4000"),
        (
            "NVIDIA Jetson AGX Orin Developer Kit",
            "nvidia,p3737-0000+p3701-0000",
            29.9,
            12,
            "Jetson AGX Orin developer kit 32GB",
        ),
        ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,p3737-0000+p3701-0005", 61.3, 12, "Jetson AGX Orin 64GB"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "?", 61.3, 12, "Jetson AGX Orin 64GB"),
        ("NVIDIA Jetson AGX Orin Developer Kit", "?", 29.9, 8, "Jetson AGX Orin 32GB"),
        ("NVIDIA Orin Nano Developer Kit", "nvidia,p3767-0005", 7.4, 6, "Jetson Orin Nano 8GB"),
        ("NVIDIA Orin Nano Developer Kit", "nvidia,p3767-0003", 6.3, 6, "Jetson Orin Nano 8GB"),
        ("NVIDIA Jetson Orin Nano Developer Kit", "?", 3.3, 6, "Jetson Orin Nano 4GB"),
        (WRONG_TREE, "nvidia,p3768-0000+p3767-0001", 7.4, 6, "Jetson Orin NX 8GB"),
        (WRONG_TREE + " Super", "?", 15.3, 8, "Jetson Orin NX 16GB"),
        ("NVIDIA Jetson Xavier NX Developer Kit", "nvidia,p3509-0000+p3668-0000", 6.7, 6, "Jetson Xavier NX 8GB"),
        ("Jetson-AGX", "nvidia,p2972-0000+p2888-0004", 31.2, 8, "Jetson AGX Xavier 32GB"),
        ("lanai-3636", "nvidia,p3636-0001", 3.8, 6, "Jetson TX2 NX"),
        ("NVIDIA Jetson Nano Developer Kit", "nvidia,p3448-0000", 3.9, 4, "Jetson Nano 4GB"),
        ("some carrier", "vendor,board", 7.4, 6, None),
    ],
)
def test_strings_and_hardware_that_agree(
    model: str, compatible: str, memory_gib: float, cpus: int, name: str | None
) -> None:
    found = identify(model, [compatible], Hardware(memory_bytes=int(memory_gib * GIB), cpus=cpus))
    assert found.name == name
    assert found.contradictions == []


def test_an_orin_nano_under_an_orin_nxs_device_tree_is_told_and_not_believed() -> None:
    """The captured case: 7.4 GiB, 6 processors, GPU up to 624.75 MHz; only the clock tells it from an Orin NX 8GB."""
    note = next(row[3] for row in rows() if row[0] == WRONG_TREE and row[2].startswith("MISLEADING"))
    assert note.startswith("cross-check")
    seen = Hardware(memory_bytes=int(7.4 * GIB), cpus=6, gpu_limit_mhz=624.75)
    found = identify(WRONG_TREE, ["nvidia,p3768-0000+p3767-0001", "nvidia,tegra234"], seen)
    assert found.name == "Jetson Orin Nano 8GB"
    assert found.contradictions == [
        "Jetson Orin NX 8GB is claimed, but its GPU is set to at most 624.75 MHz, which it never is on one"
    ]
    assert "7.4 GiB of memory" in found.evidence
    assert "GPU set to at most 624.75 MHz" in found.evidence


@pytest.mark.parametrize(
    ("seen", "contradiction"),
    [
        ({"gpu_highest_mhz": 1020.0}, "its GPU's highest clock is 1020 MHz"),
        ({"cpu_highest_mhz": 1728.0}, "its processors' highest clock is 1728 MHz"),
    ],
)
def test_the_highest_clocks_tell_it_too(seen: dict[str, float], contradiction: str) -> None:
    found = identify(WRONG_TREE, ["nvidia,tegra234"], Hardware(memory_bytes=int(7.4 * GIB), cpus=6, **seen))  # type: ignore[arg-type]
    assert found.name == "Jetson Orin Nano 8GB"
    assert found.contradictions == [f"Jetson Orin NX is claimed, but {contradiction}"]


def test_what_cannot_be_told_apart_is_named_twice() -> None:
    seen = Hardware(memory_bytes=int(7.4 * GIB), cpus=6)
    found = identify(WRONG_TREE, ["nvidia,p3767-0000", "nvidia,tegra234"], seen)
    assert found.name == "Jetson Orin Nano 8GB or Jetson Orin NX 8GB"
    assert found.contradictions == [
        "Jetson Orin NX 16GB is claimed, but its memory is that of a module with 8 GB",
        "Jetson Orin NX 16GB is claimed, but it has 6 processors",
    ]


def test_a_limit_that_a_power_mode_sets_is_no_contradiction() -> None:
    for limit in (306.0, 408.0, 612.0, 765.0, 918.0, 1173.0):
        assert identify(WRONG_TREE, ["nvidia,p3767-0000"], Hardware(gpu_limit_mhz=limit)).contradictions == []
    found = identify("NVIDIA Jetson AGX Orin Developer Kit", ["nvidia,p3701-0005"], Hardware(gpu_limit_mhz=624.75))
    assert found.contradictions == []


def test_a_limit_above_all_that_the_module_can_do_is_one() -> None:
    found = identify("NVIDIA Jetson AGX Orin Developer Kit", ["nvidia,p3701-0004"], Hardware(gpu_limit_mhz=1300.5))
    assert found.contradictions == [
        "Jetson AGX Orin 32GB is claimed, but its GPU is set to at most 1300.5 MHz, which it never is on one"
    ]


def test_a_power_mode_may_switch_multiprocessors_off_but_not_add_any() -> None:
    assert identify("", ["nvidia,p3701-0005"], Hardware(sms=8)).contradictions == []
    found = identify("", ["nvidia,p3767-0004", "nvidia,tegra234"], Hardware(memory_bytes=int(3.3 * GIB), sms=8))
    assert found.name is None
    assert found.contradictions == ["Jetson Orin Nano 4GB is claimed, but its GPU has 8 SM"]


def test_model_and_part_number_that_disagree_are_told() -> None:
    found = identify("NVIDIA Jetson Orin NX Developer Kit", ["nvidia,p3767-0005"])
    assert found.name == "Jetson Orin Nano 8GB"
    assert found.contradictions == [
        "the device tree's model says Jetson Orin NX, its part number p3767-0005 says Jetson Orin Nano 8GB"
    ]


def test_another_chip_than_the_names_say() -> None:
    found = identify("NVIDIA Jetson Orin Nano Developer Kit", ["nvidia,tegra194"], Hardware(int(15.5 * GIB), 6))
    assert found.name == "Jetson Xavier NX 16GB"
    assert found.contradictions[0] == "Jetson Orin Nano is claimed, but the chip is a tegra194"


def test_the_chip_and_the_hardware_name_a_board_of_another_maker() -> None:
    seen = Hardware(memory_bytes=int(122.8 * GIB), cpus=14)
    assert identify("carrier of somebody", ["vendor,board", "nvidia,tegra264"], seen).name == "Jetson AGX Thor T5000"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Raspberry Pi 5 Model B Rev 1.0", "Raspberry Pi 5 Model B"),
        ("Raspberry Pi 4 Model B Rev 1.4", "Raspberry Pi 4 Model B"),
        ("Raspberry Pi Compute Module 4", "Raspberry Pi Compute Module 4"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "Raspberry Pi Zero 2 W"),
    ],
)
def test_a_raspberry_pi_says_what_it_is(model: str, name: str) -> None:
    assert identify(model, ["brcm,bcm2712"]) == (name, [f"model '{model}'"], [])


def test_a_board_is_read_from_its_files(tmp_path) -> None:
    """Offline processors count; `compatible` is separated by NUL."""
    gpu = "sys/class/devfreq/17000000.gpu"
    root = tree(
        tmp_path,
        {
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
            "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
            "sys/devices/system/cpu/present": "0-5\n",
            "sys/devices/system/cpu/online": "0-3\n",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": 1728000,
            f"{gpu}/max_freq": 918000000,
            f"{gpu}/available_frequencies": "306000000 612000000 918000000 1020000000\n",
        },
    )
    seen = hardware(7486 * 1024 * 1024, 8, root)
    assert seen == Hardware(7486 << 20, 6, 8, 1020.0, 918.0, 1728.0, "tegra234")
    found = identity(seen, root)
    assert found.name == "Jetson Orin Nano 8GB"
    assert found.contradictions == []
    assert found.evidence == [
        "model 'NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super'",
        "part p3767-0005",
        "chip tegra234",
        "7.3 GiB of memory",
        "6 processors",
        "8 SM",
        "GPU up to 1020 MHz",
        "GPU set to at most 918 MHz",
        "processors up to 1728 MHz",
    ]


def test_without_a_device_tree_nothing_is_known(tmp_path) -> None:
    assert identity(hardware(8 * GIB, root=tmp_path), tmp_path) == (None, [], [])


def test_every_part_number_belongs_to_a_module() -> None:
    assert {name for names in PARTS.values() for name in names} == {module.name for module in MODULES}


@given(st.text(), st.lists(st.text()), st.builds(Hardware, *[st.none() | st.integers(0, 1 << 40)] * 3))
def test_no_string_makes_it_fail(model: str, compatible: list[str], seen: Hardware) -> None:
    identify(model, compatible, seen)
