"""What travels to a device and back over SSH: only what is missing, whole or not at all, and on after a cut."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Server

from devices.ssh import Ssh, carry
from devices.ssh.call import Call
from devices.ssh.complaints import LostError
from runtimes.errors import UserError


@pytest.fixture
def device(server, tmp_path) -> Iterator[Ssh]:
    """Its bundles lie in a folder of their own, where no other test's do."""
    device = Ssh(server.url, ssh_config=server.ssh_config, python=server.python, folder=str(tmp_path / "board"))
    yield device
    device.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is like a bundle: an id, folders, and files of other sizes than a block's."""
    root = tmp_path / "bundle"
    (root / "inputs").mkdir(parents=True)
    (root / "runtimes/deep").mkdir(parents=True)
    identity = hashlib.sha256(str(tmp_path).encode()).hexdigest()[:8]
    (root / "manifest.json").write_text(f'{{"id": "{identity}"}}')
    (root / "inputs/0000.npy").write_bytes(os.urandom(200_001))
    (root / "runtimes/deep/ä b.py").write_text("print('deep')\n")
    (root / "empty").write_bytes(b"")
    (root / ("long-" + 150 * "n")).write_bytes(b"long")
    return root


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that travel to the device."""
    names: list[str] = []
    whole = carry._send

    def send(call, files, wanted):
        names.extend(files)
        return whole(call, files, wanted)

    monkeypatch.setattr(carry, "_send", send)
    return names


def content(folder: Path) -> dict[str, bytes]:
    """All files below it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_pushed_folder_is_the_same_there(device, folder):
    place = Path(device.push(folder))
    assert content(place) == content(folder)
    assert place.name.startswith("bundle-")
    assert place.stat().st_mode & 0o777 == 0o700


def test_the_second_push_carries_nothing_and_the_place_is_the_same(device, folder, sent):
    place = device.push(folder)
    assert sorted(sent) == sorted(content(folder))
    sent.clear()
    assert device.push(folder) == place
    assert sent == []


def test_a_file_that_was_damaged_there_is_put_right(device, folder, sent):
    place = Path(device.push(folder))
    sent.clear()
    damaged = place / "inputs/0000.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    device.push(folder)
    assert sent == ["inputs/0000.npy"]
    assert content(place) == content(folder)


def test_engines_and_results_stay_and_other_strangers_go(device, folder):
    place = Path(device.push(folder))
    kept = ["engines/a.engine", "results/r.json", "results-2/r.json", "12-results-on-the-way/r.json"]
    for name in [*kept, "old.onnx", "runtimes/__pycache__/a.pyc", "inputs/old/deep/b", "inputs/engines/c"]:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("there")
    (place / "inputs/way-out").symlink_to(folder)
    device.push(folder)
    assert sorted(content(place)) == sorted([*content(folder), *kept])
    assert not (place / "inputs/old").exists()
    assert content(folder)["empty"] == b"", "a link is removed, and not what it leads to"


def test_what_a_measurement_left_in_the_folder_here_does_not_travel(device, folder, sent):
    before = sorted(content(folder))
    for name in ("engines/host.engine", "results/r.json", "runtimes/__pycache__/a.pyc"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("here")
    device.push(folder)
    assert sorted(sent) == before


def test_a_file_of_another_bundle_there_does_not_travel_again(device, folder, tmp_path, sent):
    first = Path(device.push(folder))
    other = tmp_path / "later" / "bundle"
    shutil.copytree(folder, other)
    (other / "manifest.json").write_text('{"id": "fedcba987654"}')
    sent.clear()
    second = Path(device.push(other))
    assert second != first
    assert sent == ["manifest.json"]
    assert content(second) == content(other)
    (first / "inputs/0000.npy").write_bytes(b"damaged")  # in place, through the link
    device.push(other)
    assert content(second) == content(other)
    shutil.rmtree(second)


@pytest.mark.parametrize("obstacle", ["a link to a file", "a folder", "a link in the way", "a file in the way"])
def test_what_stands_in_the_way_there_is_replaced_and_never_followed(device, folder, tmp_path, obstacle):
    place = Path(device.push(folder))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "0000.npy").write_text("not to be touched")
    if obstacle == "a link to a file":
        (place / "inputs/0000.npy").unlink()
        (place / "inputs/0000.npy").symlink_to(outside / "0000.npy")
    elif obstacle == "a folder":
        (place / "inputs/0000.npy").unlink()
        (place / "inputs/0000.npy/deeper").mkdir(parents=True)
    else:
        shutil.rmtree(place / "inputs")
        (place / "inputs").symlink_to(outside) if "link" in obstacle else (place / "inputs").write_text("file")
    device.push(folder)
    assert content(place) == content(folder)
    assert not any(path.is_symlink() for path in place.rglob("*"))
    assert (outside / "0000.npy").read_text() == "not to be touched"


