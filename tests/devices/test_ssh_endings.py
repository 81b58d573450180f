"""However a call over SSH ends, nothing is left running there: cuts, Ctrl-C, kills, silence, and several at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from reached import is_alive, reached, waited_for, works

from devices.ssh import Ssh, call
from devices.ssh.complaints import LostError
from runtimes.errors import UserError

SLEEPS = "import os, sys, time; print(os.getpid(), file=sys.stderr, flush=True); time.sleep(600)"
RESTORES = """
import os, signal, sys, time
def restore(*_):
    time.sleep(0.3)
    open("restored", "w").close()
    sys.exit(3)
signal.signal(signal.SIGTERM, restore)
print(os.getpid(), file=sys.stderr, flush=True)
time.sleep(600)
"""


def test_a_cut_connection_ends_the_command_and_the_next_call_makes_another(device, folder, server, tmp_path):
    pids: list[int] = []

    def cut(line: str) -> None:
        pids.append(int(line))
        server.cut()

    with pytest.raises(LostError, match="the connection was lost") as caught:
        device.run([device.python, "-c", SLEEPS], device.push(folder), cut)
    assert "give the same command again" in caught.value.hint
    assert waited_for(lambda: not is_alive(pids[0]))
    works(device, folder, tmp_path)


def test_a_command_has_time_to_put_things_back_when_the_connection_is_cut(device, folder, server):
    place = Path(device.push(folder))
    with pytest.raises(LostError):
        device.run([device.python, "-c", RESTORES], str(place), lambda line: server.cut())
    assert waited_for((place / "restored").exists)


def test_a_command_that_has_much_to_say_while_it_ends_does_not_stop_at_a_full_pipe(device, folder, server):
    place = Path(device.push(folder))
    code = RESTORES.replace("time.sleep(0.3)", "print('x' * (1 << 20), file=sys.stderr)")
    with pytest.raises(LostError):
        device.run([device.python, "-c", code], str(place), lambda line: server.cut())
    assert waited_for((place / "restored").exists)


def test_close_gives_what_runs_the_time_to_put_things_back(device, folder):
    place = Path(device.push(folder))
    started, raised = threading.Event(), []

    def run() -> None:
        try:
            device.run([device.python, "-c", RESTORES], str(place), lambda line: started.set())
        except UserError as error:
            raised.append(error.message)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(20)
    device.close()
    assert (place / "restored").exists()
    thread.join(10)
    assert raised == [f"{device.name}: the connection was closed here"]


def test_a_command_that_will_not_end_is_killed(device, folder, monkeypatch):
    monkeypatch.setattr(call, "PATIENCE_S", 1.0)
    code = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPS}"
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        device.run([device.python, "-c", code], device.push(folder), interrupt)
    assert not is_alive(pids[0])


HOST = """
import sys
from pathlib import Path
from devices.ssh import Ssh, call, connection
call.SILENCE_S, call.BEAT_S, call.PATIENCE_S, connection._PERSIST_S = 2.0, 0.5, 10.0, 1
device = Ssh(sys.argv[1], ssh_config=Path(sys.argv[2]), python=sys.argv[3])
place = device.push(Path(sys.argv[4]))
print(place, flush=True)
try:
    device.run([device.python, "-c", sys.argv[5]], place, lambda line: print(line, flush=True))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.fixture
def host(server, folder) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], Path, int]]]:
    """`host(code)`: a process of ours that has `code` run there; with the place and the process id there."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str) -> tuple[subprocess.Popen[str], Path, int]:
        words = [sys.executable, "-c", HOST, server.url, str(server.ssh_config), server.python, str(folder), code]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip()), int(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_ctrl_c_in_a_terminal_ends_the_command_in_order(host):
    """The terminal sends it to all of the host's process group: ssh must not be among them."""
    process, place, pid = host(RESTORES)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "interrupted\n"
    assert not is_alive(pid)
    assert (place / "restored").exists()


def test_a_host_that_was_killed_leaves_nothing_running(host, server):
    before = set(server.sessions())
    process, place, pid = host(RESTORES)
    assert set(server.sessions()) - before
    process.kill()
    assert waited_for(lambda: not is_alive(pid))
    assert (place / "restored").exists()
    assert waited_for(lambda: set(server.sessions()) <= before), "the master ends by itself"


def test_a_host_that_stopped_is_taken_for_dead_after_a_while(host):
    process, place, pid = host(RESTORES)
    time.sleep(3.0)
    assert is_alive(pid), "heartbeats keep a command that says nothing alive"
    process.send_signal(signal.SIGSTOP)
    assert waited_for(lambda: not is_alive(pid))
    assert (place / "restored").exists()


def test_a_far_side_that_falls_silent_is_given_up(device, folder, monkeypatch):
    monkeypatch.setattr(call, "_LOST_AFTER_S", 2.0)
    monkeypatch.setattr(call, "BEAT_S", 0.5)
    code = "import os, signal, time; os.kill(os.getppid(), signal.SIGSTOP); time.sleep(600)"
    begin = time.monotonic()
    with pytest.raises(LostError, match="nothing was heard for 2 s"):
        device.run([device.python, "-c", code], device.push(folder))
    assert time.monotonic() - begin < 20


def test_a_master_that_was_killed_in_between_is_replaced(device, folder, server, tmp_path):
    device.push(folder)
    server.cut()
    works(device, folder, tmp_path)


def test_close_while_it_connects_ends_that(server, folder):
    device = reached(server)
    with server.frozen():
        threading.Timer(1.0, device.close).start()
        begin = time.monotonic()
        with pytest.raises(UserError, match="closed"):
            device.push(folder)
        assert time.monotonic() - begin < 8


def test_several_devices_at_once_do_not_meet(server, folder):
    devices = [reached(server, name=f"board-{number}") for number in range(3)]
    place = devices[0].push(folder)
    found: dict[str, str] = {}

    def ask(device: Ssh) -> None:
        code = f"import time; time.sleep(0.3); print({device.name!r})"
        found[device.name] = device.run([device.python, "-c", code], place).stdout

    threads = [threading.Thread(target=ask, args=(device,)) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for device in devices:
        device.close()
    assert found == {f"board-{number}": f"board-{number}\n" for number in range(3)}


def test_two_threads_may_use_one_device(device, folder):
    place = device.push(folder)
    codes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda code: codes.append(device.run([device.python, "-c", f"exit({code})"], place).code),
            args=(code,),
        )
        for code in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(codes) == [0, 1, 2, 3]
