"""What compaction removes is what has to go: by hand, and by an independent count of who reaches whom.

By hand: channels of a dense network are killed, and the compacted weights must be the dense ones with just those rows
and columns cut out. By count: torch's own backward pass over absolute weights tells which channels carry something
from the image and which the classes depend on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from compact_networks import run
from export_networks import SHAPE
from torch import Tensor, nn

from export import graph as graphs
from export.compact import Compaction, compact
from export.targets import TARGETS
from export.to_onnx import to_onnx


def exported(network: nn.Module, folder: Path) -> Path:
    to_onnx(network.eval(), folder / "a.onnx", input_shape=SHAPE, target=TARGETS["local"], metadata={})
    return folder / "a.onnx"


def weights(path: Path) -> dict[str, np.ndarray]:
    return {layer.name: layer.weight for layer in graphs.layers(graphs.read(path).graph)}


# By hand -------------------------------------------------------------------------------------------------------------


class Chain(nn.Module):
    """Three convolutions, unpadded after the first, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 7, 3, padding=1), nn.Conv2d(7, 6, 3)
        self.three, self.fc = nn.Conv2d(6, 5, 1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.three(torch.relu(self.two(torch.relu(self.one(x))))))
        return self.fc(x.mean((2, 3)))


@pytest.mark.parametrize("seed", range(6))
def test_killed_channels_are_cut_out_and_their_constants_folded(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    network = Chain()
    convolutions = [network.one, network.two, network.three]
    readers = [network.two, network.three, network.fc]
    living: list[Tensor] = []
    bias_of_reader: list[Tensor] = []
    with torch.no_grad():
        for layer, reader in zip(convolutions, readers, strict=True):
            state = torch.randint(0, 3, (layer.out_channels,))  # 0 lives, 1 is not read, 2 reads nothing
            state[0] = 0
            layer.weight[state == 2] = 0
            reader.weight[:, state == 1] = 0
        for layer, reader in zip(convolutions, readers, strict=True):
            alive = layer.weight.flatten(1).any(1) & reader.weight.transpose(0, 1).flatten(1).any(1)
            constant = torch.relu(layer.bias) * (layer.weight.flatten(1).any(1) == 0)
            summed = reader.weight.flatten(2).sum(2) if reader.weight.ndim == 4 else reader.weight
            bias_of_reader.append(reader.bias + summed @ constant)
            living.append(alive)
            reader.bias.copy_(bias_of_reader[-1])  # what the next layer's constants start from
            reader.weight[:, constant != 0] = 0
    source = exported(network, tmp_path)
    found = compact(source, tmp_path / "b.onnx")
    kept = weights(tmp_path / "b.onnx")
    held = {name: np.asarray(value.detach()) for name, value in network.state_dict().items()}
    one, two, three = (alive.numpy() for alive in living)
    assert np.array_equal(kept["one"], held["one.weight"][one])
    assert np.array_equal(kept["two"], held["two.weight"][two][:, one])
    assert np.array_equal(kept["three"], held["three.weight"][three][:, two])
    assert np.array_equal(kept["fc"], held["fc.weight"][:, three])
    assert found.removed["channels"] == sum(int((~alive).sum()) for alive in living)


@pytest.mark.parametrize("dead", [1, 3])
def test_a_constant_with_a_bias_moves_into_the_readers_bias(dead: int, tmp_path: Path) -> None:
    torch.manual_seed(dead)
    network = Chain()
    with torch.no_grad():
        network.one.weight[:dead] = 0
        network.one.bias[:dead] = torch.arange(1.0, dead + 1)
    compact(exported(network, tmp_path), tmp_path / "b.onnx")
    stored = {tensor.name: tensor for tensor in graphs.read(tmp_path / "b.onnx").graph.initializer}
    bias = np.frombuffer(stored["two.bias"].raw_data, np.float32)
    moved = network.two.weight[:, :dead].double().sum((2, 3)) @ network.one.bias[:dead].double()
    assert np.allclose(bias, (network.two.bias.double() + moved).detach().numpy(), rtol=1e-6, atol=1e-7)
    assert weights(tmp_path / "b.onnx")["two"].shape == (6, 7 - dead, 3, 3)


# By count ------------------------------------------------------------------------------------------------------------


class Sums(nn.Module):
    """Two blocks around a sum that all of them write to, without biases: constants are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.inner = nn.ModuleList(nn.Conv2d(8, 6, 3, padding=1, bias=False) for _ in range(2))
        self.outer = nn.ModuleList(nn.Conv2d(6, 8, 1, bias=False) for _ in range(2))
        self.last, self.fc = nn.Conv2d(8, 5, 1, bias=False), nn.Linear(5, 4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for inner, outer in zip(self.inner, self.outer, strict=True):
            x = torch.relu(outer(torch.relu(inner(x))) + x)
        return self.fc(torch.relu(self.last(x)).mean((2, 3)))


def needed(network: Sums) -> dict[str, Tensor]:
    """For each convolution, the channels that carry something from the image to a class."""
    outputs: dict[str, Tensor] = {}

    def watch(name: str, layer: nn.Module) -> None:
        def keep(_module: nn.Module, _given: object, output: Tensor) -> None:
            output.retain_grad()
            outputs[name] = output

        layer.register_forward_hook(keep)

    positive = Sums()
    positive.load_state_dict({name: value.abs() for name, value in network.state_dict().items()})
    for name, layer in positive.named_modules():
        if isinstance(layer, nn.Conv2d):
            watch(name, layer)
    positive(torch.ones(1, *SHAPE)).sum().backward()
    return {
        name: (value.amax((0, 2, 3)) > 0) & (value.grad.abs().amax((0, 2, 3)) > 0)  # type: ignore[union-attr]
        for name, value in outputs.items()
    }


@pytest.mark.parametrize("seed", range(25))
def test_what_stays_is_what_carries_something(seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    network = Sums()
    density = (0.05, 0.1, 0.15, 0.3, 0.5)[seed % 5]
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(torch.rand_like(value) < (density if value.ndim == 4 else 0.6))
    expected = {name: mask.clone() for name, mask in needed(network).items()}
    before = weights(exported(network, tmp_path))
    found = {layer.name: layer for layer in compact(tmp_path / "a.onnx", tmp_path / "b.onnx").layers}
    summed = [name for name in ("outer.1", "outer.0", "stem") if found[name].channels_after]
    together = torch.stack([expected[name] for name in ("outer.1", "outer.0", "stem")]).any(0)
    for name in ("inner.0", "inner.1", "last"):
        if found[name].channels_after:
            assert found[name].channels_after == max(1, int(expected[name].sum())), name
        else:
            assert not expected[name].any(), name
    assert {found[name].channels_after for name in summed} == {max(1, int(together.sum()))}
    assert all(not expected[name].any() for name in expected if not found[name].channels_after)
    given = np.random.default_rng(seed).standard_normal((2, *SHAPE)).astype(np.float32)
    one, other = (run(graphs.read(tmp_path / name), given)[0] for name in ("a.onnx", "b.onnx"))
    assert np.abs(one - other).max() <= 1e-5 * np.abs(one).max()
    assert before.keys() == found.keys()


def test_the_record_is_plain_data(tmp_path: Path) -> None:
    import json

    network = Sums()
    with torch.no_grad():
        network.stem.weight[2:] = 0
    found: Compaction = compact(exported(network, tmp_path), tmp_path / "b.onnx")
    told = json.loads(json.dumps(found.to_json()))
    assert [layer["name"] for layer in told["layers"]] == [layer.name for layer in found.layers]
    assert len(found.summary()) > 1
