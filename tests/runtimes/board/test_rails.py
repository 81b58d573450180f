"""Power: totals against sums by hand, meters in made-up sysfs trees, and which source is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from board_prints import NOTHING, Programs, printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.rails import Power, board_rails, power_source, total
from runtimes.board.tegrastats import parse_tegrastats

I2C = "sys/bus/i2c/drivers"
PMIC = printed("vcgencmd-pmic_read_adc-raspberry-pi-5.txt")


def rails_of(name: str) -> dict[str, int]:
    found = parse_tegrastats(printed(name).splitlines()[0])
    assert found is not None
    return found.rails_mw


# Each by the rule of its module, added up by hand.
@pytest.mark.parametrize(
    ("name", "power", "scope"),
    [
        ("tegrastats-orin-nano-jp6.txt", 12479, "module"),
        ("tegrastats-orin-nano-super-jp7.2.1.txt", 3582, "module"),
        ("tegrastats-tx2-jp4.txt", 5297, "module"),
        ("tegrastats-agx-orin-64-jp6.txt", 2412 + 1607 + 4707, "sum_of_rails"),
        ("tegrastats-agx-orin-32-jp5.txt", 4788 + 798 + 3842, "sum_of_rails"),  # without VDDQ's 707
        ("tegrastats-agx-orin-64-jp5.txt", 2399 + 400 + 4032, "sum_of_rails"),
        ("tegrastats-agx-thor-r38.4.txt", 19780, "total_input"),
        ("tegrastats-agx-thor-r39.2-abridged.txt", 124486, "total_input"),
        ("tegrastats-agx-xavier-jp4.txt", 18401 + 2301 + 4602 + 0 + 2914 + 4632, "sum_of_rails"),
    ],
)
def test_the_total_of_a_captured_line(name: str, power: int, scope: str) -> None:
    found = total(rails_of(name))
    assert found is not None
    assert (found.milliwatts, found.scope) == (power, scope)


def test_the_rails_that_were_added_up_are_named() -> None:
    assert total(rails_of("tegrastats-orin-nano-jp6.txt")) == Power(12479, "module", ["VDD_IN"])
    agx = total(rails_of("tegrastats-agx-orin-64-jp5.txt"))
    assert agx is not None
    assert agx.rails == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"]


def test_an_agx_xaviers_overlap_is_told() -> None:
    found = total(rails_of("tegrastats-agx-xavier-jp4.txt"))
    assert found is not None
    assert found.note == "sources disagree whether SYS5V feeds VDDRQ; if it does, VDDRQ's 2914 mW are counted twice"


@pytest.mark.parametrize(
    "rails",
    [
        {},
        {"VDD_CPU_GPU_CV": 1.0, "VDD_SOC": 2.0},
        {"VDD_GPU_SOC": 1.0, "VIN_SYS_5V0": 1.0},
        {"VDD_GPU": 1962.0, "VDD_CPU_SOC_MSS": 5887.0, "VIN_SYS_5V0": 5635.0},
        {"psys": 30000.0},
        {"package-0/core": 1.0},
        {"ina238": 5.0},
    ],
)
def test_what_has_no_rule_or_lacks_a_rail_has_no_total(rails: dict[str, float]) -> None:
    assert total(rails) is None


def test_processors_are_added_up_and_their_parts_are_not() -> None:
    rails = {
        "package-0": 40000.0,
        "package-0/core": 30000.0,
        "package-0/dram": 5000.0,
        "package-1": 45000.0,
        "psys": 9e5,
    }
    assert total(rails) == Power(85000.0, "package", ["package-0", "package-1"])


@given(st.dictionaries(st.text(max_size=12), st.floats(0, 1e6)), st.sampled_from(["VDD_IN", "VIN"]))
def test_a_rail_that_has_everything_behind_it_is_the_total_whatever_else_there_is(
    others: dict[str, float], whole: str
) -> None:
    rails = {name: power for name, power in others.items() if name not in ("VDD_IN", "VIN", "POM_5V_IN")}
    found = total({**rails, whole: 1234.0})
    assert found is not None
    assert (found.milliwatts, found.rails) == (1234.0, [whole])


# sysfs -------------------------------------------------------------------------------------------------------------


def chip(place: str, *rails: tuple[str, int, int]) -> dict[str, str | int]:
    """An INA3221: label, millivolts and milliamperes of each channel, and the shunts' sum that is no rail."""
    found: dict[str, str | int] = {f"{place}/name": "ina3221\n", f"{place}/in7_label": "sum of shunt voltages\n"}
    found[f"{place}/in7_input"] = found[f"{place}/curr7_input"] = 999
    for channel, (label, millivolts, milliamperes) in enumerate(rails, start=1):
        found[f"{place}/in{channel}_label"] = f"{label}\n"
        found[f"{place}/in{channel}_input"] = millivolts
        found[f"{place}/curr{channel}_input"] = milliamperes
    return found


