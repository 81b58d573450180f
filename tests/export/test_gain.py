"""What is told with the files where a target's runtime makes nothing of their zeros, or cannot read them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
from torch import nn

from export.plan.gain import doubts
from export.targets import TARGETS
from export.to_onnx import to_onnx


@pytest.mark.parametrize(
    ("target", "layers", "masked", "says"),
    [
        ("jetson-orin", ["large"], True, None),
        ("jetson-orin", ["large", "small"], True, None),
        ("jetson-orin", ["small"], True, "none of the 2:4 layers is large enough"),
        ("jetson-orin", [], True, "unstructured"),
        ("jetson-orin", [], False, None),
        ("jetson-xavier-nx", ["large"], True, "no sparse tensor cores"),
        ("raspberry-pi-5", [], True, None),
    ],
)
def test_who_gains_nothing_from_the_zeros_is_told(
    target: str, layers: list[str], masked: bool, says: str | None, tmp_path: Path
) -> None:
    names = {"small": nn.Conv2d(4, 8, 3, padding=1), "large": nn.Conv2d(8, 256, 6, padding=1)}
    network = nn.Sequential(OrderedDict([*names.items(), ("pool", nn.AdaptiveAvgPool2d(1)), ("flat", nn.Flatten())]))
    to_onnx(network, tmp_path / "n.onnx", input_shape=(4, 8, 8), target=TARGETS[target], metadata={})
    found = doubts(tmp_path / "n.onnx", TARGETS[target], layers, masked=masked)
    assert len(found) == (says is not None)
    assert says is None or says in found[0]


def test_an_operator_that_the_oldest_release_does_not_parse_is_told(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 8))
    to_onnx(network, tmp_path / "n.onnx", input_shape=(1, 8, 8), target=TARGETS["jetson-orin"], metadata={})
    (told,) = doubts(tmp_path / "n.onnx", TARGETS["jetson-xavier-nx"], [], masked=False)
    assert "TensorRT 8.5" in told
    assert "LayerNormalization (from 8.6 on)" in told
    assert doubts(tmp_path / "n.onnx", TARGETS["jetson-thor"], [], masked=False) == []
