"""A bundle goes through SSH to an ARM board and is measured there, and the board is an arm64 Debian under qemu.

Its sshd, its Python and its ONNX Runtime are programs for ARM; only the kernel is this machine's. It is emulated one
instruction at a time: what it computes is checked, how long that takes says nothing.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import sshd
from small_bundles import CLASSES, IMAGES, onnx_bundle

from devices import open_device
from devices.deploy import measure_on
from runtimes.records import Measurement

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parent.parent / "emulated_board"
TOOLS = {
    "debootstrap": "debootstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "unshare": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
PACKAGES = ("onnxruntime", "flatbuffers", "packaging", "protobuf")
STAND_IN = "emulated by qemu-aarch64"


class EmulatedBoard(sshd.Server):
    """The server of a root that `build.sh` made; its files, apart from HOME, /run and /tmp, cannot be changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        super().__init__(folder, "/usr/bin/python3", "", environment={"HOME": "/root"})

    @property
    def inside(self) -> str:
        """Where `enter.sh` shows the folder."""
        return "/mnt"

    def program(self) -> list[str]:
        """The board's own sshd."""
        return [str(SCRIPTS / "enter.sh"), str(self.root), str(self.folder), "/usr/sbin/sshd"]


def missing() -> str | None:
    if platform.machine() != "x86_64":
        return "the emulated ARM board is for x86-64 machines"
    if os.geteuid() != 0:
        return "the emulated ARM board needs root (chroot, mounts)"
    lacking = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    return f"no {', '.join(lacking)} here: apt-get install {' '.join(lacking)}" if lacking else None


def cache() -> Path:
    """EDGEPRUNE_TESTS_CACHE, or the user's cache folder."""
    named = os.environ.get("EDGEPRUNE_TESTS_CACHE")
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(named) if named else users / "edgeprune-tests"


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    requirements = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    root = cache() / f"arm64-bookworm-onnxruntime-{metadata.version('onnxruntime')}"
    built = subprocess.run(
        [str(SCRIPTS / "build.sh"), str(root), *requirements],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:]
    with EmulatedBoard(root, tmp_path_factory.mktemp("emulated-board")) as made:
        yield made


@pytest.fixture(scope="module")
def device(board):
    opened = open_device(board.url, ssh_config=board.ssh_config, python=board.python)
    yield opened
    opened.close()


class Found(NamedTuple):
    """One network's measurement and its logits."""

    measurement: Measurement
    logits: np.ndarray


@pytest.fixture(scope="module")
def measured(device, tmp_path_factory) -> dict[str, dict[str, Found]]:
    """The same bundle measured there and here: place -> file's name -> what was found."""
    folder = tmp_path_factory.mktemp("measured")
    bundle = onnx_bundle(folder)
    return {
        name: {path.stem: read(path) for path in measure_on(target, bundle, folder / name)}
        for name, target in (("board", device), ("local", open_device("local")))
    }


def read(path: Path) -> Found:
    measurement = Measurement.read(path)
    assert measurement.outputs is not None
    return Found(measurement, np.load(path.with_name(measurement.outputs["file"])))


def test_the_board_is_a_debian_for_arm(board):
    said = board.ssh("uname -m; . /etc/os-release; echo $ID $VERSION_ID; python3 -c 'import sys; print(sys.maxsize)'")
    assert said.stdout.splitlines() == ["aarch64", "debian 12", str(2**63 - 1)], said.stderr


def test_probing_it_says_that_it_is_emulated_and_that_onnx_runtime_is_there(device):
    answer = device.probe()
    assert answer["facts"]["stand_in"] == STAND_IN
    assert answer["runtimes"]["ort"]["version"] == metadata.version("onnxruntime")


def test_the_networks_answer_there_as_they_do_here(measured):
    """Two implementations of the same arithmetic: NEON's, emulated, against AVX's."""
    assert set(measured["board"]) == set(measured["local"]) == {"ort-dense", "ort-sparse"}
    for name, there in measured["board"].items():
        here = measured["local"][name]
        assert there.logits.shape == (IMAGES, CLASSES)
        np.testing.assert_allclose(there.logits, here.logits, rtol=1e-4, atol=1e-4)
        assert np.ptp(here.logits, axis=1).min() > 0.01, "the answers differ from class to class"
        assert (there.logits.argmax(axis=1) == here.logits.argmax(axis=1)).all()
        assert there.measurement.network_sha256 == here.measurement.network_sha256


def test_its_measurements_say_that_they_are_emulated_and_this_machines_do_not(measured):
    for place, said in (("board", STAND_IN), ("local", None)):
        for measurement, _ in measured[place].values():
            assert measurement.facts["stand_in"] == said
            assert ("stand_in" in {doubt.code for doubt in measurement.warnings}) == (said is not None)
            assert measurement.latency_ns


def test_nothing_runs_there_afterwards_and_the_root_is_untouched(board, device, measured):
    device.close()
    assert not [line for line in board.commands().values() if "runtimes" in line]
    assert "Read-only file system" in board.ssh("touch /usr/bin/here").stderr
    assert not (board.root / "root/.cache/edgeprune").exists()
