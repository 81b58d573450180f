"""The networks that are timed: which weights are zero, how many, and that the file answers what torch does."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from toys import Toy

from edgeprune.benching.asked import Asked, check_out, cpus_of, pythons_of, workload_of
from edgeprune.benching.subjects import apply_masks, maskable, network, preprocess, subjects, write_images
from edgeprune.models import build
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes import RUNTIMES
from runtimes.errors import UserError
from runtimes.tables import resolve


def answers(path: Path, images: np.ndarray) -> np.ndarray:
    engine = resolve(RUNTIMES["ort"]).load(path, {"threads": "1"})
    found: np.ndarray = engine.run(images)
    engine.close()
    return found


def test_stem_classifier_and_depthwise_layers_stay_dense() -> None:
    assert list(maskable(Toy(), "all")) == ["conv", "grouped", "pointwise", "hidden"]
    assert list(maskable(Toy(), "pointwise")) == ["pointwise"]


def test_what_is_masked_in_mobilenet_v2_is_all_pointwise() -> None:
    model = build("mobilenet_v2", classes=10, channels=3)
    found = maskable(model, "all")
    assert found == maskable(model, "pointwise")
    assert len(found) == 34  # 17 blocks of two, the first of which has one, and the last convolution
    assert all(isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1) for part in found.values())


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.98])
def test_each_masked_layer_loses_its_share_and_keeps_its_answers_variance(sparsity: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 128, 3), nn.Flatten(), nn.Linear(128 * 36, 2))
    before = {name: part.weight.detach().clone() for name, part in model.named_modules() if hasattr(part, "weight")}
    apply_masks(model, sparsity, "all")
    for name in ("0", "3"):
        assert torch.equal(model.get_parameter(f"{name}.weight"), before[name])
    weight = model.get_parameter("1.weight").detach()
    assert int((weight == 0).sum()) == round(sparsity * weight.numel())
    kept = weight != 0
    torch.testing.assert_close(weight[kept], before["1"][kept] / (1 - sparsity) ** 0.5)
    assert float(weight.square().sum() / before["1"].square().sum()) == pytest.approx(1.0, rel=0.05)


def test_the_files_answer_what_torch_does_whatever_their_opset(tmp_path: Path) -> None:
    asked = Asked("resnet20-cifar", (0.9,), seed=3)
    found = subjects(asked, tmp_path)
    assert [subject.sparsity for subject in found] == [0.0, 0.9]
    stored, n = write_images(found[0], asked, tmp_path)
    images = np.load(stored)
    assert images.shape == (n, 32, 32, 3)
    x = np.ascontiguousarray(((images / 255 - 0.5) / 0.25).transpose(0, 3, 1, 2).astype(np.float32))
    for subject in found:
        model, shape = network(asked, subject.sparsity)
        with torch.no_grad():
            expected = model(torch.from_numpy(x)).numpy()
        newer = tmp_path / "newer.onnx"
        target = dataclasses.replace(TARGETS["local"], opset=17, ir_version=8)
        to_onnx(model, newer, input_shape=shape, target=target, metadata={})
        for path in (subject.path, newer):
            assert np.abs(answers(path, x) - expected).max() <= 1e-4 * np.abs(expected).max()
        assert 0.1 < expected.std(axis=0).mean() < 100, "activations neither died out nor grew without end"


def test_zeros_and_multiply_adds_are_those_of_the_file(tmp_path: Path) -> None:
    dense, sparse = subjects(Asked("digits-cnn", (0.9,)), tmp_path)
    model = build("digits-cnn", classes=10, channels=1)
    masked = sum(part.weight.numel() for part in maskable(model, "all").values())
    total = sum(part.weight.numel() for part in model.modules() if isinstance(part, nn.Conv2d | nn.Linear))
    assert dense.zeros == 0.0
    assert dense.nonzero_macs == dense.macs == sparse.macs
    assert sparse.zeros == pytest.approx(0.9 * masked / total, abs=1e-4)
    assert sparse.nonzero_macs < 0.2 * sparse.macs


def test_equal_seeds_give_equal_files_and_others_do_not(tmp_path: Path) -> None:
    contents = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents.append([s.path.read_bytes() for s in subjects(Asked("digits-cnn", (0.5,), seed=seed), folder)])
    assert contents[0] == contents[1]
    assert all(one != other for one, other in zip(contents[0], contents[2], strict=True))


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = subjects(Asked("digits-cnn", (0.9,)), tmp_path)[1].path
    (found,) = subjects(Asked(str(path)), tmp_path)
    assert found.path == path
    assert found.sparsity == found.zeros > 0.8
    with pytest.raises(UserError, match="with its own zeros"):
        subjects(Asked(str(path), (0.5,)), tmp_path)
    with pytest.raises(UserError, match="is not a whole ONNX file"):
        subjects(Asked(str(tmp_path / "gone.onnx")), tmp_path)


def test_images_have_the_networks_shape_and_fill_whole_batches(tmp_path: Path) -> None:
    asked = Asked("digits-cnn", workload=workload_of("quick", {"passes": 3, "rounds": None}, 1, 3, (), None))
    path, n = write_images(subjects(asked, tmp_path)[0], asked, tmp_path)
    assert np.load(path).shape == (n, 8, 8, 1)
    assert n % 3 == 0
    assert preprocess(1) == {"scale": 1 / 255, "mean": [0.5], "std": [0.25]}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"sparsities": (1.0,)}, "not from 0 to below 1"),
        ({"sparsities": (90.0,)}, "not from 0 to below 1"),
        ({"pattern": "blocks"}, "unknown pattern 'blocks'"),
        ({"runtimes": ("onnx",)}, "unknown runtime 'onnx'"),
        ({"runtimes": ("trt",)}, "builds engines of its own"),
        ({"pythons": {"deepspars": "python3"}}, "unknown runtime 'deepspars'"),
        ({"pythons": {"null": "python3"}}, "an interpreter for null, which is not measured"),
        ({"runtimes": ("ort",), "pythons": {"openvino": "x"}}, "an interpreter for openvino, which is not measured"),
    ],
)
def test_what_cannot_be_asked_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Asked("digits-cnn", **wrong)  # type: ignore[arg-type]


def test_words_of_the_command_line_are_read() -> None:
    assert pythons_of(["a=x/python", "b=y=z"]) == {"a": "x/python", "b": "y=z"}
    assert cpus_of("0-2,5") == [0, 1, 2, 5]
    assert cpus_of(None) == []
    for wrong in ("python3", "=python3", "ort="):
        with pytest.raises(UserError, match="does not say whose it is"):
            pythons_of([wrong])
    for wrong in ("one", "", "3-"):
        with pytest.raises(UserError, match="no list of processors"):
            cpus_of(wrong)


def test_the_reference_is_always_among_the_runtimes() -> None:
    assert Asked("x", runtimes=("null",)).wanted == ("null", "ort")
    assert set(Asked("x").wanted) == {"sparse_cpu", "ort", "openvino", "deepsparse"}


def test_where_the_document_goes_is_tried_before_anything_is_timed(tmp_path: Path) -> None:
    check_out(None)
    kept = tmp_path / "kept.json"
    kept.write_text("before")
    check_out(kept)
    check_out(tmp_path / "new" / "bench.json")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept.json", "new"]
    assert kept.read_text() == "before"
    with pytest.raises(UserError, match="is a folder"):
        check_out(tmp_path)
    with pytest.raises(UserError, match="cannot be written"):
        check_out(kept / "bench.json")
