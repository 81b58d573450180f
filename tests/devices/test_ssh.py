"""The SSH transport against a real OpenSSH server: login shells, start-up files, the user's own ssh config, endings."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from reached import SHELLS, is_alive, reached, shell_path, waited_for, works
from sshd import Server

from devices import open_device
from devices.ssh import call
from runtimes.errors import UserError

# What a login is like ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_any_login_shell_will_do(start_server, folder, tmp_path, shell):
    with start_server(login=shell_path(shell)) as server, contextlib.closing(reached(server)) as device:
        spaced = server.home / "my pythons/python"
        spaced.parent.mkdir()
        spaced.symlink_to(server.python)
        works(device, folder, tmp_path)
        place = device.push(folder)
        for python in (str(spaced), "~/my pythons/python"):
            device.python = python  # through the same connection
            assert device.run([python, "-c", "print(1)"], place).stdout == "1\n"
            line = device.by_hand([device.python, "-c", "import os; print(os.getcwd())"], str(server.home))
            pasted = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
            assert pasted.stdout == f"{server.home}\n", pasted.stderr


@pytest.mark.parametrize(
    "prints",
    [
        "echo Welcome to the board; echo mind the gap >&2",
        "printf 'no end of line'",
        "head -c 100000 /dev/urandom",
        'read -r line; echo "$line"',
        "(sleep 0.3; echo late) &",
    ],
)
def test_what_start_up_files_print_or_read_harms_nothing(start_server, folder, tmp_path, prints):
    if shutil.which("bash") is None:
        pytest.skip("no bash here")
    with start_server(login=f'bash -c \'. ~/noise; exec "$0" "$@"\' {shutil.which("bash")}') as server:
        (server.home / "noise").write_text(prints + "\n")
        if "read" in prints:  # it waits for input, of which none comes before Python answers
            (server.home / "noise").write_text(prints.replace("read", "read -t 0.1") + "\n")
        shutil.copy(server.home / "noise", server.home / ".bashrc")  # for a tester whose login shell is bash
        device = reached(server)
        try:
            works(device, folder, tmp_path)
        finally:
            device.close()


def test_start_up_files_that_never_end_are_told_of(start_server, folder, monkeypatch):
    monkeypatch.setattr(call, "_START_S", 1.0)
    with start_server(login="cat; true") as server:
        device = reached(server)
        with pytest.raises(UserError, match="did not answer within 1 s of the login"):
            device.push(folder)
        device.close()


def test_the_users_own_ssh_config_does_not_make_a_call_something_else(server, folder, tmp_path):
    config = tmp_path / "config"
    extra = f"""
      ControlMaster auto
      ControlPath {tmp_path}/theirs-%C
      ControlPersist yes
      RemoteCommand echo not what was asked
      RequestTTY force
      LocalForward 127.0.0.1:1 127.0.0.1:2
      ForwardX11 yes
    """
    config.write_text(f"{server.ssh_config.read_text()}{extra}")
    device = reached(server, ssh_config=config)
    try:
        works(device, folder, tmp_path)
    finally:
        device.close()
    assert not list(tmp_path.glob("theirs-*"))


def test_an_alias_of_the_users_ssh_config_is_a_device(server, folder, tmp_path):
    config = tmp_path / "config"
    alias = f"Host board\n  HostName 127.0.0.1\n  Port {server.port}\n"
    config.write_text(alias + server.ssh_config.read_text())
    device = open_device("ssh://board", ssh_config=config, python=server.python)
    try:
        assert device.name == "board"
        works(device, folder, tmp_path)
    finally:
        device.close()


@pytest.mark.parametrize("runtime_folder", ["", "/nowhere", "/tmp/" + 90 * "x", "/tmp/with space"])
def test_the_control_socket_has_a_short_private_path(server, folder, monkeypatch, runtime_folder):
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_folder)
    if runtime_folder.startswith("/tmp"):
        Path(runtime_folder).mkdir(exist_ok=True)
    device = reached(server)
    try:
        device.push(folder)
        socket = Path(str(device._connection._socket))
        assert len(str(socket)) + 18 <= 104, "ssh adds 17 characters and a zero"
        assert socket.parent.stat().st_mode & 0o777 == 0o700
    finally:
        device.close()
        if runtime_folder.startswith("/tmp"):
            Path(runtime_folder).rmdir()
    assert not socket.parent.exists()


def test_the_socket_folder_of_a_host_that_was_killed_is_removed_by_a_later_one(server, folder, tmp_path, monkeypatch):
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place))
    try:
        for name in ("edgeprune-ssh-dead", "edgeprune-ssh-young", "edgeprune-ssh-used", "others"):
            (place / name).mkdir()
        (place / "edgeprune-ssh-used/s").touch()
        for name in ("edgeprune-ssh-dead", "edgeprune-ssh-used", "others"):
            os.utime(place / name, (1e9, 1e9))
        device = reached(server)
        device.push(folder)
        device.close()
        left = sorted(path.name for path in place.iterdir())
        assert left == ["edgeprune-ssh-used", "edgeprune-ssh-young", "others"]
    finally:
        shutil.rmtree(place)


def test_calls_share_one_connection_and_close_ends_it(server, folder):
    before = set(server.sessions())
    device = reached(server)
    place = device.push(folder)
    first = set(server.sessions()) - before
    device.run([device.python, "-c", "0"], place)
    assert set(server.sessions()) - before == first
    assert first
    device.close()
    device.close()
    assert waited_for(lambda: set(server.sessions()) <= before)
    with pytest.raises(UserError, match="closed"):
        device.run([device.python, "-c", "0"], place)


def test_nothing_is_written_to_a_temporary_folder_there(start_server, folder, tmp_path):
    """Where it may be mounted noexec, or be full."""
    (tmp_path / "tmp").mkdir()
    with start_server(environment={"TMPDIR": str(tmp_path / "tmp")}) as server:
        device = reached(server)
        before = (tmp_path / "tmp").stat().st_mtime_ns
        works(device, folder, tmp_path)
        device.close()
    assert (tmp_path / "tmp").stat().st_mtime_ns == before


class NoExec(Server):
    """Its home is a small file system in memory on which no program may be started; only it sees that."""

    def program(self) -> list[str]:
        mounts = f'mount -t tmpfs -o noexec,size=8m none {self.home} && exec "$0" "$@"'
        return ["unshare", "-m", "sh", "-c", mounts, *super().program()]


@pytest.fixture
def noexec(tmp_path, server) -> Iterator[NoExec]:
    if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    with NoExec(tmp_path / "noexec", server.python, server.bare_python) as own:
        yield own


def test_a_place_on_which_no_program_may_be_started_will_do(noexec, folder, tmp_path):
    device = reached(noexec)
    try:
        works(device, folder, tmp_path)
    finally:
        device.close()


def test_a_full_disk_is_told_with_what_is_needed_and_free(noexec, folder):
    device = reached(noexec)
    try:
        with (folder / "large.bin").open("wb") as file:
            file.truncate(20 << 20)
        with pytest.raises(UserError, match=r"no room in .*: 21\.0 MiB needed, [0-8]\.\d MiB free"):
            device.push(folder)
        (folder / "large.bin").unlink()
        device.push(folder)
    finally:
        device.close()


# A command -----------------------------------------------------------------------------------------------------------


def test_a_command_sees_neither_a_search_path_of_the_login_nor_our_own_variables(start_server, folder):
    elsewhere = {"PYTHONPATH": "/elsewhere", "PYTHONSAFEPATH": "1", "PYTHONHOME": ""}
    with start_server(environment=elsewhere) as server:
        device = reached(server)
        names = ["PYTHONPATH", "PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE"]
        code = f"import os; print([os.environ.get(name) for name in {names}])"
        assert device.run([device.python, "-c", code], device.push(folder)).stdout == "[None, None, '1']\n"
        device.close()


def test_the_home_folder_shadows_no_module_of_the_far_side(start_server, folder, tmp_path):
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\ncd "$HOME"\nexec sh "$@"\n')
    shell.chmod(0o755)
    with start_server(login=str(shell)) as server:
        for name in ("json", "tarfile", "types", "hashlib"):
            (server.home / f"{name}.py").write_text("raise SystemExit('shadowed')")
        device = reached(server)
        works(device, folder, tmp_path)
        device.close()


def test_lines_come_while_the_command_runs(device, folder):
    code = """
        import pathlib, sys, time
        print("\\xe4\\u2713 first", file=sys.stderr, flush=True)
        while not pathlib.Path("go").exists(): time.sleep(0.01)
        sys.stderr.write("no end of line")
    """
    place = device.push(folder)
    lines: list[str] = []

    def listen(line: str) -> None:
        lines.append(line)
        (Path(place) / "go").touch()

    finished = device.run([device.python, "-c", textwrap.dedent(code)], place, listen)
    assert lines == ["\xe4\u2713 first", "no end of line"]
    assert finished.stderr == "\xe4\u2713 first\nno end of line"


def test_a_line_without_end_comes_in_pieces(device, folder):
    lines: list[str] = []
    code = "import sys; sys.stderr.write('x' * 300000)"
    finished = device.run([device.python, "-c", code], device.push(folder), lines.append)
    assert "".join(lines) == finished.stderr == 300000 * "x"
    assert len(lines) > 1


def test_a_child_that_a_command_leaves_behind_holds_nothing_up(device, folder, server):
    code = "import subprocess; print(subprocess.Popen(['sleep', '300']).pid)"
    begin = time.monotonic()
    finished = device.run([device.python, "-c", code], device.push(folder))
    assert time.monotonic() - begin < 20
    assert is_alive(int(finished.stdout)), "only the command's own process is ended"
    os.kill(int(finished.stdout), signal.SIGKILL)


def test_a_command_that_a_signal_killed_has_a_negative_code(device, folder):
    code = "import os; os.kill(os.getpid(), 9)"
    assert device.run([device.python, "-c", code], device.push(folder)).code == -9


def test_exit_code_255_is_the_commands_own(device, folder):
    assert device.run([device.python, "-c", "import sys; sys.exit(255)"], device.push(folder)).code == 255


def test_a_program_that_is_not_there_is_told(device, folder):
    with pytest.raises(UserError, match="/no/such does not run there: No such file"):
        device.run(["/no/such", "x"], device.push(folder))


def test_a_command_without_an_end_to_its_output_is_ended(device, folder, monkeypatch):
    from devices.ssh import output

    monkeypatch.setattr(output, "LARGEST_OUTPUT", 1 << 20)
    code = "import os, sys\nprint(os.getpid(), file=sys.stderr, flush=True)\nwhile True: print('x' * 1000)"
    pids: list[int] = []
    with pytest.raises(UserError, match="larger than 1 MiB"):
        device.run([device.python, "-c", code], device.push(folder), lambda line: pids.append(int(line)))
    assert not is_alive(pids[0])
