"""The loopback server as a device, and what several tests of it need."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sshd import Server

from devices.ssh import Ssh

SHELLS = ("sh", "bash", "dash", "zsh", "csh", "tcsh", "fish")


def shell_path(name: str) -> str:
    """Where that shell lies; skips where it is not there, or is another one of `SHELLS` by another name."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    same = [other for other in SHELLS if other != name and (shutil.which(other) or "") == str(Path(path).resolve())]
    if same:
        pytest.skip(f"{name} is {same[0]} here")
    return path


def reached(server: Server, **given: object) -> Ssh:
    """The server as a device."""
    return Ssh(server.url, **{"ssh_config": server.ssh_config, "python": server.python, **given})  # type: ignore[arg-type]


def waited_for(condition: Callable[[], object], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def works(device: Ssh, folder: Path, tmp_path: Path) -> None:
    """All three doors."""
    place = device.push(folder)
    found = device.run([device.python, "-c", "import sys; sys.stdout.write(open('a.bin', 'rb').read(3).hex())"], place)
    assert found == (0, "000102", "")
    device.pull(place, ["a.bin"], tmp_path / "back")
    assert (tmp_path / "back/a.bin").read_bytes() == bytes(range(256))
