"""What goes wrong on the way to a device is told in two lines, with advice that can be pasted and that works."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from faults import impatient
from reached import SHELLS, reached, shell_path
from sshd import Server

from devices.deploy import measure_on
from devices.ssh import Ssh
from devices.ssh.complaints import Way, at_connect, last_line
from runtimes.errors import UserError


def failure(server: Server, tmp_path: Path, **given: object) -> UserError:
    """What is raised when something is asked of the device."""
    device = Ssh(**{"url": server.url, "ssh_config": server.ssh_config, "python": server.python, **given})  # type: ignore[arg-type]
    (tmp_path / "a").mkdir(exist_ok=True)
    try:
        with pytest.raises(UserError) as caught:
            device.push(tmp_path / "a")
    finally:
        device.close()
    assert caught.value.message.startswith(f"{device.name}: ") or "OpenSSH" in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    return caught.value


def pasted(hint: str, which: int = 0) -> subprocess.CompletedProcess[str]:
    """A command of a hint, as a person pastes it."""
    command = hint.split("`")[1 + 2 * which]
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)


def connects(server: Server, tmp_path: Path) -> None:
    device = Ssh(server.url, ssh_config=server.ssh_config, python=server.python)
    device.push(tmp_path / "a")
    device.close()


def test_a_changed_host_key_is_told_with_the_line_that_forgets_the_old_one(start_server, tmp_path):
    with start_server() as server:
        server.trust(server.folder / "user_key.pub")  # another key than the host's
        told = failure(server, tmp_path)
        assert "the host key is not the one that is known" in told.message
        assert "somebody may stand in between" in told.hint
        assert pasted(told.hint).returncode == 0, told.hint
        assert "not known here" in failure(server, tmp_path).message


def test_an_unknown_host_key_is_told_with_the_line_that_makes_it_known(start_server, tmp_path):
    with start_server() as server:
        (server.folder / "known_hosts").write_text("")
        told = failure(server, tmp_path)
        assert "its host key is not known here" in told.message
        assert f"`ssh -F {server.ssh_config} -p {server.port} " in told.hint
        assert pasted(told.hint, which=1).returncode == 0, told.hint
        connects(server, tmp_path)


def test_a_refused_login_is_told_with_what_to_do(start_server, tmp_path):
    with start_server() as server:
        (server.folder / "user_key").unlink()
        told = failure(server, tmp_path)
    assert "it refused the login: " in told.message
    assert "publickey" in told.message
    assert f"`ssh-copy-id -F {server.ssh_config} -p {server.port} " in told.hint


def test_a_server_that_does_not_run_is_told(start_server, tmp_path):
    with start_server() as server:
        server.stop()
        told = failure(server, tmp_path)
        server.start()
    assert "the connection was refused" in told.message
    assert "does its ssh server run" in told.hint


def test_a_machine_that_says_nothing_is_told_within_the_time_out(start_server, tmp_path):
    with start_server() as server, server.frozen(), impatient():
        assert "it does not answer" in failure(server, tmp_path).message


def test_a_name_that_nobody_has_is_told(server, tmp_path):
    told = failure(server, tmp_path, url="ssh://no-such-board.invalid")
    assert "no machine of that name is known" in told.message


@pytest.mark.parametrize("content", ["NoSuchOption yes\n", None])
def test_a_config_that_ssh_does_not_take_is_told(server, tmp_path, content):
    if content is not None:
        (tmp_path / "config").write_text(content)
    told = failure(server, tmp_path, ssh_config=tmp_path / "config")
    assert "ssh does not take its config" in told.message
    assert "--ssh-config" in told.hint


def test_a_machine_without_an_ssh_client_is_told(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    told = failure(server, tmp_path)
    assert "no OpenSSH client" in told.message
    assert "openssh-client" in told.hint


@pytest.mark.parametrize("shell", SHELLS)
def test_a_missing_interpreter_is_told_whatever_the_shell_says_to_it(start_server, tmp_path, shell):
    with start_server(login=shell_path(shell)) as server, contextlib.closing(reached(server)) as device:
        for python in ("/no/such/python", "no-such-python", "/etc/passwd", "/"):
            device.python = python  # through the same connection
            with pytest.raises(UserError) as caught:
                device.push(tmp_path)
            assert f"{device.name}: there is no Python at {python}" in caught.value.message
            assert "--python PATH" in caught.value.hint


OLD = """#!{python}
import sys
sys.version_info = (2, 7, 18, "final", 0)
exec(sys.argv[3])
"""


def test_an_old_interpreter_is_told_with_its_version(server, tmp_path):
    """It answers the first words, and would not even parse the program."""
    old = tmp_path / "python-2.7"
    old.write_text(OLD.format(python=sys.executable))
    old.chmod(0o755)
    told = failure(server, tmp_path, python=str(old))
    assert f"{old} there is Python 2.7; 3.8 or later is needed" in told.message
    assert "--python PATH" in told.hint


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.7"])
def test_real_old_interpreters_answer_the_first_words(server, tmp_path, version):
    path = shutil.which(f"python{version}")
    found = subprocess.run([path or "false", "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no Python {version} here")
    told = failure(server, tmp_path, python=found.stdout.strip())
    assert f"is Python {version}; 3.8 or later" in told.message


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"])
def test_the_far_side_runs_on_every_python_that_is_promised(server, tmp_path, version):
    path = shutil.which(f"python{version}")
    found = subprocess.run([path or "false", "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip(f"no Python {version} here")
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a.bin").write_bytes(b"abc")
    device = Ssh(server.url, ssh_config=server.ssh_config, python=found.stdout.strip())
    place = device.push(tmp_path / "there")
    assert (
        device.run([device.python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], place).stdout
        == f"{version}\n"
    )
    device.pull(place, ["a.bin"], tmp_path / "here")
    device.close()
    assert (tmp_path / "here/a.bin").read_bytes() == b"abc"


def test_an_interpreter_that_fails_by_itself_is_told_with_its_words(server, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho Fatal Python error: init_fs_encoding >&2\nexit 1\n")
    broken.chmod(0o755)
    told = failure(server, tmp_path, python=str(broken))
    assert "does not answer as a Python does (exit code 1): Fatal Python error: init_fs_encoding" in told.message


@pytest.mark.parametrize(("program", "said"), [("exit 0", "it said nothing"), ("echo I am a script", "I am a script")])
def test_a_program_that_is_no_python_is_told_with_what_it_said(server, tmp_path, program, said):
    other = tmp_path / "other"
    other.write_text(f"#!/bin/sh\n{program}\n")
    other.chmod(0o755)
    told = failure(server, tmp_path, python=str(other))
    assert told.message.endswith(f"{other} there does not answer as a Python does (exit code 0): {said}")
    assert "name the Python to use: --python PATH" in told.hint


def test_a_board_without_numpy_is_told_the_command_that_installs_it(server, tmp_path):
    from test_local import null_bundle

    from runtimes.records import Workload

    device = Ssh(server.url, ssh_config=server.ssh_config, python=server.bare_python)
    with pytest.raises(UserError) as caught:
        measure_on(device, null_bundle(tmp_path, Workload()), tmp_path / "results")
    device.close()
    assert "numpy is not installed" in caught.value.message
    assert re.search(r"-m pip install .*numpy", caught.value.hint)
    assert "by hand: ssh " in caught.value.hint


WAY = Way("orin", "ssh -p 22 me@orin", "orin.local", 22, "~/.ssh/known_hosts")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("ssh: connect to host orin port 22: No route to host", "it does not answer"),
        ("ssh: connect to host orin port 22: Connection timed out", "it does not answer"),
        ("ssh: Could not resolve hostname orin: Temporary failure in name resolution", "no machine of that name"),
        ("kex_exchange_identification: Connection closed by remote host", "it closed the connection before the login"),
        ("Connection closed by UNKNOWN port 65535", "it closed the connection before the login"),
        (
            "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures",
            "it refused the login after too many keys",
        ),
        ("me@orin: Permission denied (publickey,password).", "it refused the login: me@orin: Permission denied"),
        ("Bad owner or permissions on ~/.ssh/config", "ssh does not take its config"),
        ("something new", "ssh does not connect: something new"),
        ("", "ssh does not connect: it gave no reason"),
    ],
)
def test_what_other_servers_and_clients_say_is_told_in_the_same_words(said, told):
    error = at_connect(WAY, f"a banner\n{said}\n" if said else "")
    assert error.message.startswith(f"orin: {told}")
    assert "{" not in str(error)


def test_a_device_cannot_write_to_the_terminal_through_a_message():
    assert last_line("fine\n\x1b]0;evil\x07\x1b[2J\u202e gone \x9b1m\n\n") == "?]0;evil??[2J? gone ?1m"
    assert len(last_line("x" * 10_000)) <= 1000
