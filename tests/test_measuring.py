"""What measurements are called, which devices are taken, and what happens when some of several fail."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from devices import open_device
from edgeprune.measuring import Boards, gathered
from edgeprune.steps.measure import conditions
from runtimes.errors import UserError
from runtimes.records import Measurement, Workload

OWN = Workload()


def measurement(workload: Workload = OWN, settings: dict[str, Any] | None = None) -> Measurement:
    """Nothing but what a name is made from."""
    made = Measurement.__new__(Measurement)
    told = {"protocol": workload.protocol, "batch": workload.batch, "threads": workload.threads}
    for name, value in {**told, "workload": workload.to_json(), "settings": settings}.items():
        object.__setattr__(made, name, value)
    return made


def mode(name: str) -> dict[str, Any]:
    return {"power_mode": {"asked": name, "before": None, "after": None}}


@pytest.mark.parametrize(
    ("made", "target", "ending"),
    [
        (measurement(), None, ""),
        (measurement(), "jetson-orin", "-jetson-orin"),
        (measurement(OWN.changed(batch=8)), None, "-b8-t1-quick"),
        (measurement(OWN.changed(protocol="standard")), None, "-b1-t1-standard"),
        (measurement(OWN.changed(cpus=(0, 3))), None, "-cpus0_3"),
        (measurement(settings=mode("15W")), None, "-15W"),
        (measurement(settings={**mode("MAXN"), "clocks": {"how": "jetson_clocks"}}), None, "-MAXN-locked"),
    ],
)
def test_a_measurement_is_called_after_its_conditions(made: Measurement, target: str | None, ending: str) -> None:
    assert conditions(made, OWN, target) == ending


def test_other_conditions_never_have_the_same_name() -> None:
    others = [
        measurement(OWN.changed(passes=9)),
        measurement(OWN.changed(rounds=99)),
        measurement(OWN.changed(rounds=99, passes=9)),
        measurement(OWN.changed(options={"cuda_graph": "1"})),
        measurement(settings=mode("MODE 15W")),
        measurement(settings=mode("MODE_15W")),
        measurement(),
    ]
    names = [conditions(made, OWN, None) for made in others]
    assert len(set(names)) == len(names)
    assert names == [conditions(made, OWN, None) for made in others], "and the same ones always have"


def test_a_recipe_of_another_protocol_has_its_own_conditions() -> None:
    standard = OWN.changed(protocol="standard")
    assert conditions(measurement(standard), standard, None) == ""
    assert conditions(measurement(OWN), standard, None) == "-b1-t1-quick"


@pytest.mark.parametrize("names", [("local", "local"), ("ssh://a:1", "ssh://a:1")])
def test_a_device_is_named_once(names: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="is named twice"):
        Boards(names).open()


def test_a_board_is_not_taken_for_this_machine() -> None:
    assert [device.name for device in Boards().open()] == ["local"]
    with pytest.raises(UserError, match="cannot be called local"):
        Boards(("ssh://local",)).open()


def ended(result: list[Path] | Exception) -> Future[list[Path]]:
    future: Future[list[Path]] = Future()
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
    return future


def test_all_failures_are_told_and_a_bug_is_not_hidden_by_them() -> None:
    devices = [open_device("local")] * 3
    fine, lost = ended([Path("a.json")]), ended(UserError("b: gone", "switch it on"))
    assert gathered(devices[:1], [fine]) == [Path("a.json")]
    with pytest.raises(UserError) as caught:
        gathered(devices, [fine, lost, ended(UserError("c: full", "make room"))])
    assert caught.value.message == "b: gone; c: full (1 of 3 devices were measured, and kept)"
    assert caught.value.hint == "switch it on; make room"
    with pytest.raises(KeyError) as bug:
        gathered(devices, [fine, lost, ended(KeyError("ours"))])
    assert bug.value.__notes__ == ["beside it: b: gone; switch it on"]
