"""A torch module becomes one ONNX file: what the target reads, and the same bytes every time."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import GraphProto, ModelProto, NodeProto, helper
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from export import graph as graphs
from export.simplify import simplify
from export.targets import Target
from export.trace import BATCH, INPUT, OUTPUT, traced
from runtimes import files
from runtimes.errors import UserError

_TRACED_BATCH = 2


@dataclass(frozen=True)
class Exported:
    """A written ONNX file; `opset` and `ir_version` are read back from it."""

    path: Path
    sha256: str
    opset: int
    ir_version: int


def to_onnx(
    module: nn.Module, path: Path, *, input_shape: tuple[int, int, int], target: Target, metadata: Mapping[str, str]
) -> Exported:
    """Write `module` to `path` as the target's ONNX.

    The graph takes "input" (N, *input_shape) float32 and gives "logits" (N, classes), N free. Batch normalization is
    folded, weights keep their torch names, masked weights are plain zeros. The module itself is not changed: a copy is
    exported, on the CPU, in inference mode. Equal arguments give equal bytes.

    :param input_shape: (channels, height, width) of one image.
    :param metadata: goes into the file as `edgeprune.<key>`.
    :raises UserError: the module cannot be run or exported, or the file is not what the target reads.
    """
    plain = plain_copy(module)
    classes = _classes(plain, input_shape)
    model = traced(plain, torch.zeros(_TRACED_BATCH, *input_shape), target.opset)
    simplify(model)
    _describe(model, input_shape, classes)
    _stamp(model, target, metadata)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)
    files.write_bytes(path, content)
    opset, ir_version = check_versions(graphs.read(path), target, path)
    return Exported(path, hashlib.sha256(content).hexdigest(), opset, ir_version)


def plain_copy(module: nn.Module) -> nn.Module:
    """A copy of `module` on the CPU, float32, for inference, with torch's own masks and parametrizations baked in."""
    held = [value for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)]
    computed = {id(value): value.detach().clone() for value in held if not value.is_leaf}  # deepcopy refuses those
    plain = copy.deepcopy(module, computed).to("cpu", torch.float32).eval()
    for part in plain.modules():
        for name in list(getattr(part, "parametrizations", ())):
            parametrize.remove_parametrizations(part, name)
        for name in [name.removesuffix("_orig") for name, _ in part.named_parameters(recurse=False)]:
            if isinstance(getattr(part, name + "_mask", None), Tensor) and prune.is_pruned(part):
                prune.remove(part, name)  # type: ignore[no-untyped-call]
    return plain.requires_grad_(False)


def check_versions(model: ModelProto, target: Target, path: Path) -> tuple[int, int]:
    """Return (opset, IR version) of `model`; anything but what `target` reads is a `UserError`."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": target.opset} or model.ir_version != target.ir_version:
        raise UserError(
            f"{path} has opsets {opsets} and IR version {model.ir_version}; {target.name} reads opset {target.opset} "
            f"of ai.onnx and IR version {target.ir_version}",
            "export again with the target it is meant for",
        )
    return opsets["ai.onnx"], model.ir_version


def _classes(plain: nn.Module, input_shape: tuple[int, int, int]) -> int:
    """Number of logits, from one run of the module."""
    name = type(plain).__name__
    try:
        with torch.no_grad():
            logits = plain(torch.zeros(_TRACED_BATCH, *input_shape))
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError) as error:
        raise UserError(
            f"{name} cannot take an input of shape {(_TRACED_BATCH, *input_shape)}: {graphs.first_line(error)}",
            "give the image size the network was made for",
        ) from error
    if not isinstance(logits, Tensor):
        raise UserError(
            f"{name} gives a {type(logits).__name__}, not one tensor of logits",
            "wrap it in a module that returns the logits alone (for a network with auxiliary heads: aux_logits=False)",
        )
    if logits.ndim != 2 or logits.shape[0] != _TRACED_BATCH:
        raise UserError(
            f"{name} gives a tensor of shape {tuple(logits.shape)} for {_TRACED_BATCH} images, not (N, classes)",
            "edgeprune exports image classifiers",
        )
    return int(logits.shape[1])


def _describe(model: ModelProto, input_shape: tuple[int, int, int], classes: int) -> None:
    """State the shapes of what goes in and comes out, with only the batch free."""
    float32 = onnx.TensorProto.FLOAT
    graph = model.graph
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, float32, [BATCH, *input_shape]))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT, float32, [BATCH, classes]))


def _stamp(model: ModelProto, target: Target, metadata: Mapping[str, str]) -> None:
    """Replace what the exporter says about itself by what edgeprune says about the model."""
    for field in ("producer_version", "domain", "model_version", "doc_string", "metadata_props"):
        model.ClearField(field)
    _strip(model.graph)
    model.producer_name = "edgeprune"
    model.graph.name = "edgeprune"
    model.ir_version = target.ir_version
    for key in sorted(metadata):
        model.metadata_props.add(key=f"edgeprune.{key}", value=metadata[key])


def _strip(graph: GraphProto) -> None:
    described: list[GraphProto | NodeProto] = [graph, *graph.node]
    for part in described:
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    for held in (*graph.input, *graph.output, *graph.initializer):
        held.ClearField("doc_string")
        held.ClearField("metadata_props")
