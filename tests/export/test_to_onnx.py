from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, Residual, trained
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from export import graph as graphs
from export.adaptive_pool import SeparatePool
from export.targets import TARGETS
from export.to_onnx import check_versions, to_onnx
from runtimes.errors import UserError
from runtimes.files import sha256

LOCAL = TARGETS["local"]


def export(module: nn.Module, path: Path, **changed: object) -> onnx.ModelProto:
    given = {"input_shape": SHAPE, "target": LOCAL, "metadata": {}} | changed
    to_onnx(module, path, **given)
    return onnx.load(path)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_computes_what_torch_computes(name: str, tmp_path: Path) -> None:
    network = trained(NETWORKS[name])
    model = export(network, tmp_path / "m.onnx")
    for n in (1, 3):
        images = torch.randn(n, *SHAPE)
        found = ReferenceEvaluator(model).run(["logits"], {"input": images.numpy()})[0]
        np.testing.assert_allclose(found, network(images).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_weight_is_found_by_its_torch_name(name: str, tmp_path: Path) -> None:
    network = trained(NETWORKS[name])
    layers = {layer.name: layer for layer in graphs.layers(export(network, tmp_path / "m.onnx").graph)}
    expected = {key.removesuffix(".weight"): value.shape for key, value in network.named_parameters() if value.ndim > 1}
    assert {name: layer.weight.shape for name, layer in layers.items()} == expected


def test_opset_ir_inputs_and_outputs_are_what_was_asked_for(tmp_path: Path) -> None:
    exported = to_onnx(trained(Residual), tmp_path / "m.onnx", input_shape=SHAPE, target=LOCAL, metadata={})
    model = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    assert (exported.opset, exported.ir_version, exported.sha256) == (17, 8, sha256(exported.path))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    (given,), (result,) = model.graph.input, model.graph.output
    sizes = [[dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in (given, result)]
    assert (given.name, result.name, sizes) == ("input", "logits", [["batch", 3, 8, 8], ["batch", 5]])
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_only_our_metadata_remains(tmp_path: Path) -> None:
    model = export(trained(Residual), tmp_path / "m.onnx", metadata={"pattern": "2:4", "mask": "ab"})
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [
        ("edgeprune.mask", "ab"),
        ("edgeprune.pattern", "2:4"),
    ]
    assert (model.producer_name, model.producer_version, model.doc_string) == ("edgeprune", "", "")
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)
    assert str(Path.cwd()).encode() not in (tmp_path / "m.onnx").read_bytes()
    assert b"torch" not in (tmp_path / "m.onnx").read_bytes()


def test_equal_input_gives_equal_bytes_in_this_process_and_in_another(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from export_networks import SHAPE, Residual, trained\n"
        "from export.targets import TARGETS; from export.to_onnx import to_onnx\n"
        "to_onnx(trained(Residual), Path(sys.argv[1]), input_shape=SHAPE, target=TARGETS['local'],"
        " metadata={'b': '1', 'a': '2'})"
    )
    here = str(Path(__file__).parent)
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path / "other.onnx", here])
    for name, metadata in (("one", {"a": "2", "b": "1"}), ("two", {"b": "1", "a": "2"})):
        export(trained(Residual), tmp_path / f"{name}.onnx", metadata=metadata)
    assert other.wait() == 0
    assert len({sha256(tmp_path / f"{name}.onnx") for name in ("one", "two", "other")}) == 1


def test_the_users_module_stays_as_it_was(tmp_path: Path) -> None:
    network = trained(Residual).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, tmp_path / "m.onnx")
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_nothing_is_said_on_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export(trained(Residual), tmp_path / "m.onnx")
    with pytest.raises(UserError):
        export(Unexportable(), tmp_path / "n.onnx")
    assert capfd.readouterr() == ("", "")


class Unexportable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.special.i0e(images).mean((2, 3))


class BatchStatistics(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.BatchNorm2d(3, track_running_stats=False), nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Detections(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"out": images.mean((2, 3))}


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [
        (Unexportable(), SHAPE, "aten::special_i0e"),
        (BatchStatistics(), SHAPE, "torch cannot export BatchStatistics"),
        (Detections(), SHAPE, "gives a dict"),
        (nn.Conv2d(3, 4, 3), SHAPE, "(2, 4, 6, 6)"),
        (nn.Linear(5, 5), SHAPE, "cannot take an input of shape (2, 3, 8, 8)"),
    ],
)
def test_what_cannot_be_exported_is_named(
    module: nn.Module, shape: tuple[int, int, int], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        export(module, tmp_path / "m.onnx", input_shape=shape)
    assert said in caught.value.message
    assert "\n" not in caught.value.message + caught.value.hint
    assert not list(tmp_path.iterdir())


def test_torchs_own_masks_are_baked_in(tmp_path: Path) -> None:
    network = trained(Residual)
    prune.l1_unstructured(network.conv2, "weight", 0.5)
    parametrize.register_parametrization(network.fc, "weight", nn.Threshold(0.0, 0.0))
    layers = {layer.name: layer.weight for layer in graphs.layers(export(network, tmp_path / "m.onnx").graph)}
    assert np.count_nonzero(layers["conv2"]) == 288
    assert layers["fc"].min() == 0
    assert prune.is_pruned(network.conv2)
    assert parametrize.is_parametrized(network.fc)


def test_a_file_for_another_target_is_refused(tmp_path: Path) -> None:
    model = export(trained(Residual), tmp_path / "m.onnx")
    model.opset_import[0].version = 18
    with pytest.raises(UserError, match="opset"):
        check_versions(model, LOCAL, tmp_path / "m.onnx")


@pytest.mark.parametrize(("size", "cells"), [(1, 7), (4, 7), (5, 3), (6, 3), (7, 7)])
def test_separate_pooling_equals_torchs(size: int, cells: int) -> None:
    images = torch.randn(2, 3, size, size + 1)
    expected = nn.functional.adaptive_avg_pool2d(images, cells)
    torch.testing.assert_close(SeparatePool((cells, cells))(images), expected)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_every_target_takes_a_file(target, tmp_path: Path) -> None:
    exported = to_onnx(trained(Residual), tmp_path / "m.onnx", input_shape=SHAPE, target=target, metadata={})
    assert (exported.opset, exported.ir_version) == (target.opset, target.ir_version)
    assert target.opset <= 17
    assert target.ir_version <= 10
    assert target.note
    assert target.sources
