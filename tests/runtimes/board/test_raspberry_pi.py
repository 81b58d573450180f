"""A Raspberry Pi's firmware: its bits by name, clock, temperature, and the captured print of a Pi 5's power chip."""

from __future__ import annotations

import pytest
from board_prints import NOTHING, Programs, printed, tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.raspberry_pi import (
    PmicRails,
    firmware_state,
    parse_clock_mhz,
    parse_pmic,
    parse_temperature_c,
    parse_throttled,
    throttle_flags,
    throttled_bits,
)

PMIC = printed("vcgencmd-pmic_read_adc-raspberry-pi-5.txt")
ALL = ["under-voltage", "ARM frequency capped", "throttled", "soft temperature limit"]


@pytest.mark.parametrize(
    ("text", "bits"),
    [("throttled=0x50005\n", 0x50005), ("throttled=0x0\n", 0), ("50005\n", 0x50005), ("0\n", 0), ("error=1", None)],
)
def test_the_bit_field_of_vcgencmd_and_of_sysfs(text: str, bits: int | None) -> None:
    assert parse_throttled(text) == bits


@pytest.mark.parametrize(
    ("bits", "now", "since_boot"),
    [
        (0x0, [], []),
        (0x1, ALL[:1], []),
        (0x2, ALL[1:2], []),
        (0x4, ALL[2:3], []),
        (0x8, ALL[3:4], []),
        (0x10000, [], ALL[:1]),
        (0x20000, [], ALL[1:2]),
        (0x40000, [], ALL[2:3]),
        (0x80000, [], ALL[3:4]),
        (0x50005, [ALL[0], ALL[2]], [ALL[0], ALL[2]]),
        (0xF000F, ALL, ALL),
        (0xFFF0, [], []),
    ],
)
def test_every_bit_has_its_name_now_and_since_the_start(bits: int, now: list[str], since_boot: list[str]) -> None:
    """Bit by bit, from the table in Raspberry Pi's documentation of `get_throttled`."""
    assert throttle_flags(bits) == {"now": now, "since boot": since_boot}


def test_the_clock_and_the_temperature() -> None:
    assert parse_clock_mhz("frequency(48)=1500345728\n") == 1500.345728
    assert parse_clock_mhz("frequency(0)=2400033792") == 2400.033792
    assert parse_temperature_c("temp=48.2'C\n") == 48.2
    assert parse_temperature_c("temp=-3.0'C") == -3.0
    assert parse_clock_mhz("error=2") is parse_temperature_c("VCHI initialization failed") is None


def test_the_captured_print_of_a_pi_5() -> None:
    """0.9465799 A at 0.7209762 V are 682.46 mW; rails without a current (EXT5V, BATT) are none."""
    found = parse_pmic(PMIC)
    assert len(found) == 12
    assert found["VDD_CORE"] == pytest.approx(682.46, abs=0.01)
    assert found["3V7_WL_SW"] == pytest.approx(284.53, abs=0.01)
    assert found["HDMI"] == pytest.approx(86.83, abs=0.01)
    assert found["DDR_VDDQ"] == 0.0
    assert not {"EXT5V", "BATT"} & found.keys()


def test_a_rail_is_asked_for_again_each_time() -> None:
    run = Programs({"vcgencmd pmic_read_adc": PMIC})
    source = PmicRails(run)
    assert source.read()["VDD_CORE"] == pytest.approx(682.46, abs=0.01)
    run.answers["vcgencmd pmic_read_adc"] = PMIC.replace("0.94657990A", "2.00000000A")
    assert source.read()["VDD_CORE"] == pytest.approx(1441.95, abs=0.01)
    run.answers.clear()
    assert source.read() == {}


@pytest.mark.parametrize("place", ["soc/soc:firmware", "soc@107c000000:firmware", "soc/soc@107c000000:firmware"])
def test_sysfs_is_read_before_vcgencmd_is_asked(tmp_path, place: str) -> None:
    run = Programs({"vcgencmd get_throttled": "throttled=0x50000\n"})
    assert throttled_bits(tmp_path, run).value == 0x50000
    run.asked.clear()
    tree(tmp_path, {f"sys/devices/platform/{place}/get_throttled": "50005\n"})
    assert throttled_bits(tmp_path, run).value == 0x50005
    assert run.asked == []


def test_another_machine_gives_the_reason(tmp_path) -> None:
    assert throttled_bits(tmp_path, NOTHING) == (None, "vcgencmd is not on PATH")
    assert set(firmware_state(NOTHING).values()) == {(None, "vcgencmd is not on PATH")}


def test_an_answer_that_is_not_understood_is_told() -> None:
    run = Programs({"vcgencmd measure_clock arm": "VCHI initialization failed\n"})
    assert firmware_state(run)["firmware_clock_mhz"] == (
        None,
        "vcgencmd measure_clock arm: not in a known form: 'VCHI initialization failed'",
    )


@given(st.text())
def test_no_text_makes_a_parser_fail(text: str) -> None:
    for parse in (parse_throttled, parse_clock_mhz, parse_temperature_c, parse_pmic):
        parse(text)
