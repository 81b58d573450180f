"""TensorRT's own parser and builder take every file that the export writes: small networks always, the rest if slow.

With TensorRT for RTX, which builds without a GPU, and with the adapter that `edgeprune export --check` uses.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from export_networks import NETWORKS, SHAPE, Residual, pruned
from onnx import helper
from test_n_of_m import two_of_four
from test_torchvision_export import ALWAYS, SLOW, network
from torch import nn

from export.precisions import verify_precision, write_precision
from export.targets import TARGETS
from export.to_onnx import to_onnx
from runtimes.errors import UserError
from runtimes.records import PRECISIONS
from runtimes.trt_check import Checked, check

pytestmark = pytest.mark.skipif(
    not any(find_spec(name) for name in ("tensorrt_rtx", "tensorrt")),
    reason="no TensorRT is installed (uv sync --group builder)",
)
TARGET = TARGETS["jetson-orin"]
INT8_WEIGHTS = "int8, weights in int8"
"""The form of newer targets, beside that for 8.5; one engine comes of both."""
QUICK = ("squeezenet1_1", "mobilenet_v2")
SIZES = ALWAYS | SLOW


def written(made: nn.Module, shape: tuple[int, int, int], folder: Path, planned: list[str]) -> dict[str, Path]:
    """The network in every precision, verified; planned layers are held to 2:4."""
    images = torch.randn(24, *shape, generator=torch.Generator().manual_seed(0))
    paths = {precision: folder / f"m.{precision}.onnx" for precision in PRECISIONS}
    to_onnx(made, paths["fp32"], input_shape=shape, target=TARGET, metadata={})
    with torch.no_grad():
        expected = made.eval()(images[:8]).numpy()
    for precision in PRECISIONS[1:]:
        write_precision(paths["fp32"], paths[precision], precision, images[8:].numpy(), TARGET)
        given = (expected, images[:8].numpy(), precision, planned, "2:4", TARGET)
        verify_precision(paths[precision], paths["fp32"], *given)
    paths[INT8_WEIGHTS] = folder / "newer.int8.onnx"
    newer = TARGETS["jetson-thor"]
    write_precision(paths["fp32"], paths[INT8_WEIGHTS], "int8", images[8:].numpy(), newer)
    given = (expected, images[:8].numpy(), "int8", planned, "2:4", newer)
    verify_precision(paths[INT8_WEIGHTS], paths["fp32"], *given)
    return paths


def accepted(paths: dict[str, Path]) -> dict[str, Checked]:
    """What TensorRT made of each file; its refusal is raised."""
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(paths, pool.map(check, paths.values()), strict=True))


def hold(found: dict[str, Checked]) -> None:
    for precision, checked in found.items():
        assert checked.precision == precision.split(",")[0]  # typed by the file alone: nothing was asked of the builder
        assert checked.engine_bytes > 0
        assert checked.layers > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks_in_every_precision(name: str, tmp_path: Path) -> None:
    made, _ = pruned(NETWORKS[name])
    planned = two_of_four(made)
    hold(accepted(written(made, SHAPE, tmp_path, planned)))


def in_two_of_four(made: nn.Module) -> nn.Module:
    """Keep the two largest of each four weights along dim 1, wherever that divides."""
    with torch.no_grad():
        for weight in made.parameters():
            if weight.ndim >= 2 and weight.shape[1] % 4 == 0:
                last = weight.movedim(1, -1)
                groups = last.reshape(-1, 4)
                keep = torch.zeros_like(groups).scatter_(1, groups.abs().topk(2, dim=1).indices, 1)
                weight.mul_(keep.view(last.shape).movedim(-1, 1))
    return made


def check_classifier(name: str, size: int, folder: Path) -> None:
    made = in_two_of_four(network(name, size))
    modules = {key: part for key, part in made.named_modules() if isinstance(part, nn.Conv2d | nn.Linear)}
    planned = [
        key
        for key, part in modules.items()
        if part.weight.shape[1] % 4 == 0
        and getattr(part, "groups", 1) == 1
        and "aux" not in key.lower()
        and "self_attention.out_proj" not in key
    ]
    found = accepted(written(made, (3, size, size), folder, planned))
    hold(found)
    assert found["fp16"].engine_bytes < found["fp32"].engine_bytes


@pytest.mark.parametrize("name", QUICK)
def test_small_classifiers_in_every_precision(name: str, tmp_path: Path) -> None:
    check_classifier(name, SIZES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(SIZES) - set(QUICK)))
def test_all_kinds_of_classifiers_in_every_precision(name: str, tmp_path: Path) -> None:
    check_classifier(name, SIZES[name], tmp_path)


def test_an_operator_that_tensorrt_does_not_have_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    to_onnx(pruned(Residual)[0], path, input_shape=SHAPE, target=TARGET, metadata={})
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.append(helper.make_node("Det", ["before"], ["logits"], name="determinant"))
    onnx.save(model, path)
    with pytest.raises(UserError, match="determinant") as caught:
        check(path)
    assert len(str(caught.value).splitlines()) == 2


def test_the_bias_stays_float_because_tensorrt_refuses_another(tmp_path: Path) -> None:
    """The reason for a float bias: the same file with its biases in int32, as other tools write it, is refused."""
    paths = written(pruned(Residual)[0], SHAPE, tmp_path, [])
    model = onnx.load(paths["int8"])
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == conv.input[2])
    scale = np.full(bias.dims[0], 1e-4, np.float32)
    steps = np.rint(onnx.numpy_helper.to_array(bias) / scale).astype(np.int32)
    bias.CopyFrom(onnx.numpy_helper.from_array(steps, bias.name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "bias.scale"))
    dequantise = helper.make_node("DequantizeLinear", [bias.name, "bias.scale"], ["bias.float"], name="bias", axis=0)
    conv.input[2] = "bias.float"
    model.graph.node.insert(0, dequantise)
    onnx.save(model, paths["int8"])
    with pytest.raises(UserError, match="bias"):
        check(paths["int8"])
