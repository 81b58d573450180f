"""A program on disk: the coding of gaps, files written whole, the same bytes again, damage told in two lines."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from program_graphs import normal
from program_reference import program_of, run_program

from export.program import read_program, write_program
from export.program.format import ARRAYS, Operation, Program
from export.program.weights import dense, stored, to_sparse
from runtimes import files
from runtimes.errors import UserError

Matrix = NDArray[np.float32]


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    """Rows that are empty, full or in between, and wide enough for gaps of several bytes."""
    rows, columns = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 9, 254, 255, 256, 257, 511, 1200]))
    at = st.tuples(st.integers(0, rows - 1), st.integers(0, columns - 1))
    weight = np.zeros((rows, columns), np.float32)
    for row, column in draw(st.lists(at, max_size=20)):
        weight[row, column] = draw(st.sampled_from([1.5, -2.0, 1e-40, np.inf, np.nan, -0.0]))
    if draw(st.booleans()):
        weight[draw(st.integers(0, rows - 1))] = 3
    return weight


def decoded(arrays: dict[str, Any], columns: int) -> Matrix:
    """The matrix, one byte after the other as the rule is written."""
    gaps, values = iter(arrays["gaps"].tolist()), iter(arrays["values"].tolist())
    weight = np.zeros((len(arrays["counts"]), columns), np.float32)
    for row, count in enumerate(arrays["counts"].tolist()):
        column = -1
        for _ in range(count):
            gap = byte = next(gaps)
            while byte == 255:
                byte = next(gaps)
                gap += byte
            column += gap + 1
            weight[row, column] = next(values)
    assert next(gaps, None) is None
    assert next(values, None) is None
    return weight


@settings(deadline=None, max_examples=200)
@given(matrices())
def test_the_sparse_form_gives_every_weight_back(weight: Matrix) -> None:
    arrays = to_sparse(weight)
    assert np.array_equal(decoded(arrays, weight.shape[1]), weight, equal_nan=True)
    assert np.array_equal(dense(arrays, weight.shape[1]), weight, equal_nan=True)


@settings(deadline=None, max_examples=200)
@given(matrices())
def test_the_smaller_form_is_stored(weight: Matrix) -> None:
    sparse, chosen = to_sparse(weight), stored(weight)
    smaller = 4 * sparse["values"].size + sparse["gaps"].size < 4 * weight.size
    assert set(chosen) == ({"values", "gaps", "counts"} if smaller else {"weight"})


@pytest.mark.parametrize(
    ("columns", "at", "gaps"),
    [
        (300, [0], [0]),
        (300, [254], [254]),
        (300, [255], [255, 0]),
        (300, [256, 257], [255, 1, 0]),
        (600, [509, 511], [255, 254, 1]),
        (600, [510], [255, 255, 0]),
    ],
)
def test_a_gap_of_255_or_more_takes_more_bytes(columns: int, at: list[int], gaps: list[int]) -> None:
    weight = np.zeros((1, columns), np.float32)
    weight[0, at] = 1
    assert to_sparse(weight)["gaps"].tolist() == gaps


def test_gaps_that_do_not_fit_the_values_are_an_error() -> None:
    arrays = to_sparse(normal(2, 4))
    for key, held in (
        ("gaps", arrays["gaps"][:-1]),
        ("values", arrays["values"][1:]),
        ("counts", arrays["counts"] + 1),
    ):
        with pytest.raises(ValueError, match=r"gaps|column"):
            dense({**arrays, key: held}, 4)
    with pytest.raises(ValueError, match="column"):
        dense({**arrays, "gaps": arrays["gaps"] + np.uint8(1)}, 4)


def program(sparse: bool = True) -> Program:
    weight = normal(4, 27)
    if sparse:
        weight[:, 1:] = 0
    window = {"kernel": [3, 3], "stride": [1, 1], "padding": [1, 1, 1, 1], "dilation": [1, 1], "groups": 1}
    conv = Operation(
        "conv",
        "/ü/Conv",
        (0,),
        1,
        {**window, "add": None, "activation": {"kind": "clip", "low": 0.0, "high": None}},
        {"bias": normal(4), **stored(weight)},
    )
    select = Operation("select", "s", (1,), 2, {}, {"channels": np.array([3, 0], np.int32)})
    return program_of([conv, select], [(3, 5, 5), (4, 5, 5), (2, 5, 5)], 0, 2)


@pytest.mark.parametrize("sparse", [True, False])
def test_a_program_is_read_as_it_was_written(sparse: bool, tmp_path: Path) -> None:
    made = program(sparse)
    written = write_program(made, tmp_path / "a.b.program.json")
    found = read_program(written.json)
    assert written.npz == tmp_path / "a.b.program.npz"
    assert json.dumps([one.attributes for one in found.operations]) == json.dumps(
        [o.attributes for o in made.operations]
    )
    assert (found.tensors, found.input, found.output, found.name) == (made.tensors, 0, 2, "made-up")
    assert [one.name for one in found.operations] == ["/ü/Conv", "s"]
    images = normal(2, 3, 5, 5)
    assert np.array_equal(run_program(found, images), run_program(made, images))


def test_the_files_hold_what_the_format_says_and_nothing_else(tmp_path: Path) -> None:
    written = write_program(program(), tmp_path / "m.program.json")
    content = json.loads(written.json.read_text(encoding="utf-8"))
    assert list(content) == [
        "schema_version", "name", "source_sha256", "edgeprune", "input", "output", "buffers", "peak_floats", "tensors",
        "operations",
    ]  # fmt: skip
    assert (content["buffers"], content["peak_floats"]) == (2, 175)
    with np.load(written.npz) as archive:
        assert set(archive.files) == {"0.bias", "0.values", "0.gaps", "0.counts", "1.channels"}
        assert all(archive[name].dtype == ARRAYS[name.split(".")[1]] for name in archive.files)


def test_the_same_program_gives_the_same_bytes(tmp_path: Path) -> None:
    written = [write_program(program(), tmp_path / folder / "m.program.json") for folder in ("one", "two")]
    assert written[0].json.read_bytes() == written[1].json.read_bytes()
    assert written[0].npz.read_bytes() == written[1].npz.read_bytes()


def test_dense_weights_are_compressed_where_that_gains_and_all_else_always(tmp_path: Path) -> None:
    noise, even = program(sparse=False), program(sparse=False)
    even.operations[0].arrays["weight"][:] = 1
    for made, method in ((noise, zipfile.ZIP_STORED), (even, zipfile.ZIP_DEFLATED)):
        written = write_program(made, tmp_path / "m.program.json")
        with zipfile.ZipFile(written.npz) as archive:
            methods = {entry.filename: entry.compress_type for entry in archive.infolist()}
        assert methods.pop("0.weight.npy") == method
        assert set(methods.values()) == {zipfile.ZIP_DEFLATED}


def test_tensors_without_a_buffer_get_one_and_given_ones_are_kept(tmp_path: Path) -> None:
    made = program()
    bare = Program("n", "0" * 64, 0, 2, tuple(type(t)(t.shape) for t in made.tensors), made.operations)
    assert [t.buffer for t in write_program(bare, tmp_path / "m.program.json").program.tensors] == [1, 0, 1]
    apart = Program(
        "n", "0" * 64, 0, 2, tuple(type(t)(t.shape, i) for i, t in enumerate(made.tensors)), made.operations
    )
    assert read_program(write_program(apart, tmp_path / "m.program.json").json).buffers == 3


def test_a_failure_leaves_what_stood_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_program(program(), tmp_path / "m.program.json")
    held = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    with pytest.raises(UserError, match="no room"):
        write_program(program(sparse=False), before.json)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == held


def test_a_name_that_is_no_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not end in \.program\.json"):
        write_program(program(), tmp_path / "m.json")


@pytest.mark.parametrize(
    "damage", ["no npz", "cut npz", "no json", "cut json", "no tensors", "other version", "a list"]
)
def test_a_damaged_program_is_told_in_two_lines(damage: str, tmp_path: Path) -> None:
    written = write_program(program(), tmp_path / "m.program.json")
    content = files.read_json(written.json)
    if damage == "no npz":
        written.npz.unlink()
    elif damage == "no json":
        written.json.unlink()
    elif damage == "cut npz":
        written.npz.write_bytes(written.npz.read_bytes()[:-40])
    elif damage == "cut json":
        written.json.write_text("{")
    else:
        changed = {"no tensors": {**content, "tensors": None}, "other version": {**content, "schema_version": 2}}
        files.write_json(written.json, changed.get(damage, [content]))
    with pytest.raises(UserError) as told:
        read_program(written.json)
    assert len(str(told.value).splitlines()) == 2
