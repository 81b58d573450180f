"""3-export: every network of the run as verified ONNX files, and the manifest that says what is in them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune import __version__
from edgeprune.data.batches import Batches
from edgeprune.layers import Accounting, account, layers, left_dense
from edgeprune.progress import Tick
from edgeprune.prune import everything
from edgeprune.prune import masks as masking
from edgeprune.prune.patterns.n_of_m import TWO_OF_FOUR, NOfM
from edgeprune.prune.patterns.unstructured import UNSTRUCTURED
from edgeprune.steps.programs import SPARSE_CPU, with_programs
from edgeprune.workbench import Workbench
from export import graph
from export.compact import answers_for, compact
from export.macs import count_macs
from export.n_of_m import hold_to
from export.plan.gain import doubts
from export.precisions import verify_precision, write_precision
from export.sizes import size_bytes
from export.targets import TARGETS, Target
from export.to_onnx import plain_copy, to_onnx
from export.verify import verify
from runtimes.errors import UserError
from runtimes.files import sha256, write_json
from runtimes.tables import pick

FILES = {"teacher": "teacher.onnx", "dense": "dense.onnx", "pruned": "pruned.onnx", "sparse": "model.onnx"}
PRUNED = ("pruned", "sparse")
COMPARED = ("dense", "sparse")  # whose files are written in lower precisions too: the pair that a board compares
COMPACT = "sparse-compact"  # the sparse network without dead channels, compared with the dense one like the sparse one
VERIFIED_IMAGES = 64  # of the validation split: the test split is scored once, by the measurement
CALIBRATION_IMAGES = 256  # of the training split, as they are, drawn at random


def export(bench: Workbench, tick: Tick) -> list[Path]:
    """Export for the recipe's target into the step's own folder."""
    asked = bench.recipe.export
    return export_for(bench, pick(TARGETS, asked.target, "target"), bench.run["export"], asked.precision, tick)


def export_for(bench: Workbench, target: Target, folder: Path, precision: str, tick: Tick) -> list[Path]:
    """Write the networks of the run and `manifest.json` into `folder`; every file is verified.

    `<network>.onnx` is in fp32, `model.compact.onnx` the sparse network without dead channels, where the recipe asks
    for it. The dense and the sparse network (and that one) follow in each precision down to `precision`
    (`model.fp16.onnx`); "" stands for what the target's runtime gains from. What stands in fp32 for a CPU has a program
    for sparse_cpu beside it (`model.program.json`, `model.program.npz`), where that runtime knows its operators.
    """
    work = _Work(bench, target, folder, written(target, precision))
    needed = SPARSE_CPU in bench.recipe.measure.runtimes and target.name == bench.recipe.export.target
    entries, told = with_programs(folder, dict(work.entries(tick)), target, needed=needed)
    write_json(folder / "manifest.json", work.manifest(entries, told))
    files = [folder / name for entry in entries.values() for name in (entry["file"], *entry.get("program", ()))]
    for path in set(folder.glob("*.onnx")) - set(files):
        path.unlink()  # of an earlier export in more precisions: it would pass for one of these
    return [*files, folder / "manifest.json"]


def written(target: Target, precision: str) -> tuple[str, ...]:
    """The precisions whose files are written for `target`, from fp32 down to `precision`.

    TensorRT gets all of its own where none is asked for, a CPU only fp32. `UserError` where the target has no such
    precision.
    """
    asked = precision or (target.writes[-1] if target.runtime == "trt" else target.writes[0])
    if asked not in target.writes:
        raise UserError(f"{target.name} gets no files in {asked}", f"choose a precision of: {', '.join(target.writes)}")
    return target.writes[: target.writes.index(asked) + 1]


class Planned(NamedTuple):
    """The layers that are to be N:M in every file, and the pattern they follow."""

    pattern: str
    layers: list[str]


def planned_layers(bench: Workbench, masks: masking.Masks) -> Planned:
    """All masked layers under an N:M recipe; of somebody's own sparse checkpoint those whose zeros turn out N:M.

    A checkpoint of an unstructured recipe is looked at for 2:4.
    """
    stated = bench.pattern()
    pattern = stated if isinstance(stated, NOfM) else TWO_OF_FOUR
    if bench.recipe.student.holds == "dense":
        return Planned(pattern.name, sorted(masks) if pattern is stated else [])
    whole = {layer.name for layer in layers(bench.fresh("student")) if layer.groups == 1}
    return Planned(pattern.name, sorted(name for name in whole & set(masks) if pattern.holds(masks[name])))


@dataclass(frozen=True)
class _Work:
    """One export: what is written, for whom, and what all its networks share."""

    bench: Workbench
    target: Target
    folder: Path
    precisions: Sequence[str]

    @cached_property
    def masks(self) -> masking.Masks:
        return self.bench.masks()

    @cached_property
    def planned(self) -> Planned:
        return planned_layers(self.bench, self.masks)

    @cached_property
    def images(self) -> Tensor:
        images = next(iter(self.bench.validation().epoch(0))).images
        return images[:VERIFIED_IMAGES].to("cpu", torch.float32)

    @cached_property
    def calibration(self) -> NDArray[np.float32]:
        return calibration_images(self.bench)

    def entries(self, tick: Tick) -> Iterator[tuple[str, dict[str, Any]]]:
        """Write and verify one file after the other; the manifest's entry of each, under its name there."""
        compact, numbers = self.bench.recipe.export.compact, count()
        total = len(FILES) + compact + (len(COMPARED) + compact) * len(self.precisions[1:])

        def say(what: str) -> None:
            tick(next(numbers), total, what)

        for name, role, model in self.bench.networks():
            say(f"{name} to ONNX")
            model = model.cpu().eval()
            entry = self._exact(name, self.bench.settings(role).model, model)
            yield name, entry
            yield from self._made_of(name, entry, model, say)
        tick(total, total, "verified")

    def _made_of(
        self, name: str, entry: dict[str, Any], model: nn.Module, say: Callable[[str], None]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """What follows from a file in fp32: the sparse one without dead channels, and both in lower precisions."""
        compact, lower = self.bench.recipe.export.compact and name == "sparse", self.precisions[1:]
        if name not in COMPARED or not (compact or lower):
            return
        with torch.no_grad():
            expected = plain_copy(model)(self.images).numpy()
        exact = {name: entry}
        if compact:
            say(f"{name} without dead channels")
            exact[COMPACT] = self._compact(entry, expected)
            yield COMPACT, exact[COMPACT]
        for source, precision in product(exact, lower):
            say(f"{source} to {precision}")
            yield f"{source}-{precision}", self._lower(source, precision, exact[source], expected)

    def _exact(self, name: str, architecture: str, model: nn.Module) -> dict[str, Any]:
        """The network in fp32, held against the torch module and its masks."""
        held = self.masks if name in PRUNED else {}
        counts = account(model, held, _reasons(self.bench, model))
        path = self.folder / FILES[name]
        metadata = self._metadata(name, counts, held)
        with _unverified(path) as draft:
            shape = self.bench.data.image_shape
            exported = to_onnx(model, draft, input_shape=shape, target=self.target, metadata=metadata)
            verification = verify(model, draft, self.images, held, target=self.target)
            if held:
                hold_to(graph.read(draft), path, self.planned.layers, self.planned.pattern)
        return {
            "file": path.name,
            "network": name,
            "sha256": sha256(path),
            "model": architecture,
            "opset": exported.opset,
            "ir_version": exported.ir_version,
            "precision": "fp32",
            "pattern": self._pattern(counts),
            **_macs(path),
            "size_bytes": size_bytes(path),
            **counts.to_json(),
            "verification": verification.to_json(),
        }

    def _compact(self, exact: Mapping[str, Any], expected: NDArray[np.float32]) -> dict[str, Any]:
        """The sparse network without the channels that pruning has killed, made from its fp32 file.

        The counts of the pruning are those of that file. Groups of N:M do not survive the removal of channels.
        """
        source = self.folder / str(exact["file"])
        path = source.with_name(f"{source.stem}.compact.onnx")
        pattern = UNSTRUCTURED.name if self.planned.layers else str(exact["pattern"])
        told = {"edgeprune.network": COMPACT, "edgeprune.planned": "[]", "edgeprune.pattern": pattern}
        with _unverified(path) as draft:
            removed = compact(source, draft, told)
            answered = answers_for(draft, expected, self.images.numpy(), self.target)
        return {
            **exact,
            "file": path.name,
            "sha256": sha256(path),
            "pattern": pattern,
            **_macs(path),
            "size_bytes": size_bytes(path),
            "verification": answered.to_json(),
            "compaction": {**removed.to_json(), "summary": removed.summary()},
        }

    def _lower(
        self, name: str, precision: str, exact: Mapping[str, Any], expected: NDArray[np.float32]
    ) -> dict[str, Any]:
        """The same network in a lower precision, made from the fp32 file; `expected` are the torch module's logits.

        The counts of the pruning are those of the fp32 file; zeros that the precision adds are in `verification`.
        """
        source = self.folder / str(exact["file"])
        path = source.with_name(f"{source.stem}.{precision}.onnx")
        calibration = self.calibration if precision == "int8" else None
        planned = self.planned.layers if name in PRUNED else []
        with _unverified(path) as draft:
            exported = write_precision(source, draft, precision, calibration, self.target)
            agreement = verify_precision(
                draft, source, expected, self.images.numpy(), precision, planned, self.planned.pattern, self.target
            )
        return {
            **exact,
            "file": path.name,
            "sha256": sha256(path),
            "opset": exported.opset,
            "ir_version": exported.ir_version,
            "precision": precision,
            "size_bytes": size_bytes(path),
            "verification": agreement.to_json(),
        }

    def _pattern(self, counts: Accounting) -> str:
        """The pattern of a network's zeros; that of a checkpoint was found by looking."""
        return self.pattern if any(layer.masked for layer in counts.layers) else "dense"

    @property
    def pattern(self) -> str:
        return self.planned.pattern if self.planned.layers else self.bench.recipe.prune.pattern

    def _metadata(self, name: str, counts: Accounting, held: masking.Masks) -> dict[str, str]:
        """What the file says about itself; the manifest beside it is the source of truth."""
        data = self.bench.data
        return {
            "version": __version__,
            "recipe": self.bench.recipe.name,
            "network": name,
            "precision": "fp32",
            "pattern": self._pattern(counts),
            "planned": json.dumps(self.planned.layers if held else []),
            "sparsity": f"{counts.sparsity:.6f}",
            "mask_sha256": masking.sha256(held) if name in PRUNED else "",
            "classes": json.dumps(list(data.classes), ensure_ascii=False),
            "preprocess": json.dumps(data.preprocess.to_json(), sort_keys=True),
        }

    def manifest(self, networks: Mapping[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
        """The export's `manifest.json`, with `warnings` after its own."""
        data = self.bench.data
        shown = networks.get("sparse") or next(iter(networks.values()))
        told = doubts(self.folder / str(shown["file"]), self.target, self.planned.layers, masked=bool(self.masks))
        return {
            "schema_version": 1,
            "target": self.target.name,
            "method": self.bench.recipe.method,
            "pattern": self.pattern,
            "planned": self.planned.layers,
            "warnings": [*told, *warnings],
            "mask_sha256": masking.sha256(self.masks) if self.masks else None,
            "classes": list(data.classes),
            "input": {"shape": list(data.image_shape), "preprocess": data.preprocess.to_json()},
            "networks": dict(networks),
        }


def calibration_images(bench: Workbench) -> NDArray[np.float32]:
    """Training images as the network gets them, float32 (n, C, H, W): drawn by the run's seed, not augmented."""
    data = bench.data
    draw = np.random.default_rng(bench.seed("export"))
    count = min(CALIBRATION_IMAGES, len(data.train))
    chosen = np.sort(draw.choice(len(data.train), count, replace=False))
    batches = Batches(data.train, data.preprocess, batch_size=count, device="cpu", only=chosen)
    return next(iter(batches.epoch(0))).images.float().numpy()


@contextlib.contextmanager
def _unverified(path: Path) -> Iterator[Path]:
    """A place to write to beside `path`: what is refused never stands under its name."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _reasons(bench: Workbench, model: nn.Module) -> dict[str, str]:
    refuses, settings = bench.pattern().refuses, bench.recipe.prune
    if bench.recipe.student.holds != "dense":
        refuses, settings = UNSTRUCTURED.refuses, everything(settings)
    return left_dense(model, settings, refuses)


def _macs(path: Path) -> dict[str, int]:
    counts = count_macs(path).values()
    return {"macs": sum(dense for dense, _ in counts), "nonzero_macs": sum(sparse for _, sparse in counts)}
