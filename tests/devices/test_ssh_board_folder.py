"""The folder on a board in which bundles lie: two hosts at once, links, and the room that it takes."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import content_of
from sshd import Server

from devices.ssh import Ssh, carry, far_files
from runtimes.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is like a bundle, of 24 MiB."""
    root = tmp_path / "bundle"
    root.mkdir()
    (root / "manifest.json").write_text('{"id": "0123456789ab"}')
    for number in range(24):
        (root / f"{number}.npy").write_bytes(os.urandom(1 << 20))
    return root


@pytest.fixture
def board(tmp_path: Path) -> Path:
    return tmp_path / "board"


@contextlib.contextmanager
def opened(server: Server, board: Path) -> Iterator[Ssh]:
    with contextlib.closing(
        Ssh(server.url, ssh_config=server.ssh_config, python=server.python, folder=str(board))
    ) as device:
        yield device


def test_two_hosts_that_push_the_same_bundle_at_once_send_it_once(server, folder, board, monkeypatch):
    """Without the lock one of them fails: the other removes its unfinished files."""
    sent: list[str] = []
    whole = carry._send
    both_called = threading.Barrier(2, timeout=30)

    def send(call, files, wanted):
        sent.extend(files)
        whole(call, files, wanted)

    def push(device: Ssh) -> None:
        both_called.wait()
        places.append(device.push(folder))

    monkeypatch.setattr(carry, "_send", send)
    places: list[str] = []
    with opened(server, board) as one, opened(server, board) as other:
        threads = [threading.Thread(target=push, args=(device,)) for device in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(places) == 2
    assert places[0] == places[1]
    assert sorted(sent) == sorted(content_of(folder))
    assert content_of(Path(places[0])) == content_of(folder)


def test_a_link_in_the_place_of_a_bundle_is_removed_and_not_followed(server, folder, board, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/mine").write_text("not to be touched")
    board.mkdir()
    (board / "bundle-0123456789ab").symlink_to(tmp_path / "outside")
    with opened(server, board) as device:
        place = Path(device.push(folder))
    assert content_of(place) == content_of(folder)
    assert content_of(tmp_path / "outside") == {"mine": b"not to be touched"}


def test_what_a_neighbour_had_is_taken_only_as_long_as_it_is_what_was_wanted(tmp_path, monkeypatch):
    """Another host may put another file there between the look and the taking."""
    wanted = [1, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"]  # of "x"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one/a").write_text("x")
    whole = far_files._copy

    def changed_before(there: Path, own: Path) -> None:
        there.write_text("y")
        whole(there, own)

    monkeypatch.setattr(far_files, "_copy", changed_before)
    assert not far_files._is_there(tmp_path / "two", "a", wanted)
    monkeypatch.undo()
    (tmp_path / "one/a").unlink()
    (tmp_path / "one/a").write_text("x")
    assert far_files._is_there(tmp_path / "two", "a", wanted)


def test_a_probe_says_how_much_room_bundles_take(server, folder, board, tmp_path):
    with opened(server, board) as device:
        device.push(folder)
        (folder / "manifest.json").write_text('{"id": "ba9876543210"}')
        device.push(folder)
        told = device.probe()["needs"][-1]
    assert (told["what"], told["fine"], told["needed"]) == ("bundles there", True, False)
    assert f"3 in {board}: 24." in told["found"], "both bundles and the probe; what two of them have counts once"
    assert "MiB free" in told["found"]


def test_where_nothing_lies_yet_no_room_is_taken(tmp_path):
    found = far_files.held(str(tmp_path / "nothing"))
    assert found == {"place": str(tmp_path / "nothing"), "folders": 0, "bytes": 0, "free": None}


def test_the_folder_of_a_user_whom_nobody_knows_there_is_told(server, folder):
    with opened(server, Path("~nobody-of-that-name/x")) as device, pytest.raises(UserError) as caught:
        device.push(folder)
    assert "~nobody-of-that-name/x: nobody there has that name" in caught.value.message
    assert "folder = in devices.toml" in caught.value.hint


def test_a_name_without_end_is_cut(server, tmp_path, board):
    long = tmp_path / (200 * "n" + "ä")
    long.mkdir()
    (long / "a").write_text("a")
    with opened(server, board) as device:
        assert len(Path(device.push(long)).name) < 200
