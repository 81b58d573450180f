"""The executables of the made-up boards say what the real ones were seen to say."""

import os
import signal
import subprocess
import time

import pytest
from fake_boards import BOARDS, CAPTURED, make_board

from runtimes.board.clocks import parse_jetson_clocks


@pytest.fixture
def on(tmp_path):
    """Run a program of a board: what it printed, and its exit code."""
    boards = {}

    def run(kind, *words, answer=""):
        board = boards[kind] if kind in boards else boards.setdefault(kind, make_board(tmp_path / kind, kind))
        environment = {**os.environ, **board.environment}
        finished = subprocess.run(
            words,
            env=environment,
            input=answer,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=False,
        )
        return finished.stdout, finished.returncode

    run.boards = boards
    return run


def captured(name):
    return (CAPTURED / name).read_text()


def test_the_power_mode_is_told_as_captured(on):
    assert on("orin-nano-super", "nvpmodel", "-q")[0] == captured("nvpmodel-query-orin-nano-super-25w.txt")
    on("orin-nano-super", "sudo", "-n", "nvpmodel", "-m", "2")
    assert on("orin-nano-super", "nvpmodel", "-q")[0] == captured("nvpmodel-query-orin-nano-super-maxn.txt")
    on("agx-orin-64", "sudo", "-n", "nvpmodel", "-m", "0")
    assert on("agx-orin-64", "nvpmodel", "-q")[0] == captured("nvpmodel-query-agx-orin-maxn.txt")
    parsed = on("xavier-nx", "nvpmodel", "-p", "--verbose")[0]
    assert parsed == captured("nvpmodel-parse-xavier-nx-jp5-abridged.txt")


def test_the_list_of_modes_and_the_status_have_the_captured_lines(on):
    on("orin-nano-super", "nvpmodel", "-q")
    board = on.boards["orin-nano-super"]
    lines = [line for line in board.text("etc/nvpmodel.conf").splitlines() if line.startswith("<")]
    assert lines == captured("nvpmodel-conf-lines-orin-nano-super-jp7.2.1.txt").splitlines()
    on("orin-nano-super", "sudo", "-n", "nvpmodel", "-m", "2")
    assert board.text("var/lib/nvpmodel/status") == captured("nvpmodel-status-file.txt").strip()


def test_a_reboot_happens_only_when_somebody_says_yes(on):
    on("orin-nano-super", "nvpmodel", "-q")
    board = on.boards["orin-nano-super"]
    board.behave(reboot=[0])
    said, code = on("orin-nano-super", "sudo", "nvpmodel", "-m", "0")
    assert "DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:" in said
    assert (code, board.mode(), (board.folder / "rebooted").exists()) == (0, "25W", False)
    on("orin-nano-super", "sudo", "nvpmodel", "-m", "0", answer="yes\n")
    assert (board.folder / "rebooted").exists()


@pytest.mark.parametrize("kind", ["orin-nano-super", "agx-orin-64", "agx-thor"])
def test_tegrastats_repeats_the_captured_lines_until_it_is_ended(tmp_path, kind):
    board = make_board(tmp_path / "board", kind)
    names = {
        "orin-nano-super": "tegrastats-orin-nano-super-jp7.2.1.txt",
        "agx-orin-64": "tegrastats-agx-orin-64-jp6.txt",
        "agx-thor": "tegrastats-agx-thor-r38.4.txt",
    }
    process = subprocess.Popen([board.bin / "tegrastats", "--interval", "20"], stdout=subprocess.PIPE, text=True)
    begin = time.monotonic()
    lines = [process.stdout.readline() for _ in range(8)]
    assert time.monotonic() - begin >= 7 * 0.02
    expected = captured(names[kind]).splitlines(keepends=True)
    assert lines == (expected * 8)[:8]
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    process.stdout.close()


def test_the_clocks_are_shown_in_the_captured_form(on):
    shown = parse_jetson_clocks(on("orin-nano-super", "sudo", "-n", "jetson_clocks", "--show")[0])
    real = parse_jetson_clocks(captured("jetson_clocks-show-orin-nano-super-jp7.2.1.txt"))
    assert (shown.machine, shown.power_mode, shown.governors, shown.offline) == (
        real.machine,
        real.power_mode,
        real.governors,
        real.offline,
    )
    assert (shown.gpu, shown.emc) == (real.gpu, real.emc)
    assert {number: (clock.min, clock.max) for number, clock in shown.cpus.items()} == {
        number: (clock.min, clock.max) for number, clock in real.cpus.items()
    }


def test_the_packages_are_the_captured_ones(on):
    rows = on("orin-nano-super", "dpkg-query", "-W", "-f", "${Package} ${Version}\n")[0].splitlines()
    assert [row.split() for row in rows] == [
        line.split() for line in captured("dpkg-tensorrt-jp7.2.1.txt").splitlines()
    ]
    found, code = on("agx-thor", "dpkg-query", "-W", "--showformat=${Version}\\n", "tensorrt", "nothing")
    assert (found, code) == ("10.13.3.9-1+cuda13.0\n", 1)


def test_clocks_are_never_stored_over_a_file(on, tmp_path):
    (tmp_path / "there").write_text("mine")
    said, code = on("orin-nano-super", "sudo", "jetson_clocks", "--store", str(tmp_path / "there"))
    assert code == 1
    assert "already exists" in said
    assert (tmp_path / "there").read_text() == "mine"


@pytest.mark.parametrize("kind", BOARDS)
def test_trtexec_has_its_banner_and_builds_nothing(on, kind):
    said, code = on(kind, "trtexec", "--help")
    assert code == 0
    assert said.startswith("&&&& RUNNING TensorRT.trtexec [TensorRT v")
    said, code = on(kind, "trtexec", "--onnx=x")
    assert code == 1
    assert "&&&& FAILED" in said


def test_tee_writes_what_it_is_given_and_nothing_leaves_a_file_as_it_is(on, tmp_path):
    file = tmp_path / "scaling_governor"
    file.write_text("schedutil\n")
    assert on("orin-nano-super", "sudo", "tee", str(file)) == ("", 0)
    assert file.read_text() == "schedutil\n"
    assert on("orin-nano-super", "sudo", "tee", str(file), answer="performance") == ("performance", 0)
    assert file.read_text() == "performance"
    assert on("orin-nano-super", "tee", str(tmp_path / "no/file"), answer="x")[1] == 1


def test_a_program_that_is_held_goes_on_when_it_is_let_go(on):
    on("orin-nano-super", "nvpmodel", "-q")
    board = on.boards["orin-nano-super"]
    with board.held("nvpmodel"):
        process = subprocess.Popen([board.bin / "nvpmodel", "-q"], stdout=subprocess.PIPE)
        while len(board.calls("nvpmodel")) < 2:
            time.sleep(0.01)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
    assert process.wait(30) == 0
    process.stdout.close()
