"""The loopback server itself: what the other tests of this folder rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sshd


def waited_for(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def sleeper(server: sshd.Server) -> subprocess.Popen[str]:
    """A connection through which a command runs for ten minutes."""
    words = ["ssh", "-F", str(server.ssh_config), "-o", "BatchMode=yes", server.url, "exec sleep 600"]
    ours = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert waited_for(lambda: "sleep 600" in server.commands().values())
    return ours


def test_a_session_has_the_home_and_the_environment_that_were_asked_for(start_server):
    with start_server(environment={"TWO_WORDS": "a b", "OTHER": "c"}) as server:
        said = server.ssh('echo "$HOME|$TWO_WORDS|$OTHER"')
    assert (said.returncode, said.stdout) == (0, f"{server.home}|a b|c\n"), said.stderr


def test_the_boards_python_has_numpy_and_onnxruntime_and_nothing_of_ours(server):
    said = server.ssh(f"{server.python} -c 'import numpy, onnxruntime; print(numpy.__file__, onnxruntime.__version__)'")
    assert said.stdout.startswith(str(Path(server.python).parent.parent)), said.stderr
    for module in ("torch", "edgeprune", "runtimes"):
        assert "ModuleNotFoundError" in server.ssh(f"{server.python} -c 'import {module}'").stderr
    assert "ModuleNotFoundError" in server.ssh(f"{server.bare_python} -c 'import numpy'").stderr


def test_cut_ends_the_connection_and_leaves_the_command(server):
    before = server.sessions()
    client = sleeper(server)
    assert set(server.sessions()) - set(before)
    server.cut()
    assert client.wait(10) == 255
    client.communicate()
    left = [pid for pid, line in server.commands().items() if line == "sleep 600"]
    assert left
    os.kill(left[0], signal.SIGKILL)
    assert server.ssh("echo again").stdout == "again\n"


def test_a_stopped_server_leaves_no_process_and_comes_back_on_its_port(start_server):
    with start_server() as server:
        server.ssh("setsid sleep 601 </dev/null >/dev/null 2>&1 &")
        assert waited_for(lambda: "sleep 601" in server.commands().values())
        daemon = next(pid for pid, line in server.commands().items() if line == "sleep 601")
        server.stop()
        assert not Path(f"/proc/{daemon}").exists()
        assert "refused" in server.ssh("true").stderr
        server.start()
        assert server.ssh("echo again").stdout == "again\n"


def test_a_frozen_server_says_nothing_and_thaws(start_server):
    with start_server() as server:
        with server.frozen(), pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["ssh", "-F", str(server.ssh_config), server.url, "true"], timeout=1, check=False)
        assert server.ssh("true").returncode == 0


def test_another_login_shell_is_taken(start_server):
    with start_server(login="/bin/sh -x") as server:
        assert "+ echo hello" in server.ssh("echo hello").stderr


def test_nothing_survives_tests_that_crash(start_server, tmp_path):
    """A process that starts a server and is killed: the server and a daemon started through it end too."""
    with start_server() as server:
        code = (
            "import sshd, pathlib, sys, time\n"
            f"made = sshd.Server(pathlib.Path({str(tmp_path / 'own')!r}), '', '')\n"
            "made.ssh('setsid sleep 602 </dev/null >/dev/null 2>&1 &')\n"
            "print(*sshd.descendants(made._pid()), flush=True)\n"
            "time.sleep(600)"
        )
        command = [sys.executable, "-c", code]
        path = os.pathsep.join([str(Path(sshd.__file__).parent), os.environ.get("PYTHONPATH", "")])
        tests = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})
        assert tests.stdout is not None
        pids = [int(pid) for pid in tests.stdout.readline().split()]
        assert len(pids) >= 2
        tests.kill()
        tests.communicate()
        assert waited_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
        assert server.ssh("true").returncode == 0, "other servers are not touched"
