"""A device that lies: nothing it sends is obeyed, leaves its folder, or fills this machine."""

from __future__ import annotations

import contextlib
import io
import sys
import tarfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devices.ssh import Ssh, call, carry
from runtimes.errors import UserError

SSH = Path(carry.__file__).parent
LIAR = """#!{python}
import io, json, re, struct, sys, tarfile, time
sys.path.insert(0, {folder!r})
from wire import HEADER, TarSink, Wire
token = re.search(r"(edgeprune-\\w+) %d", sys.argv[3])[1]
print(token, "3.11", flush=True)
sys.stdin.buffer.read(int(re.search(r"read\\((\\d+)\\)", sys.argv[3])[1]))
wire = Wire(sys.stdin.buffer, sys.stdout.buffer)
request = json.loads(wire.receive()[1])
tar = tarfile.open(mode="w|", fileobj=TarSink(wire))
def member(name, size=0, **fields):
    found = tarfile.TarInfo(name)
    found.size = size
    for field, value in fields.items():
        setattr(found, field, value)
    return found
{lie}
wire.send_json(b"x", {{"code": 0}})
sys.stdin.buffer.read()
"""


@pytest.fixture(scope="module")
def connected(server) -> Iterator[Ssh]:
    """One connection for all lies."""
    with contextlib.closing(Ssh(server.url, ssh_config=server.ssh_config)) as device:
        yield device


@pytest.fixture
def liar(connected, tmp_path, monkeypatch) -> Callable[[str], Ssh]:
    """`liar(code)`: a device on which `code` runs in place of our far side, after the request has come."""
    monkeypatch.setattr(call, "_LEAVES_S", 0.1)  # some lies never end

    def make(lie: str) -> Ssh:
        path = tmp_path / "liar"
        path.write_text(LIAR.format(python=sys.executable, folder=str(SSH), lie=textwrap.dedent(lie)))
        path.chmod(0o755)
        connected.python = str(path)
        return connected

    return make


def test_a_liar_that_tells_the_truth_is_believed(liar, tmp_path):
    """The other tests of this file fail for what they say, and not for a liar that does not work."""
    device = liar("tar.addfile(member('a.json', 2), io.BytesIO(b'{}')); tar.close()")
    device.pull("/there", ["a.json"], tmp_path / "here")
    assert (tmp_path / "here/a.json").read_text() == "{}"


MEMBERS = {
    "another name": "tar.addfile(member('b.json', 2), io.BytesIO(b'{}'))",
    "a name that leads out": "tar.addfile(member('../a.json', 2), io.BytesIO(b'{}'))",
    "an absolute name": "tar.addfile(member('/tmp/a.json', 2), io.BytesIO(b'{}'))",
    "a link": "tar.addfile(member('a.json', type=tarfile.SYMTYPE, linkname='/etc/passwd'))",
    "a hard link": "tar.addfile(member('a.json', type=tarfile.LNKTYPE, linkname='/etc/passwd'))",
    "a device node": "tar.addfile(member('a.json', type=tarfile.CHRTYPE, devmajor=1, devminor=5))",
    "a block device": "tar.addfile(member('a.json', type=tarfile.BLKTYPE))",
    "a pipe": "tar.addfile(member('a.json', type=tarfile.FIFOTYPE))",
    "a folder": "tar.addfile(member('a.json', type=tarfile.DIRTYPE))",
    "a sparse file": "tar.addfile(member('a.json', 2, type=tarfile.GNUTYPE_SPARSE), io.BytesIO(b'{}'))",
    "a file with holes by its extended header": """
        holes = {'GNU.sparse.size': '99', 'GNU.sparse.map': '0,2'}
        tar.addfile(member('a.json', 2, pax_headers=holes), io.BytesIO(b'{}'))
    """,
    "nothing": "",
    "an empty tar file": "tar.close()",
    "no tar file": "wire.send(b'd', b'x' * 5000)",
    "half a file": "wire.send(b'd', member('a.json', 20000).tobuf() + b'x' * 600)",
    "a negative size": "wire.send(b'd', member('a.json', -5, ).tobuf(tarfile.GNU_FORMAT)); tar.close()",
    "a json file without end": "tar.fileobj.write(member('a.json', 10 << 30).tobuf(tarfile.GNU_FORMAT)); tar.close()",
    "a name without end": """
        wire.send(b'd', member('././@LongLink', 1 << 40, type=tarfile.GNUTYPE_LONGNAME).tobuf(tarfile.GNU_FORMAT))
        while True: wire.send(b'd', b'n' * 60000)
    """,
    "headers without end": """
        while True: wire.send(b'd', member('a.json', 0, type=tarfile.XGLTYPE).tobuf(tarfile.PAX_FORMAT))
    """,
    "more after the end": """
        tar.addfile(member('a.json', 2), io.BytesIO(b'{}')); tar.close()
        while True: wire.send(b'd', b'x' * 60000)
    """,
    "another kind of frame": "wire.send(b'o', b'hello')",
    "a frame of 4 GiB": "sys.stdout.buffer.write(HEADER.pack(b'd', 0xffffffff)); sys.stdout.flush()",
}


