"""The targets: a runtime on a device, what ONNX it takes, and what zeros can be worth there.

Every number has a source beside it, a public document by name and section. Opset and IR version are what the oldest
release reads that a supported system of the device comes with, so that one file loads everywhere on it.
"""

from __future__ import annotations

from export.targets.jetsons import JETSONS
from export.targets.target import CAPABILITIES, NEVER_RUN, NUMBERS, SPARSE_SINCE_AMPERE, SUPPORT, Target, cpu, gpu

__all__ = ["NUMBERS", "TARGETS", "Target"]

_WORKSTATION = gpu(
    "workstation-gpu",
    "an NVIDIA GPU of Ampere or newer (A100, RTX 30 to 50, H100, B200) under TensorRT",
    "8.0-12.0",
    "a workstation's own GPU with sparse tensor cores; its numbers say nothing about a Jetson; edgeprune has never run "
    "TensorRT on one",
    architecture="any",
    precisions=("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"),
    sources={
        "compute_capability": f"{CAPABILITIES}: 8.0 (A100) to 12.0 (RTX 50)",
        "sparse_tensor_cores": SPARSE_SINCE_AMPERE,
        "precisions": f"{SUPPORT}; fp8 from compute capability 8.9 on, fp4 from 10.0 on",
        "tensorrt": "a choice: the releases that edgeprune's adapter is written for",
    },
)
_RTX_PC = gpu(
    "rtx-pc",
    "a PC's NVIDIA RTX GPU under TensorRT for RTX",
    "7.5-12.1",
    "TensorRT for RTX; sparse tensor cores from compute capability 8.0 on, not on Turing (7.5); engines are built in "
    "the tests, none has run yet",
    doubt="On Turing (compute capability 7.5: RTX 20) nothing here gains from 2:4: it has no sparse tensor cores.",
    architecture="x86_64",
    precisions=("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"),
    tensorrt=None,  # TensorRT for RTX counts its releases on its own
    sources={
        "compute_capability": "TensorRT for RTX 1.7.1, enumeration ComputeCapability: SM75 (7.5) to SM121 (12.1)",
        "sparse_tensor_cores": f"{SPARSE_SINCE_AMPERE}: not on compute capability 7.5",
        "precisions": "NVIDIA TensorRT for RTX documentation, Support matrix; tf32 and bf16 from 8.0 on, fp8 from 8.9 "
        "on, fp4 from 12.0 on",
        "opset": "tried: the parser of TensorRT for RTX 1.7.1 takes opset 17",
        "ir_version": "tried: the parser of TensorRT for RTX 1.7.1 takes IR version 8",
    },
)

_ALL = (
    cpu(
        "local",
        "the machine that edgeprune itself runs on",
        "any",
        "this machine's CPU",
        sources={
            "opset": "tried: ONNX Runtime 1.19.2 and 1.31.1 run opset 17",
            "ir_version": "tried: ONNX Runtime 1.19.2 and 1.31.1 run IR version 8",
            "precisions": "ONNX Runtime documentation, CPU execution provider, supported operators",
        },
    ),
    *JETSONS,
    cpu(
        "raspberry-pi-4",
        "Raspberry Pi 4 Model B (BCM2711, 4 x Cortex-A72)",
        "aarch64",
        f"Cortex-A72 CPU, without int8 dot products; {NEVER_RUN}",
        memory_gb=(1.0, 2.0, 4.0, 8.0),
        bandwidth_gbs=(12.8,) * 4,
        sources={
            "precisions": "Arm Cortex-A72 Technical Reference Manual, 'Advanced SIMD': ARMv8.0, no dot products",
            "memory_gb": "Raspberry Pi 4 Model B product brief, 'Specification'",
            "bandwidth_gbs": "Raspberry Pi 4 Model B product brief, LPDDR4-3200; computed: 3.2 GT/s x 4 bytes",
        },
    ),
    cpu(
        "raspberry-pi-5",
        "Raspberry Pi 5 (BCM2712, 4 x Cortex-A76)",
        "aarch64",
        f"Cortex-A76 CPU with int8 dot products; {NEVER_RUN}",
        precisions=("fp32", "fp16", "int8"),
        memory_gb=(2.0, 4.0, 8.0, 16.0),
        bandwidth_gbs=(17.1,) * 4,
        sources={
            "precisions": "Arm Cortex-A76 Technical Reference Manual: ARMv8.2 half precision and dot products",
            "memory_gb": "Raspberry Pi 5 product brief, 'Specification'",
            "bandwidth_gbs": "Raspberry Pi 5 product brief, LPDDR4X-4267; computed: 4.267 GT/s x 4 bytes",
        },
    ),
    cpu(
        "x86-avx2",
        "an x86-64 CPU with AVX2",
        "x86_64",
        "any x86-64 CPU with AVX2",
        sources={"precisions": "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 14"},
    ),
    cpu(
        "x86-avx512",
        "an x86-64 CPU with AVX-512",
        "x86_64",
        "x86-64 CPU with AVX-512, int8 dot products where it has VNNI",
        sources={"precisions": "Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1, chapter 15"},
    ),
    _WORKSTATION,
    _RTX_PC,
)

TARGETS: dict[str, Target] = {target.name: target for target in _ALL}
