"""`edgeprune plan` as it is called: by file, by name, by factory, by run folder; and what is no model in two lines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from toys import small, toy

from edgeprune.recipe import complete, to_toml
from export.targets import TARGETS
from export.to_onnx import to_onnx

Edgeprune = Callable[..., tuple[int, str, str]]

SHAPE = (3, 8, 8)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a current folder of its own, and nothing can be fetched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("it downloads weights"))
    return tmp_path


def written(path: Path, network: torch.nn.Module | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    to_onnx(network or small(), path, input_shape=SHAPE, target=TARGETS["local"], metadata={})
    return path


def planned(answer: tuple[int, str, str]) -> dict[str, Any]:
    code, out, err = answer
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def names(told: dict[str, Any]) -> list[str]:
    return [layer["name"] for layer in told["layers"]]


def run_folder(folder: Path) -> Path:
    folder.mkdir()
    recipe = complete({"data": {"name": "synthetic"}, "student": {"model": "toys:small"}})
    (folder / "recipe.toml").write_text(to_toml(recipe))
    return folder


SMALL = ["0", "3", "6", "11"]  # its layers, by torch's names
TOY = ["stem", "conv", "depthwise", "grouped", "pointwise", "hidden", "head"]


@pytest.mark.parametrize("where", ["m.onnx", "run"])
def test_a_plan_of_a_file_needs_no_torch(where: str, here: Path) -> None:
    """A fresh interpreter, as at the command line; so does that of a run that is exported."""
    run_folder(here / "run")
    written(here / "m.onnx")
    written(here / "run" / "3-export" / "model.onnx")
    code = "import sys; from edgeprune import cli; cli.app(standalone_mode=False); print(*sys.modules, file=sys.stderr)"
    command = [sys.executable, "-c", code, "plan", where, "--target", "jetson-orin", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert {"torch", "torchvision", "onnxruntime"}.isdisjoint(answer.stderr.split())
    assert "onnx" in answer.stderr.split()
    assert names(json.loads(answer.stdout)) == SMALL


def test_a_file_its_module_and_a_run_have_the_same_plan(here: Path, edgeprune: Edgeprune) -> None:
    run_folder(here / "run")
    fresh = planned(edgeprune("plan", "run", "--target", "jetson-orin", "--json"))  # nothing is exported yet
    written(here / "run" / "3-export" / "dense.onnx")
    dense = planned(edgeprune("plan", "run", "--target", "jetson-orin", "--json"))
    factory = planned(edgeprune("plan", "toys:small", "--target", "jetson-orin", "--json", "--image-size", "8"))
    assert names(fresh) == SMALL
    assert fresh["layers"] == dense["layers"]
    assert factory["layers"][-1]["shape"] == [1000, 32]  # ImageNet's classes, where nothing says otherwise
    for one, other in zip(factory["layers"][:-1], dense["layers"][:-1], strict=True):
        assert (one["shape"], one["macs"]) == (other["shape"], other["macs"])
    written(here / "run" / "3-export" / "model.onnx", toy())
    assert names(planned(edgeprune("plan", "run", "--target", "jetson-orin", "--json"))) == TOY


@pytest.mark.parametrize(
    ("name", "layers", "macs"),
    [
        ("digits-cnn", 7, 7_687_424),  # 7.7 million, as its line in MODELS says
        ("resnet20-cifar", 20, 40_551_040),  # 40.55 million in the literature, with shortcuts that have no weights
        ("squeezenet1_1", 26, 349_151_936),
        ("mobilenet_v2", 53, 300_774_272),
    ],
)
def test_a_name_is_planned_with_random_weights(name: str, layers: int, macs: int, edgeprune: Edgeprune) -> None:
    told = planned(edgeprune("plan", name, "--target", "jetson-orin-nano", "--json"))
    assert (told["model"], told["target"], told["tensorrt"]) == (name, "jetson-orin-nano", "10.16")
    assert (len(told["layers"]), told["macs"]) == (layers, macs)
    needed = {"name", "kind", "eligible", "worth_it", "reason"}
    assert all(needed <= set(layer) for layer in told["layers"])
    assert all(layer["reason"] for layer in told["layers"] if not (layer["eligible"] and layer["worth_it"]))


def test_the_image_size_and_the_release_are_heard(edgeprune: Edgeprune) -> None:
    usual = planned(edgeprune("plan", "squeezenet1_1", "--target", "jetson-orin", "--json"))
    half = planned(edgeprune("plan", "squeezenet1_1", "--target", "jetson-orin", "--json", "--image-size", "112"))
    assert 3.5 < usual["macs"] / half["macs"] < 4.5
    assert (usual["image_shape"], half["image_shape"]) == ([3, 224, 224], [3, 112, 112])
    old = planned(edgeprune("plan", "digits-cnn", "--target", "jetson-orin", "--json", "--tensorrt", "8.5.2"))
    assert old["tensorrt"] == "8.5"


def test_the_text_tells_the_layers_and_the_advice_and_out_keeps_the_json(here: Path, edgeprune: Edgeprune) -> None:
    written(here / "m.onnx", toy())
    code, out, _ = edgeprune("plan", "m.onnx", "--target", "jetson-orin", "--out", "plans/m.json")
    assert code == 0
    assert all(f"\n{name} " in out for name in TOY)
    assert "depthwise: each output reads one channel" in out
    assert "No layer here is large enough for 2:4" in out
    told = planned(edgeprune("plan", "m.onnx", "--target", "jetson-orin", "--json"))
    assert json.loads((here / "plans" / "m.json").read_text()) == told
    assert sum(layer["share"] for layer in told["layers"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.onnx"], "nowhere.onnx is missing"),
        (["half.onnx"], "half.onnx is not a whole ONNX model"),
        (["photo.png"], "photo.png is not a whole ONNX model"),
        (["resnet19"], "unknown model 'resnet19'"),
        (["photos"], "photos is not a run folder"),
        (["toys:nothing"], "'toys' has no factory 'nothing'"),
        (["toys:large"], "cannot take an image of 3 x 224 x 224"),
        (["whole.onnx", "--target", "jetson-orion"], "unknown target 'jetson-orion'"),
        (["whole.onnx", "--target", "jetson-xavier-nx", "--tensorrt", "10.3"], "does not come with TensorRT 10.3"),
        (["whole.onnx", "--tensorrt", "ten"], "'ten' is no release"),
        (["whole.onnx", "--image-size", "64"], "whole.onnx leaves no size of its images open"),
        (["run", "--image-size", "64"], "the data of the run run decide the size of its images"),
    ],
)
def test_what_cannot_be_planned_is_told_in_two_lines(
    arguments: list[str], words: str, here: Path, edgeprune: Edgeprune
) -> None:
    whole = written(here / "whole.onnx").read_bytes()
    (here / "half.onnx").write_bytes(whole[: len(whole) // 2])
    (here / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (here / "photos").mkdir()
    run_folder(here / "run")
    target = [] if "--target" in arguments else ["--target", "jetson-orin"]
    code, out, err = edgeprune("plan", *arguments, *target)
    lines = err.splitlines()
    assert (code, out, len(lines)) == (2, "", 2), err
    assert lines[0].startswith("error: ")
    assert words in lines[0]
    assert lines[1].startswith("hint: ")
    assert len(lines[1]) > 10
