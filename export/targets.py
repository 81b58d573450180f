"""What each target's runtime reads: the opset, the IR version, and the sparse pattern it can make use of.

A target is a runtime on a device. The numbers are those of the oldest runtime release a supported system of the
device comes with, so that one file loads everywhere on it.
"""

from __future__ import annotations

from dataclasses import dataclass

_NEVER_RUN = "taken from documentation: edgeprune has never run on this board"


@dataclass(frozen=True)
class Target:
    """A runtime on a device, and the ONNX it takes."""

    name: str
    runtime: str
    """Name of the runtime that reads the file: a key of `runtimes.RUNTIMES`, or one still to come."""
    opset: int
    ir_version: int
    sparse_pattern: str | None
    """Pattern of zeros the runtime can turn into speed, for example "2:4"; None: zeros only make the file compress."""
    note: str
    source: str


_ALL = (
    Target(
        name="local",
        runtime="ort",
        opset=17,
        ir_version=8,
        sparse_pattern=None,
        note="this machine's CPU; ONNX Runtime computes with zeros as with any other weight",
        source="tried: ONNX Runtime 1.19.2 and 1.31.1 run opset 17, IR 8",
    ),
    Target(
        name="jetson-orin",
        runtime="trt",
        opset=17,
        ir_version=8,
        sparse_pattern="2:4",
        note=f"Ampere GPU with sparse tensor cores; TensorRT decides layer by layer whether to use them; {_NEVER_RUN}",
        source="TensorRT 8.5.3 developer guide, structured sparsity; TensorRT 8.5 (JetPack 5.1) takes opset 17 at most",
    ),
    Target(
        name="jetson-xavier-nx",
        runtime="trt",
        opset=17,
        ir_version=8,
        sparse_pattern=None,
        note=f"Volta GPU: no sparse tensor cores, no pattern of zeros is faster; {_NEVER_RUN}",
        source="NVIDIA compute capability 7.2; JetPack 5.1 (TensorRT 8.5) is the last for Xavier",
    ),
    Target(
        name="raspberry-pi-5",
        runtime="ort",
        opset=17,
        ir_version=8,
        sparse_pattern=None,
        note=f"Cortex-A76 CPU; ONNX Runtime computes with zeros as with any other weight; {_NEVER_RUN}",
        source="ONNX Runtime compatibility table: opset 17, IR 8 since 1.12",
    ),
    Target(
        name="x86-avx2",
        runtime="ort",
        opset=17,
        ir_version=8,
        sparse_pattern=None,
        note=f"any x86-64 CPU with AVX2; ONNX Runtime computes with zeros as with any other weight; {_NEVER_RUN}",
        source="ONNX Runtime compatibility table: opset 17, IR 8 since 1.12",
    ),
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
