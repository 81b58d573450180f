"""Real OpenSSH servers on loopback, which are the devices of these tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd
from faults import clients, nothing_runs, waited_for
from reached import reached

from devices import open_device, ssh
from devices.ssh import Ssh


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., sshd.Server]]:
    """`start_server(environment={...}, login="/bin/csh")`: a server of one's own; it ends with the tests, or before.

    `kind`: a subclass of `sshd.Server`.
    """
    reason = sshd.missing()
    if reason is not None:
        pytest.skip(reason)
    pythons: list[str] = []

    def start(kind: type[sshd.Server] = sshd.Server, **given: object) -> sshd.Server:
        if not pythons:
            pythons[:] = sshd.board_pythons(tmp_path_factory.mktemp("board-pythons"))
        folder: Path = tmp_path_factory.mktemp("sshd")
        return servers.enter_context(kind(folder, *pythons, **given))

    with contextlib.ExitStack() as servers:
        yield start


@pytest.fixture(scope="session")
def server(start_server: Callable[..., sshd.Server]) -> sshd.Server:
    """One server for all tests. Who stops it starts it again, and leaves no connection behind."""
    return start_server()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    """Before a transfer goes on: the servers of these tests are back at once."""
    monkeypatch.setattr(ssh, "_PAUSE_S", 0.1)


@pytest.fixture
def own(start_server):
    """A server of the test's own, with an empty HOME. Nothing that it started may go on."""
    with start_server() as server:
        yield server
        assert nothing_runs(server)


@pytest.fixture
def own_device(own):
    """That server as a device. No ssh goes on once it is closed."""
    opened = open_device(own.url, ssh_config=own.ssh_config, python=own.python)
    yield opened
    opened.close()
    assert waited_for(lambda: not clients(own)), clients(own)


@pytest.fixture
def device(server: sshd.Server) -> Iterator[Ssh]:
    """The server for all tests as a device, with a connection of the test's own."""
    device = reached(server)
    yield device
    device.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Something to push."""
    (tmp_path / "things").mkdir()
    (tmp_path / "things/a.bin").write_bytes(bytes(range(256)))
    return tmp_path / "things"
