"""A device that lies: nothing it sends is obeyed, leaves its folder, or fills this machine."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from test_local import null_bundle

from devices.deploy import measure_on
from devices.local import Local
from devices.protocol import Finished
from devices.ssh import Ssh, carry
from runtimes.errors import UserError
from runtimes.records import Measurement, Workload

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


@pytest.fixture
def liar(server, tmp_path) -> Iterator[Callable[[str], Ssh]]:
    """`liar(code)`: a device on which `code` runs in place of our far side, after the request has come."""
    devices: list[Ssh] = []

    def make(lie: str) -> Ssh:
        path = tmp_path / f"liar-{len(devices)}"
        path.write_text(LIAR.format(python=sys.executable, folder=str(SSH), lie=textwrap.dedent(lie)))
        path.chmod(0o755)
        devices.append(Ssh(server.url, ssh_config=server.ssh_config, python=str(path)))
        return devices[-1]

    yield make
    for device in devices:
        device.close()


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


def test_a_login_that_prints_without_end_is_left(server, tmp_path):
    loud = tmp_path / "loud"
    loud.write_text("#!/bin/sh\nexec yes\n")
    loud.chmod(0o755)
    device = Ssh(server.url, ssh_config=server.ssh_config, python=str(loud))
    with pytest.raises(UserError, match="start-up files print"):
        device.run(["true"], "/")
    device.close()


# What a measurement says ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    workload = Workload(warmup_s=0.01, rounds=2, round_s=0.01, min_samples=2, passes=1)
    return null_bundle(tmp_path_factory.mktemp("hostile"), workload)


@pytest.fixture(scope="module")
def lying(bundle, tmp_path_factory) -> Callable[..., Local]:
    """`lying(lie, spoil)`: what was measured truly comes back once more, and both may change it before."""
    true = tmp_path_factory.mktemp("true") / "results"
    command = [sys.executable, "-m", "runtimes", "measure", ".", "--network", "dense", "--out", str(true)]
    measured = Local().run(command, str(bundle))
    answer = json.loads(measured.stdout.splitlines()[-1])

    class Lying(Local):
        def __init__(self, lie: Callable[[dict], object], spoil: Callable[[Path], None]) -> None:
            super().__init__()
            self.lie, self.spoil = lie, spoil

        def run(self, command: Sequence[str], place: str, on_line=None) -> Finished:
            if "measure" not in command:
                return super().run(command, place, on_line)
            out = Path(command[command.index("--out") + 1])
            shutil.copytree(true, out)
            self.spoil(out)
            lie = self.lie({**answer, "out": str(out)})
            return measured._replace(stdout=lie if isinstance(lie, str) else json.dumps(lie))

    return Lying


LIES = {
    "no JSON": lambda answer: "Segmentation fault",
    "nothing": lambda answer: "",
    "a list": lambda answer: "[]",
    "depth without end": lambda answer: "[" * 200_000,
    "length without end": lambda answer: json.dumps({**answer, "more": "x" * (2 << 20)}),
    "no names": lambda answer: {**answer, "measurements": None},
    "a name that leads out": lambda answer: {**answer, "measurements": ["../../a.json"]},
    "an absolute name": lambda answer: {**answer, "outputs": ["/etc/passwd.npy"]},
    "a name twice": lambda answer: {**answer, "measurements": 2 * answer["measurements"]},
    "an option": lambda answer: {**answer, "measurements": ["-rf.json"]},
    "a hidden name": lambda answer: {**answer, "outputs": [".bashrc.npy"]},
    "a name that is a number": lambda answer: {**answer, "outputs": [1]},
    "a pickle": lambda answer: {**answer, "outputs": ["a.pkl"]},
    "a terminal's order": lambda answer: {**answer, "outputs": ["\x1b[2J.npy"]},
    "a file that is not there": lambda answer: {**answer, "measurements": ["null-other.json"]},
    "the other's logits": lambda answer: {**answer, "outputs": []},
}


def has_logits(folder: Path) -> None:
    """As a runtime that answers leaves it: with logits, and a hash that is theirs."""
    from runtimes.files import sha256

    (folder / "logits-null-dense.npy").write_bytes(b"logits")
    path = folder / "null-dense.json"
    outputs = {
        "file": "logits-null-dense.npy",
        "n": 5,
        "classes": 2,
        "sha256": sha256(folder / "logits-null-dense.npy"),
    }
    replace(Measurement.read(path), outputs=outputs).write(path)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_an_answer_that_is_none_is_refused_and_leaves_nothing(bundle, tmp_path, lying, lie):
    device = lying(lie, has_logits)
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    assert "\x1b" not in str(caught.value)
    assert not list((tmp_path / "results").glob("*"))


def spoilt(change: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        has_logits(folder)
        change(folder)

    return spoil


SPOILS = {
    "logits that were changed": lambda folder: (folder / "logits-null-dense.npy").write_bytes(b"others"),
    "a measurement under another name": lambda folder: shutil.copy(
        folder / "null-dense.json", folder / "null-other.json"
    ),
    "depth without end": lambda folder: (folder / "null-dense.json").write_text("[" * 200_000),
    "another schema": lambda folder: (folder / "null-dense.json").write_text('{"kind": "x"}'),
    "no text": lambda folder: (folder / "null-dense.json").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_file_that_is_no_measurement_is_refused_and_leaves_nothing(bundle, tmp_path, lying, what):
    names = {"measurements": ["null-other.json" if "another name" in what else "null-dense.json"]}
    names["outputs"] = ["logits-null-dense.npy"]
    device = lying(lambda answer: {**answer, **names}, spoilt(SPOILS[what]))
    with pytest.raises(UserError):
        measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    assert not list((tmp_path / "results").glob("*"))


def test_the_same_files_unspoilt_are_taken(bundle, tmp_path, lying):
    device = lying(lambda answer: {**answer, "outputs": ["logits-null-dense.npy"]}, has_logits)
    measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "logits-null-dense.npy",
        "null-dense.json",
    ]


def test_a_connection_that_is_lost_after_the_results_came_loses_none_of_them(bundle, tmp_path, lying):
    class Lost(lying):
        def run(self, command: Sequence[str], place: str, on_line=None) -> Finished:
            if (tmp_path / "results/null-dense.json").exists():
                raise UserError("the connection was lost", "give the same command again")
            return super().run(command, place, on_line)

    paths = measure_on(Lost(lambda answer: answer, lambda _: None), bundle, tmp_path / "results", networks=["dense"])
    assert Measurement.read(paths[0]).name == "dense"


def test_words_of_a_device_that_fails_cannot_write_to_the_terminal(bundle, tmp_path):
    class Failing(Local):
        def run(self, command: Sequence[str], place: str, on_line=None) -> Finished:
            return Finished(2, "", "\x1b[2Jmessage\nhint\x07\n") if "measure" in command else Finished(0, "", "")

    with pytest.raises(UserError) as caught:
        measure_on(Failing(), bundle, tmp_path / "results")
    assert caught.value.message == "local: ?[2Jmessage"
    assert caught.value.hint.startswith("hint?; by hand: ")


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
