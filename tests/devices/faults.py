"""Breaking a connection or a board at a chosen moment, and what must hold afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd

from devices.deploy import measure_on
from devices.protocol import Device, Finished
from devices.ssh import connection
from runtimes.errors import UserError
from runtimes.records import Measurement


def waited_for(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether `condition` came to hold within so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return bool(condition())


class Moment:
    """Whether the moment came, and what went wrong with what was to be done then."""

    came = False
    error: Exception | None = None


@contextlib.contextmanager
def at_the_moment(condition: Callable[[], object], do: Callable[[], object]) -> Iterator[Moment]:
    """Beside what is done in the `with` block: `do()` as soon as `condition()` holds, once."""
    moment, over = Moment(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            if condition():
                moment.came = True
                try:
                    do()
                except Exception as error:
                    moment.error = error
                return
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield moment
    finally:
        over.set()
        watcher.join()
    if moment.error is not None:
        raise moment.error


def bundles(server: sshd.Server) -> list[Path]:
    """Where bundles lie on the board."""
    return sorted(path for path in (server.home / ".cache/edgeprune").glob("*") if path.is_dir())


def arrived(server: sshd.Server, pattern: str = "inputs/*.npy") -> list[Path]:
    """Files that lie in a bundle there under their final names."""
    found = [path for bundle in bundles(server) for path in sorted(bundle.glob(pattern))]
    return [path for path in found if not path.name.startswith(".")]


def two_lines(caught: pytest.ExceptionInfo[UserError]) -> str:
    """Both lines of the error as one text; it has exactly two."""
    message, hint = caught.value.message, caught.value.hint
    assert message.strip()
    assert hint.strip()
    assert "\n" not in message + hint
    assert "Traceback" not in message + hint
    return f"{message}\n{hint}"


def ends_well(device: Device, bundle: Path, results: Path, runtime: str = "ort") -> None:
    """The second try: the same bundle on the same device. One of its networks is enough."""
    (path,) = measure_on(device, bundle, results, runtimes=[runtime], networks=["dense"], rounds=2)
    found = Measurement.read(path)
    assert path.name == f"{runtime}-dense.json"
    assert found.latency_ns
    if runtime == "ort":
        assert found.outputs is not None
        assert (results / found.outputs["file"]).exists()


def doors_open(device: Device, folder: Path, here: Path) -> None:
    """The second try where no measurement had begun: the same folder is pushed, used there, and fetched from there."""
    place = device.push(folder)
    code = "print(open('manifest.json').read(), end='')"
    text = (folder / "manifest.json").read_text()
    assert device.run([device.python, "-c", code], place) == Finished(0, text, "")
    device.pull(place, ["manifest.json"], here)
    assert (here / "manifest.json").read_text() == text


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """The time-outs of ssh are a few seconds, and not a quarter of a minute, for connections that begin meanwhile."""
    shorter = {"ConnectTimeout=10": "ConnectTimeout=2", "ServerAliveInterval=5": "ServerAliveInterval=1"}
    shorter["ServerAliveCountMax=3"] = "ServerAliveCountMax=2"
    assert set(shorter) < set(connection._OPTIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_OPTIONS", tuple(shorter.get(option, option) for option in connection._OPTIONS))
        patch.setattr(connection, "_ASK_S", 2.0)
        yield


def nothing_runs(server: sshd.Server, seconds: float = 10.0) -> bool:
    """Whether all that ran on the board has ended, at the latest `seconds` from now."""
    return waited_for(lambda: not server.commands(), seconds)


def clients(server: sshd.Server) -> dict[int, str]:
    """The ssh processes on this machine that were told of this server's settings: process id and command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if Path(words[0]).name.rstrip(":") == "ssh" and any(str(server.folder) in word for word in words):
                    found[int(entry.name)] = " ".join(words)
    return found


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file of a folder: what a fault may not change on the host's side."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
