"""What the bundle of two runs' networks takes from each of them."""

from pathlib import Path
from typing import Any

import pytest

from edgeprune import head_to_head
from edgeprune.head_to_head import _Side
from edgeprune.rundir import RunDir
from export.bundle import NetworkFile

OURS = "libraries/x86_64-linux-gnu/libedgeprune_sparse.so"


def side(folder: Path, **manifest: Any) -> _Side:
    return _Side(RunDir(folder), folder / "model.onnx", {}, folder, manifest)


@pytest.mark.parametrize(
    ("runtimes", "have_programs", "expected"),
    [
        (["ort", "sparse_cpu"], (True, True), ["ort", "sparse_cpu"]),
        (["ort", "sparse_cpu"], (True, False), ["ort"]),
        (["sparse_cpu"], (True, False), ["sparse_cpu"]),
        (["trt"], (False, False), ["trt"]),
    ],
)
def test_sparse_cpu_is_left_out_where_one_side_has_no_program(
    runtimes: list[str], have_programs: tuple[bool, bool], expected: list[str], tmp_path: Path
) -> None:
    files = {
        name: NetworkFile(tmp_path / f"{name}.onnx", "fp32", (tmp_path,) if has else ())
        for name, has in zip("ab", have_programs, strict=True)
    }
    assert head_to_head._runtimes(side(tmp_path, runtimes=runtimes), files) == expected


def test_only_libraries_that_a_manifest_lists_are_taken_over(tmp_path: Path) -> None:
    for name in (OURS, "libraries/aarch64-linux-gnu/libedgeprune_sparse.so"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"a library")
    found = head_to_head._libraries(side(tmp_path, files={OURS: "00", "model.onnx": "11"}))
    assert found == {"x86_64-linux-gnu": tmp_path / OURS}
