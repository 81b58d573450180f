"""RAPL's counters in made-up trees: zones, mean power by hand, and a counter that begins again at 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from board_prints import tree
from hypothesis import given
from hypothesis import strategies as st

from runtimes.board.energy_counters import Counter, EnergyCounters, counters

PLACE = "sys/class/powercap"
RANGE = 262143328850


def zones(root: Path, energies: Mapping[str, tuple[str, int]], whole: int = RANGE) -> Path:
    """Zone's folder -> its name and energy."""
    files: dict[str, str | int] = {}
    for folder, (name, energy) in energies.items():
        files[f"{PLACE}/{folder}/name"] = f"{name}\n"
        files[f"{PLACE}/{folder}/energy_uj"] = energy
        files[f"{PLACE}/{folder}/max_energy_range_uj"] = whole
    return tree(root, files)


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_zones_have_the_name_of_their_package_and_the_second_way_is_left_out(tmp_path) -> None:
    root = zones(
        tmp_path,
        {
            "intel-rapl:0": ("package-0", 1),
            "intel-rapl:0:0": ("core", 2),
            "intel-rapl:0:1": ("dram", 3),
            "intel-rapl:1": ("psys", 4),
            "intel-rapl-mmio:0": ("package-0", 5),
        },
    )
    assert counters(root).value == [
        Counter("package-0", f"{PLACE}/intel-rapl:0/energy_uj", RANGE),
        Counter("package-0/core", f"{PLACE}/intel-rapl:0:0/energy_uj", RANGE),
        Counter("package-0/dram", f"{PLACE}/intel-rapl:0:1/energy_uj", RANGE),
        Counter("psys", f"{PLACE}/intel-rapl:1/energy_uj", RANGE),
    ]


def test_power_is_the_energy_between_two_readings_over_the_time_between_them(tmp_path) -> None:
    """12.5 J in half a second are 25 W."""
    clock = Clock()
    root = zones(tmp_path, {"intel-rapl:0": ("package-0", 1_000_000)})
    source = EnergyCounters(counters(root).value, root, clock)
    assert source.read() == {}
    zones(root, {"intel-rapl:0": ("package-0", 13_500_000)})
    clock.now += 0.5
    assert source.read() == {"package-0": 25_000.0}
    assert source.read() == {}, "no time has passed"
    clock.now += 1.0
    assert source.read() == {"package-0": 0.0}


def test_a_counter_that_began_again_has_gone_on(tmp_path) -> None:
    """600 before its end, 400 after it: 1000 microjoules in 0.1 s are 10 mW."""
    clock = Clock()
    root = zones(tmp_path, {"intel-rapl:0": ("package-0", RANGE - 600)})
    source = EnergyCounters(counters(root).value, root, clock)
    source.read()
    zones(root, {"intel-rapl:0": ("package-0", 400)})
    clock.now += 0.1
    assert source.read()["package-0"] == pytest.approx(10.0)


def test_a_zone_that_cannot_be_read_is_left_out_and_counts_again_later(tmp_path) -> None:
    clock = Clock()
    root = zones(tmp_path, {"intel-rapl:0": ("package-0", 0), "intel-rapl:1": ("package-1", 0)})
    source = EnergyCounters(counters(root).value, root, clock)
    seen = []
    for energy in (0, None, 3_000_000, 5_000_000):
        (root / PLACE / "intel-rapl:1/energy_uj").write_text("busy" if energy is None else f"{energy}")
        seen.append(source.read())
        clock.now += 1.0
    assert [reading.get("package-1") for reading in seen] == [None, None, None, 2000.0]
    assert [reading.get("package-0") for reading in seen] == [None, 0.0, 0.0, 0.0]


@given(st.lists(st.integers(0, RANGE - 1), min_size=1, max_size=30))
def test_however_often_it_begins_again_nothing_is_lost(tmp_path_factory, steps: list[int]) -> None:
    """The true energy is the sum of the steps; the counter shows it modulo its range."""
    root, clock, true = tmp_path_factory.mktemp("rapl"), Clock(), 7
    zones(root, {"intel-rapl:0": ("package-0", true)})
    source = EnergyCounters(counters(root).value, root, clock)
    source.read()
    counted = 0.0
    for step in steps:
        true += step
        (root / PLACE / "intel-rapl:0/energy_uj").write_text(str(true % RANGE))
        clock.now += 0.5
        counted += source.read()["package-0"] * 0.5 * 1000
    assert counted == pytest.approx(sum(steps), rel=1e-9, abs=1e-3)


def test_without_counters_or_without_the_right_to_read_them_the_reason_is_told(tmp_path, monkeypatch) -> None:
    assert counters(tmp_path) == (None, f"/{PLACE}: no energy counter")
    root = zones(tmp_path, {"intel-rapl:0": ("package-0", 1)})
    whole = Path.read_bytes

    def refuse(path: Path) -> bytes:
        """Root may read everything, so the refusal that others get is made here."""
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert counters(root) == (
        None,
        f"/{PLACE}/intel-rapl:0/energy_uj: Permission denied (reading it needs root)",
    )
