"""The board is not as it should be, over real OpenSSH: what is told, and that it ends well once that is put right."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import sshd
from faults import bundles, content_of, doors_open, ends_well, nothing_runs, two_lines
from small_bundles import onnx_bundle

from devices import open_device
from devices.deploy import measure_on
from devices.protocol import Device, Finished
from runtimes.errors import UserError

DISK_MB = 8


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    """A bundle that no test may change."""
    return onnx_bundle(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def bundle(pristine, tmp_path) -> Path:
    """A bundle of the test's own."""
    shutil.copytree(pristine, tmp_path / "bundle")
    return tmp_path / "bundle"


class SmallDisk(sshd.Server):
    """Its bundles lie on a disk of 8 MB, from which programs cannot be started. The disk goes with the server."""

    def program(self) -> list[str]:
        """The mount is seen by this sshd and by what it starts."""
        place = self.home / ".cache/edgeprune"
        place.mkdir(parents=True, exist_ok=True)
        mount = f'mount -t tmpfs -o noexec,size={DISK_MB}m,mode=700 tmpfs "$1"; shift; exec "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", mount, "disk", str(place)]
        return [*words, *super().program()]


@pytest.fixture
def small(start_server):
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a disk of its own is mounted by root, with unshare")
    with start_server(kind=SmallDisk) as server:
        yield server
        assert nothing_runs(server)


def opened(server: sshd.Server, python: object = None) -> Device:
    return open_device(server.url, ssh_config=server.ssh_config, python=str(python or server.python))


def script(server: sshd.Server, *lines: str) -> Path:
    """A program on the board."""
    path = server.home / "program"
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


# Room ----------------------------------------------------------------------------------------------------------------


def test_a_bundle_that_does_not_fit_is_told_with_both_numbers_and_a_smaller_one_fits(small, bundle, tmp_path):
    large = onnx_bundle(tmp_path / "large", megabytes=20)
    before = content_of(large)
    device = opened(small)
    with pytest.raises(UserError) as caught:
        measure_on(device, large, tmp_path / "results")
    assert re.search(r"20\.\d MiB needed, [1-8]\.\d MiB free", two_lines(caught))
    assert content_of(large) == before
    ends_well(device, bundle, tmp_path / "results")
    device.close()


def test_a_disk_that_is_full_when_the_measurement_is_written_is_told(small, bundle, tmp_path):
    device = opened(small)
    place = device.push(bundle)
    small.ssh(
        "head -c 100M /dev/zero >.cache-filler; cat .cache-filler >$HOME/.cache/edgeprune/filler; rm .cache-filler"
    )
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results", rounds=2)
    told = two_lines(caught)
    assert "no room to write" in told
    assert "free some space on the device and measure again" in told
    assert "kept" not in told, "not there"
    assert not (tmp_path / "results").exists()
    assert small.ssh("rm $HOME/.cache/edgeprune/filler").returncode == 0
    ends_well(device, bundle, tmp_path / "results")
    assert "results" not in small.ssh(f"ls -a {place}").stdout
    device.close()


def test_room_that_runs_out_in_the_middle_of_a_push_is_told_and_what_arrived_stays(own, tmp_path):
    """A limit on the size of a file is the nearest to that which needs no disk: the free space promised enough."""
    large = onnx_bundle(tmp_path / "large", megabytes=20)
    limited = opened(own, script(own, "ulimit -f 4096", f'exec {own.python} "$@"'))
    with pytest.raises(UserError) as caught:
        measure_on(limited, large, tmp_path / "results")
    told = two_lines(caught)
    assert re.search(r"no room in .*: File too large: 2\d\.\d MiB needed", told)
    assert "`ulimit -f`" in told
    limited.close()
    left = [path for place in bundles(own) for path in place.rglob("*") if path.is_file()]
    assert not [path for path in left if path.name.startswith(".") or path.name.endswith(".tmp")]
    for path in left:
        assert path.read_bytes() == (large / path.relative_to(bundles(own)[0])).read_bytes()
    device = opened(own)
    doors_open(device, large, tmp_path / "results")
    device.close()