@pytest.mark.parametrize("lie", MEMBERS.values(), ids=MEMBERS)
def test_of_a_tar_file_only_the_regular_file_that_was_asked_for_is_taken(liar, tmp_path, lie):
    (tmp_path / "here").mkdir()
    with pytest.raises(UserError):
        liar(lie).pull("/there", ["a.json"], tmp_path / "here")
    left = {path.name for path in (tmp_path / "here").iterdir()}
    assert left <= ({"a.json"} if "more after" in lie or "b'{}')); tar.close()" in lie else set())
    assert not (tmp_path / "a.json").exists()


def test_the_size_of_a_file_is_limited_by_what_is_asked_for(liar, tmp_path, monkeypatch):
    monkeypatch.setattr(carry, "LARGEST_FILE", 1000)
    monkeypatch.setattr(carry, "LARGEST_JSON", 100)
    lie = "[tar.addfile(member(name, 500), io.BytesIO(bytes(500))) for name in request['names']]; tar.close()"
    liar(lie).pull("/there", ["a.npy"], tmp_path)
    with pytest.raises(UserError, match=r"b\.json is larger than"):
        liar(lie).pull("/there", ["b.json"], tmp_path)
    assert not (tmp_path / "b.json").exists()


ANSWERS = {
    "a file that was not offered": {"place": "/there", "missing": ["../../etc/passwd"]},
    "no list": {"place": "/there", "missing": "manifest.json"},
    "a place that is none": {"place": "relative", "missing": []},
    "a place that writes to the terminal": {"place": "/a\x1b[2J", "missing": []},
    "no place": {"missing": []},
    "a place without end": {"place": "/" + "a" * 10000, "missing": []},
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_push_answers_to_nothing_but_what_was_offered(liar, tmp_path, answer):
    (tmp_path / "things").mkdir()
    (tmp_path / "things/a").write_text("a")
    with pytest.raises(UserError, match="answered what was not asked"):
        liar(f"wire.send_json(b'j', {answer!r})").push(tmp_path / "things")


@pytest.mark.parametrize(
    "lie",
    [
        "wire.send(b'x', b'[' * 100000)",
        "wire.send(b'x', b'[]')",
        "wire.send(b'x', b'{\"code\": \"0\"}')",
        "wire.send(b'x', b'\\xff')",
        "wire.send(b'd', b'a file')",
        "wire.send_json(b'x', {'error': 'system', 'why': '\\x1b[2J' * 1000, 'path': {}})",
        "wire.send_json(b'x', {'error': 'room', 'needed': 'much', 'free': []})",
    ],
)
def test_a_command_ends_with_a_code_and_nothing_else(liar, lie):
    with pytest.raises(UserError) as caught:
        liar(lie).run(["true"], "/")
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_a_login_that_prints_without_end_is_left(server, tmp_path, monkeypatch):
    monkeypatch.setattr(call, "_LEAVES_S", 0.1)
    loud = tmp_path / "loud"
    loud.write_text("#!/bin/sh\nexec yes\n")
    loud.chmod(0o755)
    device = Ssh(server.url, ssh_config=server.ssh_config, python=str(loud))
    with pytest.raises(UserError, match="start-up files print"):
        device.run(["true"], "/")
    device.close()


def test_the_far_side_takes_no_member_but_those_it_asked_for(tmp_path):
    """The other direction, as a far side reads it: a host of another version, or a bug of ours."""
    from devices.ssh.far_files import RefusedError, take
    from devices.ssh.wire import Wire

    wanted = {"a": [1, "0" * 64]}
    for name, kind in (
        ("../b", tarfile.REGTYPE),
        ("b", tarfile.REGTYPE),
        ("a", tarfile.SYMTYPE),
        ("a", tarfile.CHRTYPE),
    ):
        content = io.BytesIO()
        sender = Wire(io.BytesIO(), content)
        with tarfile.open(mode="w|", fileobj=carry.TarSink(sender)) as tar:  # type: ignore[call-overload]
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        content.seek(0)
        with pytest.raises(RefusedError):
            take(Wire(content, io.BytesIO()), str(tmp_path / "places"), "bundle", wanted)
        assert not [path for path in (tmp_path / "places").rglob("*") if not path.is_dir()]
    for path in ("../a", "/a", "a//b", "a/../b", ""):
        with pytest.raises(RefusedError):
            take(Wire(io.BytesIO(), io.BytesIO()), str(tmp_path / "places"), "bundle", {path: [1, "0" * 64]})
