"""Whole classifiers as programs, held against ONNX Runtime: the small ones always, the rest with `-m slow`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
import torchvision
from program_graphs import compared, normal
from torch import nn

from edgeprune.models import build
from export.precisions.quantize import quantize, quantized_values
from export.precisions.to_fp16 import to_fp16
from export.program import to_program
from export.program.format import Program
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError

OWN = {"digits-cnn": (1, 8, 8), "resnet20-cifar": (3, 32, 32)}
SMALL = {"mobilenet_v2": 64, "mobilenet_v3_small": 64, "shufflenet_v2_x0_5": 32, "squeezenet1_1": 40}
SLOW = {
    "resnet18": 64,
    "resnet50": 75,
    "vgg11_bn": 32,  # its pool makes one pixel 7 x 7
    "vgg16": 64,  # its pool makes 2 x 2 pixels 7 x 7
    "mobilenet_v3_large": 96,
    "efficientnet_b0": 96,
    "shufflenet_v2_x1_0": 75,
    "alexnet": 75,
    "densenet121": 64,
    "googlenet": 64,
    "regnet_y_400mf": 64,
    "mnasnet0_5": 64,
}


def ready(made: nn.Module, kept: float = 1.0) -> nn.Module:
    """A network with statistics as after training, and so many of its weights."""
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.2)
        elif isinstance(part, nn.Conv2d | nn.Linear) and kept < 1:
            with torch.no_grad():
                part.weight.mul_(torch.rand(part.weight.shape) < kept)
    return made.eval()


def of_torchvision(name: str) -> nn.Module:
    torch.manual_seed(0)
    extra = {"init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, num_classes=10, **extra)


def exported(made: nn.Module, shape: tuple[int, int, int], folder: Path) -> Path:
    path = folder / "m.onnx"
    to_onnx(made, path, input_shape=shape, target=TARGETS["local"], metadata={})
    return path


def check(made: nn.Module, shape: tuple[int, int, int], folder: Path) -> Program:
    return compared(exported(ready(made), shape, folder), normal(2, *shape))


def count(program: Program) -> Counter[str]:
    return Counter(one.op for one in program.operations)


@pytest.mark.parametrize("name", OWN)
def test_our_own_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = check(build(name, classes=10, channels=OWN[name][0]), OWN[name], tmp_path)
    assert not count(program).keys() - {"conv", "max_pool", "global_average", "linear"}


@pytest.mark.parametrize("name", SMALL)
def test_small_classifiers(name: str, tmp_path: Path) -> None:
    program = check(of_torchvision(name), (3, SMALL[name], SMALL[name]), tmp_path)
    assert not count(program).keys() & {"affine", "activate", "add", "pad"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_all_kinds_of_classifiers(name: str, tmp_path: Path) -> None:
    check(of_torchvision(name), (3, SLOW[name], SLOW[name]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18-cifar", "resnet50-cifar"])
def test_our_own_large_networks(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    check(build(name, classes=10, channels=3), (3, 32, 32), tmp_path)


@pytest.mark.slow
def test_the_pool_of_vgg_does_nothing_at_its_own_size(tmp_path: Path) -> None:
    program = check(of_torchvision("vgg11"), (3, 224, 224), tmp_path)
    assert count(program) == {"conv": 8, "max_pool": 5, "flatten": 1, "linear": 3}


def test_every_shortcut_of_a_resnet_is_added_by_a_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    program = check(build("resnet20-cifar", classes=10, channels=3), (3, 32, 32), tmp_path)
    added = [one for one in program.operations if one.attributes.get("add") is not None]
    assert (len(added), count(program)) == (9, {"conv": 21, "global_average": 1, "linear": 1})
    assert program.buffers == 3


def test_a_pruned_network_is_stored_by_its_weights_that_are_left(tmp_path: Path) -> None:
    sizes = {}
    for kept in (1.0, 0.1):
        torch.manual_seed(0)
        made = ready(build("resnet20-cifar", classes=10, channels=3), kept)
        path = exported(made, (3, 32, 32), tmp_path)
        program = compared(path, normal(2, 3, 32, 32))
        sizes[kept] = to_program(path).npz.stat().st_size
        left = sum(int(torch.count_nonzero(p)) for p in made.parameters() if p.ndim > 1)
    held = [one.arrays["values"].size for one in program.operations if "values" in one.arrays]
    assert sum(held) == left + 16 + 32  # and one weight for each channel that a shortcut hands on
    assert sizes[0.1] < 0.2 * sizes[1.0]


def test_files_of_other_precisions_are_refused_by_name(tmp_path: Path) -> None:
    path = exported(ready(of_torchvision("squeezenet1_1")), (3, 40, 40), tmp_path)
    for precision in ("fp16", "int8"):
        model = onnx.load(path)
        if precision == "fp16":
            to_fp16(model)
        else:
            quantize(model, dict.fromkeys(quantized_values(model), 4.0), float_weights=False)
        other = tmp_path / f"{precision}.onnx"
        onnx.save(model, other)
        with pytest.raises(UserError, match=f"is (an )?{precision}") as told:
            to_program(other)
        assert "fp32 file" in told.value.hint
        assert not list(tmp_path.glob("*.program.*"))


class Pooled(nn.Module):
    """Adaptive pooling to a size that does not divide the image's, and what reads it."""

    def __init__(self, cells: tuple[int, int], head: nn.Module) -> None:
        super().__init__()
        self.conv, self.pool, self.head = nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(cells), head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(torch.relu(self.conv(images))))


def test_adaptive_pooling_to_any_size_before_a_linear_layer(tmp_path: Path) -> None:
    torch.manual_seed(0)
    for cells, operation in (((3, 3), "average_pool"), ((4, 3), "conv"), ((7, 9), "conv"), ((1, 1), "global_average")):
        head = nn.Sequential(nn.Flatten(), nn.Linear(4 * cells[0] * cells[1], 5))
        program = check(Pooled(cells, head), (3, 8, 8), tmp_path)
        assert [one.op for one in program.operations][1] == operation


def test_uneven_windows_that_no_operation_averages_are_refused_at_the_node_that_reads_them(tmp_path: Path) -> None:
    head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Flatten())
    path = exported(ready(Pooled((4, 4), head)), (3, 8, 8), tmp_path)
    with pytest.raises(UserError, match=r"Conv '/head/head.0/Conv'.* 6 x 6 pixels to 4 x 4") as told:
        to_program(path)
    assert "flattened" in told.value.hint