def test_a_folder_that_cannot_be_made_is_told_by_its_path(own, own_device, bundle, tmp_path):
    (own.home / ".cache").write_text("a file where a folder should be")
    with pytest.raises(UserError) as caught:
        measure_on(own_device, bundle, tmp_path / "results")
    assert ".cache" in two_lines(caught)
    (own.home / ".cache").unlink()
    doors_open(own_device, bundle, tmp_path / "results")


# Python --------------------------------------------------------------------------------------------------------------


def test_a_python_without_numpy_is_told_with_the_command_that_installs_it(own, bundle, tmp_path):
    device = opened(own, own.bare_python)
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results")
    said = two_lines(caught)
    assert "numpy" in said
    assert f"{own.bare_python} -m pip install" in said
    device.close()
    again = opened(own)
    ends_well(again, bundle, tmp_path / "results")
    again.close()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(["echo I am no Python"], id="something-else"),
        pytest.param(["echo I am no Python; exec cat"], id="something-that-listens"),
        pytest.param(["exit 0"], id="silent"),
        pytest.param(["exec /nowhere/python3"], id="not-found"),
    ],
)
def test_a_program_that_is_no_python_is_told(own, bundle, tmp_path, lines, monkeypatch):
    monkeypatch.setattr("devices.ssh.call._START_S", 1.0)
    wrong = script(own, *lines)
    device = opened(own, wrong)
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results")
    assert str(wrong) in two_lines(caught) or "did not answer within 1 s" in two_lines(caught)
    device.close()
    monkeypatch.undo()
    again = opened(own)
    doors_open(again, bundle, tmp_path / "results")
    again.close()


def test_a_python_that_is_not_there_is_told_by_its_path(own, bundle, tmp_path):
    device = opened(own, "/nowhere/python3")
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results")
    assert "/nowhere/python3" in two_lines(caught)
    device.close()


AS_IF = """
while [ "$1" != -c ]; do shift; done
code=$2
shift 2
exec {python} -c "import sys; sys.version_info = ({version}, 'final', 0)
$code" "$@"
"""


def test_a_python_that_is_too_old_is_told_with_its_version(own, bundle, tmp_path):
    """This Python, which says that it is another one."""
    device = opened(own, script(own, AS_IF.format(python=own.python, version="3, 6, 9")))
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results")
    said = two_lines(caught)
    assert "3.6" in said
    assert "3.8" in said
    device.close()


def old_pythons() -> list[Path]:
    return [path for path in Path.home().glob(".pyenv/versions/*/bin/python") if _version(path) < (3, 8)]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in path.parent.parent.name.split(".")[:2] if part.isdigit()) or (9,)


@pytest.mark.parametrize("python", old_pythons() or [None], ids=str)
def test_a_real_old_python_is_told_with_its_version(own, bundle, tmp_path, python):
    if python is None:
        pytest.skip("no Python before 3.8 in ~/.pyenv")
    device = opened(own, python)
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results")
    assert ".".join(map(str, _version(python))) in two_lines(caught)
    device.close()


# The bundle there ----------------------------------------------------------------------------------------------------


def replaced(bundle: Path, name: str, text: str) -> None:
    """Another file in the bundle, of which the manifest knows."""
    (bundle / name).write_text(text)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("where", ["load", "run"])
def test_a_runtime_that_hangs_is_given_up_and_nothing_of_it_goes_on(own, own_device, pristine, bundle, tmp_path, where):
    null = (bundle / "runtimes/null.py").read_text()
    marks = {"load": '    given = options.get("busy_us", "0")\n', "run": "        return _NOTHING\n"}
    assert marks[where] in null
    indent = marks[where][: len(marks[where]) - len(marks[where].lstrip())]
    replaced(bundle, "runtimes/null.py", null.replace(marks[where], f"{indent}time.sleep(600)\n{marks[where]}", 1))
    with pytest.raises(UserError) as caught:
        measure_on(own_device, bundle, tmp_path / "results", runtimes=["null"], timeout_s=1)
    assert "said nothing for 1 s" in two_lines(caught)
    assert nothing_runs(own)
    ends_well(own_device, pristine, tmp_path / "results")


