"""3-export: every network of the run as a verified ONNX file, and the manifest that says what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune import __version__
from edgeprune.bench import Bench
from edgeprune.layers import Accounting, account, left_dense
from edgeprune.progress import Tick
from edgeprune.prune import everything
from edgeprune.prune import masks as masking
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from export.macs import count_macs
from export.sizes import size_bytes
from export.targets import TARGETS, Target
from export.to_onnx import to_onnx
from export.verify import verify
from runtimes.files import sha256, write_json
from runtimes.tables import pick

FILES = {"teacher": "teacher.onnx", "dense": "dense.onnx", "pruned": "pruned.onnx", "sparse": "model.onnx"}
PRUNED = ("pruned", "sparse")
VERIFIED_IMAGES = 64  # of the validation split: the test split is scored once, by the measurement


def export(bench: Bench, tick: Tick) -> list[Path]:
    """Export for the recipe's target into the step's own folder."""
    return export_for(bench, pick(TARGETS, bench.recipe.export.target, "target"), bench.run["export"], tick)


def export_for(bench: Bench, target: Target, folder: Path, tick: Tick) -> list[Path]:
    """Write `<network>.onnx` of each network of the run and `manifest.json` into `folder`; every file is verified."""
    masks, images = bench.masks(), _images(bench)
    networks: dict[str, Any] = {}
    for name, role, model in bench.networks():
        tick(len(networks), len(FILES), f"{name} to ONNX")
        model, held = model.cpu().eval(), masks if name in PRUNED else {}
        counts = account(model, held, _reasons(bench, model))
        path = folder / FILES[name]
        metadata = _metadata(bench, name, counts, held)
        unverified = path.with_name(f".{path.name}.tmp")  # what is refused never stands under its name
        exported = to_onnx(model, unverified, input_shape=bench.data.image_shape, target=target, metadata=metadata)
        verification = verify(model, unverified, images, held, target=target)
        unverified.replace(path)
        networks[name] = {
            "file": path.name,
            "sha256": sha256(path),
            "model": bench.settings(role).model,
            "opset": exported.opset,
            "ir_version": exported.ir_version,
            "precision": "fp32",
            "pattern": _pattern(bench, counts),
            **_macs(path),
            "size_bytes": size_bytes(path),
            **counts.to_json(),
            "verification": verification.to_json(),
        }
    tick(len(FILES), len(FILES), "verified")
    write_json(folder / "manifest.json", _manifest(bench, target, networks, masks))
    return [folder / FILES[name] for name in networks] + [folder / "manifest.json"]


def _images(bench: Bench) -> Tensor:
    images = next(iter(bench.validation().epoch(0))).images
    return images[:VERIFIED_IMAGES].to("cpu", torch.float32)


def _pattern(bench: Bench, counts: Accounting) -> str:
    return bench.recipe.prune.pattern if any(layer.masked for layer in counts.layers) else "dense"


def _reasons(bench: Bench, model: nn.Module) -> dict[str, str]:
    refuses, settings = bench.pattern().refuses, bench.recipe.prune
    if bench.recipe.student.holds != "dense":
        refuses, settings = UNSTRUCTURED.refuses, everything(settings)
    return left_dense(model, settings, refuses)


def _macs(path: Path) -> dict[str, int]:
    counts = count_macs(path).values()
    return {"macs": sum(dense for dense, _ in counts), "nonzero_macs": sum(sparse for _, sparse in counts)}


def _metadata(bench: Bench, name: str, counts: Accounting, held: masking.Masks) -> dict[str, str]:
    """What the file says about itself; the manifest beside it is the source of truth."""
    return {
        "version": __version__,
        "recipe": bench.recipe.name,
        "network": name,
        "pattern": _pattern(bench, counts),
        "sparsity": f"{counts.sparsity:.6f}",
        "mask_sha256": masking.sha256(held) if name in PRUNED else "",
        "classes": json.dumps(list(bench.data.classes), ensure_ascii=False),
        "preprocess": json.dumps(bench.data.preprocess.to_json(), sort_keys=True),
    }


def _manifest(bench: Bench, target: Target, networks: Mapping[str, Any], masks: masking.Masks) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "target": target.name,
        "method": bench.recipe.method,
        "pattern": bench.recipe.prune.pattern,
        "mask_sha256": masking.sha256(masks) if masks else None,
        "classes": list(bench.data.classes),
        "input": {"shape": list(bench.data.image_shape), "preprocess": bench.data.preprocess.to_json()},
        "networks": dict(networks),
    }
