"""What a device says it measured is somebody else's text: it is held against what a measurement of ours is."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_local import null_bundle

from devices.answers import read_probe
from devices.deploy import measure_on
from devices.local import Local
from devices.protocol import Finished
from runtimes.errors import UserError
from runtimes.records import Measurement, Workload


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

    if not (folder / "logits-null-dense.npy").exists():
        np.save(folder / "logits-null-dense.npy", np.zeros((5, 2), dtype=np.float32))
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


def with_logits(write: Callable[[Path], object]) -> Callable[[Path], None]:
    """Logits of another kind, with their own hash."""

    def spoil(folder: Path) -> None:
        write(folder / "logits-null-dense.npy")
        has_logits(folder)

    return spoil


def says(**fields: object) -> Callable[[Path], None]:
    """A measurement in which these fields are others."""

    def change(folder: Path) -> None:
        path = folder / "null-dense.json"
        document = json.loads(path.read_text())
        for name, value in fields.items():
            where, _, key = name.partition("__")
            document[where] = {**document[where], key: value} if key else value
        path.write_text(json.dumps(document))

    return spoilt(change)


def pickled(path: Path) -> None:
    np.save(path, np.array([[path, path]] * 5, dtype=object), allow_pickle=True)


def promises_more(path: Path) -> None:
    np.save(path, np.zeros((5, 2), dtype=np.float32))
    path.write_bytes(path.read_bytes().replace(b"(5, 2)", b"(5, 9)"))


def several(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros((5, 2), dtype=np.float32))


def copied(folder: Path) -> None:
    shutil.copy(folder / "null-dense.json", folder / "null-other.json")


SPOILS = {
    "logits that were changed": spoilt(lambda folder: (folder / "logits-null-dense.npy").write_bytes(b"others")),
    "a measurement under another name": spoilt(copied),
    "depth without end": spoilt(lambda folder: (folder / "null-dense.json").write_text("[" * 200_000)),
    "another schema": spoilt(lambda folder: (folder / "null-dense.json").write_text('{"kind": "x"}')),
    "no text": spoilt(lambda folder: (folder / "null-dense.json").write_bytes(b"\xff\xfe")),
    "half a document": spoilt(lambda folder: (folder / "null-dense.json").write_text('{"kind": "measu')),
    "a number without end": says(n=10**400),
    "a protocol that leads out": says(protocol="../../x", workload__protocol="../../x"),
    "a protocol that its workload has not": says(protocol="../../x"),
    "processors that lead out": says(workload__cpus=["../../x"]),
    "a power mode that is none": says(settings={"power_mode": {"asked": ["../../x"]}}),
    "logits that are a pickle": with_logits(pickled),
    "logits of another kind": with_logits(lambda path: np.save(path, np.zeros((5, 2)))),
    "logits of another form": with_logits(lambda path: np.save(path, np.zeros(10, dtype=np.float32))),
    "logits that promise more": with_logits(promises_more),
    "logits that are several": with_logits(several),
    "logits that are no array": with_logits(lambda path: path.write_bytes(b"logits")),
    "no logits": with_logits(Path.touch),
}


@pytest.mark.parametrize("what", SPOILS)
def test_a_file_that_is_no_measurement_is_refused_and_leaves_nothing(bundle, tmp_path, lying, what):
    names = {"measurements": ["null-other.json" if "another name" in what else "null-dense.json"]}
    names["outputs"] = ["logits-null-dense.npy"]
    device = lying(lambda answer: {**answer, **names}, SPOILS[what])
    with pytest.raises(UserError) as caught:
        measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    assert not list((tmp_path / "results").glob("*"))
    assert caught.value.message.startswith(("local: null-dense.json", "local: null-other.json", "local: logits-null-"))
    assert caught.value.hint == "measure again"
    assert str(tmp_path) not in str(caught.value), "where it lay in between is nobody's business"


def test_the_same_files_unspoilt_are_taken(bundle, tmp_path, lying):
    device = lying(lambda answer: {**answer, "outputs": ["logits-null-dense.npy"]}, has_logits)
    measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "logits-null-dense.npy",
        "null-dense.json",
    ]


def test_a_measurement_cannot_write_to_the_terminal(bundle, tmp_path, lying):
    odd = says(runtime_version="1\x1b[2J", warnings=[{"code": "x", "message": "one\x9b1m"}])
    device = lying(lambda answer: {**answer, "outputs": ["logits-null-dense.npy"]}, odd)
    (path,) = measure_on(device, bundle, tmp_path / "results", networks=["dense"])
    found = Measurement.read(path)
    assert (found.runtime_version, found.warnings[0].message) == ("1?[2J", "one?1m")


GOOD_PROBE = {"facts": {}, "runtimes": {}, "needs": []}
NEED = {"what": "numpy", "fine": True, "found": "2.0", "needed": True, "fix": None}


@pytest.mark.parametrize(
    "answer",
    [
        {**GOOD_PROBE, "needs": None},
        {**GOOD_PROBE, "needs": ["numpy"]},
        {**GOOD_PROBE, "needs": [{**NEED, "fine": "yes"}]},
        {"facts": {}, "runtimes": {}},
        {**GOOD_PROBE, "facts": [10**400]},
    ],
)
def test_a_probe_that_is_none_is_refused(answer):
    with pytest.raises(UserError):
        read_probe("board", Finished(0, json.dumps(answer), ""))


def test_a_probe_cannot_write_to_the_terminal():
    told = {**GOOD_PROBE, "needs": [{**NEED, "found": "\x1b[2Jfine"}]}
    assert read_probe("board", Finished(0, json.dumps(told), ""))["needs"][0]["found"] == "?[2Jfine"


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