def flip(path: Path) -> None:
    """Change one byte, and neither the size nor the time."""
    times, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def link_away(path: Path) -> None:
    """A link to a file that is none of ours."""
    path.unlink()
    path.symlink_to(path.parents[3] / "precious")


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        pytest.param("model.onnx", flip, id="network-flipped"),
        pytest.param("model.onnx", Path.unlink, id="network-gone"),
        pytest.param("model.onnx", link_away, id="network-a-link"),
        pytest.param("inputs/0000.npy", lambda path: path.write_bytes(b""), id="images-emptied"),
        pytest.param("runtimes/ort.py", link_away, id="code-a-link"),
        pytest.param("manifest.json", flip, id="manifest-flipped"),
    ],
)
def test_a_file_that_was_spoilt_there_is_sent_again(own, own_device, bundle, tmp_path, name, spoil):
    place = Path(own_device.push(bundle))
    precious = (place / name).parents[3] / "precious"
    precious.write_text("not ours")
    spoil(place / name)
    assert Path(own_device.push(bundle)) == place
    assert content_of(place) == content_of(bundle)
    assert not (place / name).is_symlink()
    assert precious.read_text() == "not ours"


class Meddled:
    """A device with which somebody meddles once, after one of its doors was used."""

    def __init__(self, device: Device, after: str, meddle: Callable[[Path], None]) -> None:
        self._device, self._after, self._meddle = device, after, meddle
        self.name, self.python, self.by_hand, self.probe = device.name, device.python, device.by_hand, device.probe
        self.pull, self.close = device.pull, device.close

    def push(self, folder: Path) -> str:
        place = self._device.push(folder)
        self._then("push", place)
        return place

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        finished = self._device.run(command, place, on_line)
        if "measure" in command:
            self._then("run", command[list(command).index("--out") + 1])
        return finished

    def _then(self, door: str, place: str) -> None:
        if door == self._after:
            self._after = ""
            self._meddle(Path(place))


def test_a_file_that_is_spoilt_between_push_and_run_is_named(own, own_device, bundle, tmp_path):
    meddled = Meddled(own_device, "push", lambda place: flip(place / "model.onnx"))
    with pytest.raises(UserError) as caught:
        measure_on(meddled, bundle, tmp_path / "results", rounds=2)
    assert "model.onnx" in two_lines(caught)
    ends_well(meddled, bundle, tmp_path / "results")


class Repeating:
    """A device that measures once. Later measurements are copies of that one, made on the board."""

    def __init__(self, device: Device) -> None:
        self._device, self._measured = device, Finished(0, "", "")
        self.name, self.python, self.by_hand, self.probe = device.name, device.python, device.by_hand, device.probe
        self.push, self.pull, self.close = device.push, device.pull, device.close

    def run(self, command: Sequence[str], place: str, on_line: Callable[[str], None] | None = None) -> Finished:
        kept = Path(place).parent / "kept"
        if "measure" not in command:
            return self._device.run(command, place, on_line)
        out = command[list(command).index("--out") + 1]
        if kept.exists():
            shutil.copytree(kept, out)
        else:
            self._measured = self._device.run(command, place, on_line)
            shutil.copytree(out, kept)
        return self._measured


@pytest.fixture(scope="module")
def repeating(start_server) -> Iterator[Repeating]:
    with start_server() as server, contextlib.closing(opened(server)) as device:
        yield Repeating(device)


SPOILT = {"cut": lambda path: path.write_bytes(path.read_bytes()[:-8]), "gone": Path.unlink, "link": link_away}
LOGITS = "logits-ort-dense.npy"


@pytest.mark.parametrize(
    ("name", "how"), [(LOGITS, "flipped"), *((name, how) for name in (LOGITS, "ort-dense.json") for how in SPOILT)]
)
def test_results_that_are_spoilt_on_the_way_are_refused(repeating, pristine, tmp_path, name, how):
    spoil = {**SPOILT, "flipped": flip}[how]
    meddled = Meddled(repeating, "run", lambda place: spoil(place / name))
    with pytest.raises(UserError) as caught:
        measure_on(meddled, pristine, tmp_path / "results", networks=["dense"], rounds=2)
    told = two_lines(caught)
    assert told.startswith(f"{meddled.name}: ")
    assert name in told
    assert "measure again" in told
    assert ".arriving" not in told
    assert not list(tmp_path.glob("results/*"))
    ends_well(meddled, pristine, tmp_path / "results")
