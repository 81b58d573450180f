"""What an old TensorRT's parser does not know is told before a board finds out."""

from __future__ import annotations

from pathlib import Path

import pytest
from export_graphs import graph
from export_networks import SHAPE, Residual, trained
from onnx import ModelProto, TensorProto, helper
from torch import nn

from export import graph as graphs
from export.readable import unread_operators
from export.targets import TARGETS
from export.to_onnx import to_onnx


def exported(network: nn.Module, folder: Path) -> ModelProto:
    to_onnx(network, folder / "m.onnx", input_shape=SHAPE, target=TARGETS["jetson-orin"], metadata={})
    return graphs.read(folder / "m.onnx")


class Normalized(nn.Module):
    """A layer normalization, as transformers and ConvNeXt have it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(64), nn.Linear(64, 5)

    def forward(self, images):  # type: ignore[no-untyped-def]
        return self.fc(self.norm(images[:, 0].flatten(1)))


def test_a_layer_normalization_came_with_8_6(tmp_path: Path) -> None:
    """It is in opset 17, and torch's exporter writes it; operators.md of the branch 8.5-GA has an N beside it."""
    model = exported(Normalized(), tmp_path)
    assert "LayerNormalization" in {node.op_type for node in model.graph.node}
    for name in ("jetson-orin", "jetson-xavier-nx", "jetson-orin-nano", "workstation-gpu"):
        assert unread_operators(model, TARGETS[name]) == {"LayerNormalization": "8.6"}
    for name in ("jetson-thor", "rtx-pc", "raspberry-pi-5"):
        assert unread_operators(model, TARGETS[name]) == {}


def test_a_plain_network_is_read_everywhere(tmp_path: Path) -> None:
    model = exported(trained(Residual), tmp_path)
    assert all(unread_operators(model, target) == {} for target in TARGETS.values())


@pytest.mark.parametrize("domain", ["", "com.example"])
def test_branches_are_looked_into_and_operators_of_others_are_not_meant(domain: str) -> None:
    inner = helper.make_node("Mish", ["x"], ["m"], domain=domain)
    branch = helper.make_graph([inner], "b", [], [helper.make_tensor_value_info("m", TensorProto.FLOAT, None)])
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    found = unread_operators(graph([choice], [], x=[1, 4], c=[]), TARGETS["jetson-orin"])
    assert found == ({} if domain else {"Mish": "10.0"})