def test_a_changed_bundle_with_its_old_id_is_the_new_one_there(device, folder):
    place = Path(device.push(folder))
    (folder / "empty").write_text("no more")
    (folder / ("long-" + 150 * "n")).unlink()
    assert device.push(folder) == str(place)
    assert content(place) == content(folder)


def test_a_file_that_changes_while_it_travels_is_refused(device, folder, monkeypatch):
    def other_hash(path: Path) -> str:
        return (
            hashlib.sha256(b"another").hexdigest()
            if path.name == "empty"
            else hashlib.sha256(path.read_bytes()).hexdigest()
        )

    monkeypatch.setattr(carry, "sha256", other_hash)
    with pytest.raises(UserError, match="empty did not arrive as it is here"):
        device.push(folder)
    monkeypatch.undo()
    device.push(folder)


def cut_when(server: Server, condition) -> threading.Thread:
    """Cut the connection at the first moment at which `condition` holds."""

    def wait() -> None:
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.001)
        server.cut()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_push_goes_on_after_a_cut_and_carries_no_whole_file_twice(device, folder, server, sent, tmp_path):
    for number in range(30):
        (folder / f"inputs/{number:04}.npy").write_bytes(os.urandom(1 << 20))
    some_arrived = cut_when(server, lambda: list(tmp_path.glob("board/bundle-*/inputs/0003.npy")))
    place = Path(device.push(folder))
    some_arrived.join()
    assert content(place) == content(folder)
    first, second = sent[: len(content(folder))], sent[len(content(folder)) :]
    assert len(first) == len(content(folder))
    assert 0 < len(second) < len(first), "it was cut, and what had arrived was kept"
    assert not [path for path in place.rglob("*") if "arriving" in path.name]


def test_a_pull_goes_on_after_a_cut_and_leaves_nothing_half(device, folder, server, tmp_path, monkeypatch):
    names = [f"{number}.bin" for number in range(20)]
    for name in names:
        (folder / name).write_bytes(os.urandom(1 << 20))
    place = device.push(folder)
    fetched: list[str] = []
    whole = carry._receive

    def receive(call, tar, allowance, name, target):
        fetched.append(name)
        if fetched == names[:4]:
            server.cut()
        whole(call, tar, allowance, name, target)

    monkeypatch.setattr(carry, "_receive", receive)
    here = tmp_path / "here"
    device.pull(place, names, here)
    assert content(here) == {name: (folder / name).read_bytes() for name in names}
    assert names[0] not in fetched[4:], "what had arrived was not fetched again"
    assert len(fetched) > len(names)


def test_a_connection_that_is_always_lost_is_given_up(device, folder, server, monkeypatch):
    tries: list[int] = []

    def cut(call: Call, files, wanted) -> None:
        tries.append(1)
        server.cut()
        while True:
            call.wire.send(b"d", bytes(1 << 16))

    monkeypatch.setattr(carry, "_send", cut)
    with pytest.raises(LostError, match="the connection was lost"):
        device.push(folder)
    assert len(tries) == 3
    monkeypatch.undo()
    assert content(Path(device.push(folder))) == content(folder)


@pytest.mark.parametrize(("limit", "message"), [("-f 1000", "no room in"), ("-d 100000", None)])
def test_a_small_board(server, folder, tmp_path, limit, message):
    """Files may have 500 kB; or a process 100 MB of memory, through which 130 MB travel both ways."""
    python = tmp_path / "limited"
    python.write_text(f'#!/bin/sh\nulimit {limit}\nexec {server.python} "$@"\n')
    python.chmod(0o755)
    with (folder / "large.bin").open("wb") as file:
        file.truncate(130 << 20)
    device = Ssh(server.url, ssh_config=server.ssh_config, python=str(python))
    try:
        if message is not None:
            with pytest.raises(UserError, match=message):
                device.push(folder)
            return
        place = device.push(folder)
        device.pull(place, ["large.bin"], tmp_path / "here")
        assert (tmp_path / "here/large.bin").stat().st_size == 130 << 20
        shutil.rmtree(place)
    finally:
        device.close()


def test_a_folder_that_may_not_be_written_there_is_named(server, folder):
    device = Ssh(server.url, ssh_config=server.ssh_config, python=server.python, folder="/proc/nowhere")
    with pytest.raises(UserError, match="/proc/nowhere") as caught:
        device.push(folder)
    assert "folder = in devices.toml" in caught.value.hint
    device.close()


def test_bundles_lie_where_the_device_has_them(server, folder, tmp_path):
    device = Ssh(server.url, ssh_config=server.ssh_config, python=server.python, folder="~/a b/c")
    assert device.push(folder).startswith(f"{server.home}/a b/c/bundle-")
    device.close()


def test_a_missing_folder_here_is_told(device, tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        device.push(tmp_path / "missing")
