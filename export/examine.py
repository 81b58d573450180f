"""A look at an ONNX file that is there already: is it whole, does it hold its pattern, can the target read it?

No torch here: only the file is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from onnx import ModelProto

from export import graph as graphs
from export.n_of_m import computed_weights, count_groups, hold_to, refusal
from export.simplify import constants_to_initializers, mask_operations
from export.targets import Target
from runtimes.errors import UserError


def examine(path: Path, target: Target | None) -> list[str]:
    """What there is to say about the file at `path`, a line each.

    :param target: also hold opset and IR version against what this target reads.
    :raises UserError: the file is damaged, a weight is computed when it runs, a layer that is stated to be N:M is not
        (`edgeprune.planned` and `edgeprune.pattern` in its metadata), or the target cannot read it.
    """
    model = graphs.read(path)
    stated = {entry.key: entry.value for entry in model.metadata_props}
    if target is not None:
        _readable(model, path, target)
    masks = mask_operations(model)
    if masks:
        raise UserError(
            f"{path} still multiplies by a mask when it runs, in '{masks[0]}'",
            "bake the mask into the weight; `edgeprune export` does that",
        )
    constants_to_initializers(model)  # some exporters write weights as nodes; the file stays as it is
    planned = _planned(stated, path)
    pattern = stated.get("edgeprune.pattern", "2:4") if planned else "2:4"
    hold_to(model, path, planned, pattern)
    computed = computed_weights(model.graph)
    if computed:  # where nothing is planned, too: TensorRT takes it, and can do nothing with zeros in it
        raise refusal(computed[0], path)
    return [_counted(model, path, planned, pattern)]


def _planned(told: Mapping[str, str], path: Path) -> list[str]:
    try:
        planned = json.loads(told.get("edgeprune.planned", "[]"))
    except json.JSONDecodeError:
        planned = None
    if not isinstance(planned, list) or not all(isinstance(name, str) for name in planned):
        raise UserError(f"{path}: its metadata 'edgeprune.planned' is no list of layers", "export the network again")
    return planned


def _readable(model: ModelProto, path: Path, target: Target) -> None:
    """A newer opset or IR version than the target's oldest runtime knows is refused; an older one is read."""
    opset = graphs.opset(model)
    if opset > target.opset or model.ir_version > target.ir_version:
        raise UserError(
            f"{path} has opset {opset} and IR version {model.ir_version}; {target.name} reads opset {target.opset} and "
            f"IR version {target.ir_version} at most",
            "export it at the target's opset",
        )


def _counted(model: ModelProto, path: Path, planned: list[str], pattern: str) -> str:
    if planned:
        return f"{path.name}: all {len(planned)} layers that it plans to be {pattern} are"
    layers = count_groups(model)
    fits = sum(groups.broken == 0 for groups in layers.values())
    return f"{path.name}: plans no layer to be N:M; {fits} of {len(layers)} layers that could be 2:4 are"
