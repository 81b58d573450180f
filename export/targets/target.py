"""What a target is, and what targets of a kind have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

NEVER_RUN = "taken from documents: edgeprune has never run on this board"

NUMBERS = ("compute_capability", "memory_gb", "bandwidth_gbs", "power_modes", "tensorrt", "opset", "ir_version")
"""Fields that state numbers: each that is not empty has an entry in `sources`, as `sparse_tensor_cores` and
`precisions` have."""


@dataclass(frozen=True)
class Target:
    """A runtime on a device, the ONNX it takes, and what its hardware makes of zeros."""

    name: str
    device: str  # what it is, as its maker calls it
    runtime: str  # reads the file: a key of `runtimes.RUNTIMES`
    architecture: str  # of the CPU: aarch64, x86_64, or any
    compute_capability: str | None  # of the GPU; "7.5-12.1" is a range of devices; None: no GPU is used
    sparse_tensor_cores: bool  # whether the hardware can skip the zeros of 2:4
    precisions: tuple[str, ...]  # arithmetic of the device
    writes: tuple[str, ...]  # ONNX precisions that edgeprune writes for it, most exact first
    memory_gb: tuple[float, ...]  # GB, one for each variant; none where it depends on the machine
    bandwidth_gbs: tuple[float, ...]  # GB/s at most, for the same variants
    power_modes: tuple[str, ...]  # names that nvpmodel knows on one of the variants
    tensorrt: tuple[str, str] | None  # oldest and newest release for it; None: another runtime
    opset: int  # of the files written for it
    ir_version: int  # of the files written for it
    prunes: str  # what a plan advises: channels, 2:4, unstructured
    note: str  # the line that `edgeprune list` shows
    sources: Mapping[str, str] = field(hash=False)  # field -> where its value comes from
    doubt: str | None = None  # what a plan adds where it is not proven, or not on every device, that 2:4 gains
    alias_of: str | None = None  # the target that this is another name of


_ORT_VERSIONS = {
    "opset": "ONNX Runtime documentation, Compatibility, 'ONNX opset support': opset 17 since release 1.12",
    "ir_version": "ONNX documentation, Versioning, 'Released versions': opset 17 came with IR version 8",
    "sparse_tensor_cores": "a CPU has no tensor cores",
}
_TRT_VERSIONS = {
    "opset": "onnx-tensorrt, branch release/8.5-GA, docs/operators.md: operators up to opset 17",
    "ir_version": "ONNX documentation, Versioning, 'Released versions': opset 17 came with IR version 8",
}
CAPABILITIES = "NVIDIA, CUDA GPU Compute Capability table"
SPARSE_SINCE_AMPERE = "NVIDIA A100 Tensor Core GPU Architecture whitepaper, 'Fine-grained structured sparsity'"
SUPPORT = "NVIDIA TensorRT documentation, Support matrix, 'Hardware and precision'"


def cpu(name: str, device: str, architecture: str, note: str, **changes: object) -> Target:
    """A CPU under ONNX Runtime."""
    made = Target(
        name=name,
        device=device,
        runtime="ort",
        architecture=architecture,
        compute_capability=None,
        sparse_tensor_cores=False,
        precisions=("fp32", "int8"),
        writes=("fp32", "int8"),  # fp16 is no gain here: ONNX Runtime computes most of it as fp32 on CPUs
        memory_gb=(),
        bandwidth_gbs=(),
        power_modes=(),
        tensorrt=None,
        opset=17,
        ir_version=8,
        prunes="unstructured",
        note=f"{note}; ONNX Runtime computes with zeros as with any other weight, sparse_cpu skips them",
        sources=_ORT_VERSIONS,
    )
    return _with(made, changes)


def gpu(name: str, device: str, capability: str, note: str, **changes: object) -> Target:
    """An NVIDIA GPU with sparse tensor cores under TensorRT."""
    made = Target(
        name=name,
        device=device,
        runtime="trt",
        architecture="aarch64",
        compute_capability=capability,
        sparse_tensor_cores=True,
        precisions=("fp32", "tf32", "fp16", "bf16", "int8"),
        writes=("fp32", "fp16", "int8"),
        memory_gb=(),
        bandwidth_gbs=(),
        power_modes=(),
        tensorrt=("8.5", "11.4"),
        opset=17,
        ir_version=8,
        prunes="2:4",
        note=note,
        sources={**_TRT_VERSIONS, "compute_capability": CAPABILITIES},
    )
    return _with(made, changes)


def _with(made: Target, changes: Mapping[str, object]) -> Target:
    """`made` with other fields; `sources` are laid over those it has."""
    told = changes.get("sources", {})
    sources = {**made.sources, **(told if isinstance(told, Mapping) else {})}
    return replace(made, **{**changes, "sources": sources})  # type: ignore[arg-type]
