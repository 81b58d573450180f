"""`[export] compact = true`: the export step writes the sparse network without its dead channels, and holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from toys import saved, small

from edgeprune import recipe as recipes
from edgeprune.pipeline import run
from edgeprune.progress import Lines
from export.examine import examine
from export.targets import TARGETS


def finished(path: Path, killed: int) -> Path:
    """`toys:small`, trained by nobody, in which so many outputs of the second convolution read nothing."""
    torch.manual_seed(0)
    model = small()
    with torch.no_grad():
        for number, value in enumerate(model.parameters()):
            value.mul_(torch.rand(value.shape) > 0.3) if value.ndim == 4 and number else None
        list(model.parameters())[3][:killed] = 0
    return saved(model, path)


def exported(tmp_path: Path, *settings: str, killed: int = 20) -> tuple[Path, dict[str, Any]]:
    checkpoint = finished(tmp_path / "finished.pt", killed)
    given = {"student": {"model": "toys:small", "checkpoint": str(checkpoint), "holds": "sparse"}}
    more = ("data.name=synthetic", "export.compact=true", "train.threads=1", *settings)
    recipe = recipes.complete({}, more, given)
    folder = run(recipe, tmp_path / "run", Lines(), until="export")["export"]
    return folder, json.loads((folder / "manifest.json").read_text())


def widths(path: Path) -> list[int]:
    tensors = onnx.load_model(path).graph.initializer
    return [tensor.dims[0] for tensor in tensors if len(numpy_helper.to_array(tensor).shape) == 4]


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert recipes.Recipe().export.compact is False
    folder, manifest = exported(tmp_path, "export.compact=false")
    assert list(manifest["networks"]) == ["sparse"]
    assert not (folder / "model.compact.onnx").exists()


def test_the_compacted_network_stands_beside_the_sparse_one(tmp_path: Path) -> None:
    folder, manifest = exported(tmp_path)
    assert list(manifest["networks"]) == ["sparse", "sparse-compact"]
    sparse, compact = manifest["networks"]["sparse"], manifest["networks"]["sparse-compact"]
    assert compact["file"] == "model.compact.onnx"
    assert (compact["network"], compact["opset"], compact["ir_version"]) == ("sparse", sparse["opset"], 8)
    assert widths(folder / "model.onnx") == [16, 32, 32]
    assert widths(folder / "model.compact.onnx") == [16, 12, 32]
    assert compact["compaction"]["removed"]["channels"] == 20
    assert compact["compaction"]["summary"][0].startswith("20 channels and ")
    assert compact["macs"] < sparse["macs"]
    assert compact["size_bytes"]["onnx"] < sparse["size_bytes"]["onnx"]
    assert compact["zeros"] == sparse["zeros"], "the counts of the pruning are those of the network before"
    assert compact["verification"]["argmax_agreement"] == 1.0
    assert compact["verification"]["max_rel_error"] < 1e-5
    told = {entry.key: entry.value for entry in onnx.load_model(folder / "model.compact.onnx").metadata_props}
    assert told["edgeprune.network"] == "sparse-compact"
    completed = json.loads((folder / "completed.json").read_text())
    assert "model.compact.onnx" in json.dumps(completed)


def test_every_precision_of_a_board_follows(tmp_path: Path) -> None:
    folder, manifest = exported(tmp_path, "export.target=jetson-orin")
    names = [f"sparse{compact}{lower}" for compact in ("", "-compact") for lower in ("", "-fp16", "-int8")]
    assert sorted(manifest["networks"]) == sorted(names)
    for name in names:
        entry = manifest["networks"][name]
        assert (folder / entry["file"]).is_file()
        assert examine(folder / entry["file"], TARGETS["jetson-orin"])
    assert widths(folder / "model.compact.fp16.onnx") == [16, 12, 32]


def test_groups_of_a_pattern_are_not_promised_of_the_compacted_file(tmp_path: Path) -> None:
    """2:4 is held over input channels, and those have moved."""
    torch.manual_seed(0)
    model = small()
    with torch.no_grad():
        for index in (3, 6):
            model[index].weight[:, ::4] = 0
            model[index].weight[:, 1::4] = 0
    checkpoint = saved(model, tmp_path / "finished.pt")
    given = {"student": {"model": "toys:small", "checkpoint": str(checkpoint), "holds": "sparse"}}
    settings = ("data.name=synthetic", "export.compact=true", "prune.pattern=2:4", "train.threads=1")
    folder = run(recipes.complete({}, settings, given), tmp_path / "run", Lines(), until="export")["export"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["networks"]["sparse"]["pattern"] == "2:4"
    assert manifest["networks"]["sparse-compact"]["pattern"] == "unstructured"
    assert "plans no layer" in examine(folder / "model.compact.onnx", None)[0]
    assert widths(folder / "model.compact.onnx") == [8, 16, 32]


def test_exporting_again_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("one", "two"))
    contents = []
    for place in (first, second):
        place.mkdir()
        folder, _ = exported(place)
        contents.append((folder / "model.compact.onnx").read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.parametrize("value", ["2", "'often'"])
def test_another_value_is_refused(value: str) -> None:
    from runtimes.errors import UserError

    with pytest.raises(UserError, match=r"export\.compact"):
        recipes.load("quickstart", [f"export.compact={value}"])


def test_the_weights_that_are_left_are_the_sparse_ones(tmp_path: Path) -> None:
    folder, _ = exported(tmp_path)
    before, after = (
        {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load_model(folder / name).graph.initializer}
        for name in ("model.onnx", "model.compact.onnx")
    )
    assert np.array_equal(after["3.weight"], before["3.weight"][20:])