ORIN_NANO = chip(
    f"{I2C}/ina3221/1-0040/hwmon/hwmon1", ("VDD_IN", 5032, 712), ("VDD_CPU_GPU_CV", 5024, 88), ("VDD_SOC", 5024, 224)
)


def test_an_orin_nanos_meter(tmp_path) -> None:
    """5.032 V and 712 mA are 3582.784 mW, and so on by hand."""
    found = power_source(tree(tmp_path, ORIN_NANO), NOTHING)
    assert found.value.name == "ina3221 (sysfs)"
    assert found.value.read() == {"VDD_IN": 3582.784, "VDD_CPU_GPU_CV": 442.112, "VDD_SOC": 1125.376}
    tree(tmp_path, {f"{I2C}/ina3221/1-0040/hwmon/hwmon1/curr1_input": 2000})
    assert found.value.read()["VDD_IN"] == 10064.0


def test_two_meters_of_an_agx_orin_and_their_unconnected_channels(tmp_path) -> None:
    first = chip(
        f"{I2C}/ina3221/1-0040/hwmon/hwmon3",
        ("VDD_GPU_SOC", 19000, 100),
        ("VDD_CPU_CV", 19000, 20),
        ("VIN_SYS_5V0", 5000, 800),
    )
    second = chip(f"{I2C}/ina3221/1-0041/hwmon/hwmon4", ("NC", 5000, 1), ("VDDQ_VDD2_1V8AO", 5000, 60), ("NC", 5000, 1))
    source = board_rails(tree(tmp_path, {**first, **second}))
    assert source is not None
    rails = source.read()
    assert rails == {"VDD_GPU_SOC": 1900.0, "VDD_CPU_CV": 380.0, "VIN_SYS_5V0": 4000.0, "VDDQ_VDD2_1V8AO": 300.0}
    assert total(rails) == Power(6280.0, "sum_of_rails", ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"])


def test_a_meter_that_only_the_list_of_all_sensors_shows(tmp_path) -> None:
    files = {path.replace(f"{I2C}/ina3221/1-0040/hwmon", "sys/class/hwmon"): text for path, text in ORIN_NANO.items()}
    files |= {"sys/class/hwmon/hwmon0/name": "pwmfan\n", "sys/class/hwmon/hwmon0/in1_label": "VDD_FAN\n"}
    source = board_rails(tree(tmp_path, files))
    assert source is not None
    assert set(source.read()) == {"VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"}


def test_a_meter_that_both_show_is_one(tmp_path) -> None:
    root = tree(tmp_path, ORIN_NANO)
    (root / "sys/class/hwmon").mkdir(parents=True)
    (root / "sys/class/hwmon/hwmon1").symlink_to(root / I2C / "ina3221/1-0040/hwmon/hwmon1")
    source = board_rails(root)
    assert source is not None
    assert list(source.read()) == ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"]


def test_thors_second_meter_measures_the_input_in_microwatts(tmp_path) -> None:
    thor = chip(
        f"{I2C}/ina3221/2-0040/hwmon/hwmon5",
        ("VDD_GPU", 19000, 100),
        ("VDD_CPU_SOC_MSS", 19000, 300),
        ("VIN_SYS_5V0", 5000, 1100),
    )
    files = {"name": "ina238\n", "power1_input": 19780000, "in1_input": 19500}
    ina238 = {f"{I2C}/ina238/2-0044/hwmon/hwmon6/{name}": value for name, value in files.items()}
    source = board_rails(tree(tmp_path, {**thor, **ina238}))
    assert source is not None
    assert source.name == "ina3221 and ina238 (sysfs)"
    rails = source.read()
    assert rails == {"VDD_GPU": 1900.0, "VDD_CPU_SOC_MSS": 5700.0, "VIN_SYS_5V0": 5500.0, "VIN": 19780.0}
    assert total(rails) == Power(19780.0, "total_input", ["VIN"])


def test_an_ina238_of_another_board_is_not_called_the_input(tmp_path) -> None:
    files = {"name": "ina238\n", "power1_input": 5000000}
    source = board_rails(tree(tmp_path, {f"sys/class/hwmon/hwmon0/{name}": value for name, value in files.items()}))
    assert source is not None
    assert source.read() == {"ina238": 5000.0}
    tree(tmp_path, {"sys/class/hwmon/hwmon0/label": "SOLAR\n"})
    source = board_rails(tmp_path)
    assert source is not None
    assert source.read() == {"SOLAR": 5000.0}


def test_jetpack_4_has_milliwatts_under_another_driver(tmp_path) -> None:
    place = f"{I2C}/ina3221x/7-0040/iio:device0"
    files: dict[str, str | int] = {
        f"{place}/rail_name_0": "POM_5V_IN\n",
        f"{place}/in_power0_input": 2100,
        f"{place}/rail_name_1": "POM_5V_GPU\n",
        f"{place}/in_power1_input": 80,
        f"{place}/rail_name_2": "NC\n",
        f"{place}/in_power2_input": 0,
    }
    source = board_rails(tree(tmp_path, files))
    assert source is not None
    assert source.read() == {"POM_5V_IN": 2100.0, "POM_5V_GPU": 80.0}
    assert total(source.read()) == Power(2100.0, "module", ["POM_5V_IN"])


def test_a_rail_that_stops_answering_is_left_out(tmp_path) -> None:
    source = board_rails(tree(tmp_path, ORIN_NANO))
    assert source is not None
    (tmp_path / I2C / "ina3221/1-0040/hwmon/hwmon1/curr2_input").unlink()
    assert list(source.read()) == ["VDD_IN", "VDD_SOC"]


# Choosing ----------------------------------------------------------------------------------------------------------


def rapl(root: Path) -> Path:
    files = {"name": "package-0\n", "energy_uj": 1000, "max_energy_range_uj": 262143328850}
    return tree(root, {f"sys/class/powercap/intel-rapl:0/{name}": value for name, value in files.items()})


def test_the_boards_meters_come_first_then_counters_then_the_power_chip(tmp_path) -> None:
    run = Programs({"vcgencmd pmic_read_adc": PMIC})
    assert power_source(tmp_path, run).value.name == "vcgencmd pmic_read_adc"
    assert power_source(rapl(tmp_path), run).value.name == "RAPL (powercap)"
    assert power_source(tree(tmp_path, ORIN_NANO), run).value.name == "ina3221 (sysfs)"


def test_only_counters_of_energy_are_means_and_only_the_power_chip_is_spared(tmp_path) -> None:
    run = Programs({"vcgencmd pmic_read_adc": PMIC})
    pmic = power_source(tmp_path, run).value
    counters = power_source(rapl(tmp_path), run).value
    meters = power_source(tree(tmp_path, ORIN_NANO), run).value
    assert [source.counts_energy for source in (pmic, counters, meters)] == [False, True, False]
    assert [source.least_interval_s for source in (pmic, counters, meters)] == [0.5, 0.0, 0.0]


def test_without_any_the_reasons_are_told(tmp_path) -> None:
    assert power_source(tmp_path, NOTHING) == (
        None,
        "no INA3221 or INA238 in /sys; /sys/class/powercap: no energy counter; vcgencmd is not on PATH",
    )
    older_pi = Programs({"vcgencmd pmic_read_adc": 'error=1 error_msg="Command not registered"'})
    reason = power_source(tmp_path, older_pi).reason
    assert reason is not None
    assert reason.endswith("vcgencmd: no rail with voltage and current")


def test_a_raspberry_pi_5s_total_is_the_sum_of_what_its_power_chip_feeds(tmp_path) -> None:
    """Voltage times current of the twelve rails, by hand to the milliwatt."""
    by_hand_mw = (284.532, 157.799, 206.865, 8.651, 0.0, 194.566, 265.399, 682.462, 4.841, 4.629, 3.953, 86.830)
    found = total(power_source(tmp_path, Programs({"vcgencmd pmic_read_adc": PMIC})).value.read())
    assert found is not None
    assert found.milliwatts == pytest.approx(sum(by_hand_mw), abs=0.01)
    assert found.scope == "sum_of_rails"
    assert len(found.rails) == 12
    assert found.note is not None
    assert "the wall shows more" in found.note
