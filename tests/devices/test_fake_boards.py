"""Whole made-up boards behind a real SSH server: what they are, what is measured on them, and their settings.

Nothing here is a result of any board, and each measurement has to say so.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest
from fake_boards import BOARDS, FakeBoard, make_board
from faults import nothing_runs, waited_for
from sshd import Server
from test_local import null_bundle

from devices import open_device
from devices.deploy import measure_on
from devices.protocol import Device
from runtimes.errors import UserError
from runtimes.records import Measurement, Workload

SOON = Workload(
    warmup_s=0.01, rounds=3, round_s=0.3, min_samples=3, passes=1, builds=1, idle_s=0.5, sample_s=0.05, timeout_s=60
)
LONG = Workload(warmup_s=0.01, rounds=400, round_s=0.1, min_samples=3, passes=1, idle_s=0, timeout_s=60)
ASKED = {  # kind -> a power mode that it is not in, and the GPU's clock in it, Hz
    "orin-nano-super": ("MAXN_SUPER", 1020000000),
    "agx-orin-64": ("MAXN", 1300500000),
    "xavier-nx": ("MODE_15W_2CORE", 1109250000),
    "agx-thor": ("MAXN", 1575000000),
}


class Reached(NamedTuple):
    """A made-up board, the server before it, and the device that it is for edgeprune."""

    board: FakeBoard
    server: Server
    device: Device


@contextmanager
def reached(start_server, folder, kind) -> Iterator[Reached]:
    board = make_board(folder / "board", kind)
    with start_server(environment=board.environment) as server:
        device = open_device(server.url, ssh_config=server.ssh_config, python=server.python)
        yield Reached(board, server, device)
        device.close()
        assert nothing_runs(server)


@pytest.fixture(params=BOARDS)
def each(start_server, tmp_path, request):
    """Each kind of board."""
    with reached(start_server, tmp_path, request.param) as found:
        yield request.param, found


@pytest.fixture
def orin(start_server, tmp_path):
    with reached(start_server, tmp_path, "orin-nano-super") as found:
        yield found


@pytest.fixture
def bundle(tmp_path):
    return null_bundle(tmp_path, SOON)


NAMES = ("module", "l4t", "jetpack", "tensorrt")
FACTS = {
    "orin-nano-super": ("Jetson Orin Nano 8GB", "39.2.1", "7.2.1", "10.16.2.10", {"name": "25W", "id": 1}),
    "agx-orin-64": ("Jetson AGX Orin 64GB", "36.4.4", "6.2.1", "10.3.0.30", {"name": "MODE_30W", "id": 2}),
    "xavier-nx": ("Jetson Xavier NX 8GB", "35.4.1", "5.1.2", "8.5.2.2", {"name": "MODE_20W_6CORE", "id": 8}),
    "agx-thor": ("Jetson AGX Thor T5000", "38.4.0", "7.1", "10.13.3.9", {"name": "120W", "id": 1}),
}


def test_a_board_without_numpy_says_what_it_is_and_what_to_install(orin):
    device = open_device(orin.server.url, ssh_config=orin.server.ssh_config, python=orin.server.bare_python)
    found = device.probe()
    device.close()
    needs = {need["what"]: need for need in found["needs"]}
    assert found["facts"]["module"] == FACTS["orin-nano-super"][0]
    assert needs["numpy"]["needed"]
    assert not needs["numpy"]["fine"]
    assert f"`{orin.server.bare_python} -m pip install numpy`" in needs["numpy"]["fix"]


# By hand, from the captured lines: the rail or the sum that stands for the module, the least and the most, in mW.
POWER = {
    "orin-nano-super": ("module", ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"], 3462, 3582),
    "agx-orin-64": ("sum_of_rails", ["VDD_CPU_CV", "VDD_GPU_SOC", "VIN_SYS_5V0"], 8726, 8726),
    "xavier-nx": ("module", ["VDD_CPU_GPU_CV", "VDD_IN", "VDD_SOC"], 3240, 3240),
    "agx-thor": ("total_input", ["VDD_CPU_SOC_MSS", "VDD_GPU", "VIN", "VIN_SYS_5V0"], 19780, 19780),
}
GPU_PERCENT = {"orin-nano-super": 0, "agx-orin-64": 0, "xavier-nx": 0, "agx-thor": None}
HOTTEST = {"orin-nano-super": 47, "agx-orin-64": 52.562, "xavier-nx": 50, "agx-thor": 38.875}


def test_what_a_board_is_and_draws_and_its_settings_come_back_with_a_measurement(each, bundle, tmp_path):
    kind, (board, _, device) = each
    own = board.mode(), board.gpu_range()
    mode, highest = ASKED[kind]
    options = ["--power-mode", mode, "--lock-clocks"]
    [path] = measure_on(device, bundle, tmp_path / "results", networks=["dense"], options=options)
    assert (board.mode(), board.gpu_range()) == own
    found = Measurement.read(path)
    known = (*FACTS[kind][:4], mode)  # the facts are those of the measurement
    assert (*(found.facts[name] for name in NAMES), found.facts["power_mode"]["name"]) == known
    assert found.facts["contradictions"] == []
    assert_its_power_and_load(kind, found)
    assert found.settings["power_mode"]["before"] == found.settings["power_mode"]["restored"] == FACTS[kind][4]
    assert found.settings["power_mode"]["after"]["name"] == mode
    assert found.settings["clocks"]["after"]["gpu_mhz"] == [highest / 1e6] * 2
    assert found.settings["problems"] == []
    warned = {doubt.code: doubt.message for doubt in found.warnings}
    assert "a made-up board" in warned["stand_in"]
    assert "unpinned" not in warned


def assert_its_power_and_load(kind, found):
    scope, rails, least, most = POWER[kind]
    assert found.power["scope"] == scope
    assert sorted(found.power["rails"]) == rails
    assert least - 0.01 <= found.power["mean_mw"] <= most + 0.01
    assert least - 0.01 <= found.power["idle_mw"] <= most + 0.01
    assert found.watch["source"] == "tegrastats"
    percents, hottest = found.watch["columns"]["gpu_percent"], found.watch["columns"]["temperature_c"]
    assert percents
    assert set(percents) == {GPU_PERCENT[kind]}
    assert max(hottest) <= HOTTEST[kind]


def test_without_being_asked_nothing_is_switched_and_free_clocks_are_told(orin, bundle, tmp_path):
    [path] = measure_on(orin.device, bundle, tmp_path / "results", networks=["dense"])
    found = Measurement.read(path)
    assert "unpinned" in {doubt.code for doubt in found.warnings}
    assert "made-up board" in found.facts["stand_in"]
    assert found.settings is None
    assert own_settings(orin.board)


def test_a_mode_that_needs_a_reboot_is_told_in_two_lines_and_nothing_is_measured(orin, bundle, tmp_path):
    orin.board.behave(reboot=[0])
    with pytest.raises(UserError) as raised:
        measure_on(orin.device, bundle, tmp_path / "results", options=["--power-mode", "15W"])
    assert raised.value.message.endswith("power mode 15W needs a reboot, so the board stayed in 25W")
    assert "answer yes, and measure after the reboot" in raised.value.hint
    assert not (orin.board.folder / "rebooted").exists()
    assert not list((tmp_path / "results").glob("*.json"))


@contextmanager
def at_work(orin, folder):
    """A long measurement in other settings, under way; what it ended with stands in the list."""
    ended: list[object] = []
    (folder / "long").mkdir()
    long = null_bundle(folder / "long", LONG)

    def measure() -> None:
        try:
            options = ["--power-mode", "MAXN_SUPER", "--lock-clocks"]
            measure_on(orin.device, long, folder / "results", options=options)
        except UserError as error:
            ended.append(error)

    thread = threading.Thread(target=measure)
    thread.start()
    try:
        assert waited_for(lambda: orin.board.gpu_range() == (1020000000, 1020000000), 30), ended
        yield ended
    finally:
        orin.device.close()
        thread.join()


def own_settings(board):
    return board.mode() == "25W" and board.gpu_range() == (306000000, 918000000)


def test_a_connection_that_is_cut_in_the_middle_leaves_the_board_as_it_was(orin, tmp_path, bundle):
    with at_work(orin, tmp_path) as ended:
        assert not own_settings(orin.board)
        orin.server.cut()
        assert waited_for(lambda: own_settings(orin.board), 60)
        assert waited_for(lambda: ended, 60)
    assert isinstance(ended[0], UserError)
    again = open_device(orin.server.url, ssh_config=orin.server.ssh_config, python=orin.server.python)
    [path] = measure_on(again, bundle, tmp_path / "again", networks=["dense"], options=["--lock-clocks"])
    again.close()
    assert Measurement.read(path).settings["problems"] == []


def test_a_measurement_that_is_stopped_from_here_leaves_the_board_as_it_was(orin, tmp_path):
    with at_work(orin, tmp_path):
        orin.device.close()
        assert waited_for(lambda: own_settings(orin.board), 60)


def test_kill_9_on_the_board_is_told_at_once_while_the_board_is_still_being_restored(orin, tmp_path):
    """What restores holds nothing open that the connection waits for."""
    with at_work(orin, tmp_path) as ended:
        with orin.board.held("jetson_clocks"):
            [pid] = [pid for pid, line in orin.server.commands().items() if "-m runtimes measure" in line]
            os.kill(pid, signal.SIGKILL)
            assert waited_for(lambda: ended, 30)
            assert not own_settings(orin.board)
        assert waited_for(lambda: own_settings(orin.board), 60)
    assert "measuring was ended by SIGKILL" in ended[0].message
