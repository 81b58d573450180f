"""Thermal zones that answer, fail or are switched off, cooling devices that slow a processor, over-current counts."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from board_prints import printed, tree

from runtimes.board.tegrastats import parse_tegrastats
from runtimes.board.thermal import hottest, over_current_events, slowed_by, zone_files, zones

PLACE = "sys/class/thermal"


def test_the_zones_of_the_captured_board(tmp_path, monkeypatch) -> None:
    """Its script printed 0.0 for the three zones whose read failed; the files behind it are made here."""
    rows = [line.split() for line in printed("thermal-zones-orin-nano-super-jp7.2.1.txt").splitlines()]
    assert [row[0] for row in rows if row[1] == "0.0"] == ["cv0-thermal", "cv1-thermal", "cv2-thermal"]
    for number, (name, celsius, _) in enumerate(rows):
        place = f"{PLACE}/thermal_zone{number}"
        tree(tmp_path, {f"{place}/type": f"{name}\n", f"{place}/temp": int(float(celsius) * 1000)})
    whole = Path.read_bytes

    def power_gated(path: Path) -> bytes:
        content = whole(path)
        if path.name == "temp" and content == b"0\n":
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return content

    monkeypatch.setattr(Path, "read_bytes", power_gated)
    found = zones(tmp_path)
    assert found.temperatures_mc == {
        "cpu-thermal": 46000,
        "gpu-thermal": 46700,
        "soc0-thermal": 46200,
        "soc1-thermal": 46300,
        "soc2-thermal": 44800,
        "tj-thermal": 47000,
    }
    assert set(found.unread) == {"cv0-thermal", "cv1-thermal", "cv2-thermal"}
    assert found.unread["cv0-thermal"].endswith("temporarily unavailable")


def test_a_sensor_that_is_switched_off_has_no_temperature(tmp_path) -> None:
    files = {f"{PLACE}/thermal_zone0/type": "GPU-therm\n", f"{PLACE}/thermal_zone0/temp": "-256000\n"}
    files |= {f"{PLACE}/thermal_zone1/type": "outside\n", f"{PLACE}/thermal_zone1/temp": "-40000\n"}
    assert zones(tree(tmp_path, files)) == ({"outside": -40000}, {"GPU-therm": "switched off"})


def test_zones_of_one_type_are_told_apart_by_their_number(tmp_path) -> None:
    for number in range(11):
        place = f"{PLACE}/thermal_zone{number}"
        tree(tmp_path, {f"{place}/type": "soc\n", f"{place}/temp": 1000 * number})
    found = zones(tmp_path).temperatures_mc
    assert found == {"soc": 0, **{f"thermal_zone{number}": 1000 * number for number in range(1, 11)}}


@pytest.mark.parametrize(
    ("name", "chip"),
    [
        ("tegrastats-agx-xavier-jp4.txt", 54.5),
        ("tegrastats-agx-xavier-jp5-tail-fragment.txt", 38.75),
        ("tegrastats-tx2-jp4.txt", 42.5),
    ],
)
def test_a_power_chips_placeholder_is_not_the_hottest_sensor_of_a_captured_line(name: str, chip: float) -> None:
    """The line has PMIC@100C or PMIC@50C; the hottest of the others, by eye."""
    found = parse_tegrastats(printed(name).splitlines()[0])
    assert found is not None
    assert max(found.temperatures_c.values()) > chip
    assert hottest(found.temperatures_c.items()) == chip


def test_a_power_chip_that_measures_is_a_sensor_like_any_other() -> None:
    assert hottest([("PMIC", 61.5), ("CPU", 48.0)]) == 61.5
    assert hottest([("PMIC", 100.0), ("GPU", -256.0)]) is None
    assert hottest([("CPU", 100.0)]) == 100.0
    assert hottest([]) is None


def test_the_kernels_placeholder_is_unread(tmp_path) -> None:
    files = {f"{PLACE}/thermal_zone0/type": "PMIC-Die\n", f"{PLACE}/thermal_zone0/temp": "100000\n"}
    assert zones(tree(tmp_path, files)) == ({}, {"PMIC-Die": "a placeholder"})


def test_zones_of_what_computes_come_first_and_numbers_are_numbers(tmp_path) -> None:
    kinds = {0: "soc", 2: "x86_pkg_temp", 9: "acpitz", 10: "GPU-therm", 11: "tj-thermal", 12: "CPU-therm"}
    for number, kind in kinds.items():
        tree(tmp_path, {f"{PLACE}/thermal_zone{number}/type": f"{kind}\n"})
    expected = [2, 10, 11, 12, 0, 9]
    assert zone_files(tmp_path) == [(kinds[number], f"{PLACE}/thermal_zone{number}/temp") for number in expected]


def cooling(root: Path, *devices: tuple[str, int]) -> Path:
    for number, (kind, state) in enumerate(devices):
        tree(
            root,
            {f"{PLACE}/cooling_device{number}/type": f"{kind}\n", f"{PLACE}/cooling_device{number}/cur_state": state},
        )
    return root


def test_only_devices_that_slow_a_processor_count(tmp_path) -> None:
    devices = (("pwm-fan", 3), ("thermal-cpufreq-0", 2), ("17000000.gpu-devfreq", 0), ("gpu-throttle-alert", 1))
    assert slowed_by(cooling(tmp_path, *devices)).value == ["thermal-cpufreq-0", "gpu-throttle-alert"]


def test_none_of_them_at_work_is_an_empty_list_and_none_at_all_is_none(tmp_path) -> None:
    assert slowed_by(cooling(tmp_path, ("thermal-cpufreq-0", 0), ("Fan", 1))).value == []
    assert slowed_by(tmp_path / "other") == (None, f"/{PLACE}: no cooling device that slows a processor")


def test_over_current_events_of_all_kinds_add_up(tmp_path) -> None:
    assert over_current_events(tmp_path) == (None, "/sys/class/hwmon: no count of over-current events")
    files = {"sys/class/hwmon/hwmon2/oc1_event_cnt": 2, "sys/class/hwmon/hwmon2/oc3_event_cnt": 5}
    assert over_current_events(tree(tmp_path, files)).value == 7
