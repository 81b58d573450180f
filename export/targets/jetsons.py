"""The Jetson modules: each under TensorRT, as its JetPack releases bring it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from export.targets.target import CAPABILITIES, NEVER_RUN, SPARSE_SINCE_AMPERE, SUPPORT, Target, gpu

_POWER = "NVIDIA Jetson Linux Developer Guide, Platform Power and Performance, 'Supported modes and power efficiency'"
_JETPACKS = "NVIDIA JetPack archive, release notes"
_JETSON_CAPABILITIES = f"{CAPABILITIES}, Jetson products"


def _orin(name: str, device: str, data_sheet: str, **changes: object) -> Target:
    sources = {
        "compute_capability": _JETSON_CAPABILITIES,
        "sparse_tensor_cores": "NVIDIA Jetson AGX Orin Series Technical Brief, 'Ampere GPU'",
        "precisions": f"{SUPPORT}, compute capability 8.7",
        "memory_gb": f"{data_sheet}, 'Memory'",
        "bandwidth_gbs": f"{data_sheet}, 'Memory'",
        "power_modes": f"{_POWER}, Jetson Orin series; the names differ by variant and release",
        "tensorrt": f"{_JETPACKS}: 8.5.2 in JetPack 5.1, 10.16.2 in JetPack 7.2; TensorRT 11.4.1 documentation, "
        "Support matrix, names AGX Orin and Thor only",
    }
    told = changes.pop("sources", {})
    note = f"Ampere GPU with sparse tensor cores; TensorRT decides layer by layer whether to use them; {NEVER_RUN}"
    merged = {**sources, **(told if isinstance(told, Mapping) else {})}
    return gpu(name, device, "8.7", note, **{"tensorrt": ("8.5", "10.16"), **changes, "sources": merged})


def _xavier(name: str, device: str, data_sheet: str, **changes: object) -> Target:
    sources = {
        "compute_capability": _JETSON_CAPABILITIES,
        "sparse_tensor_cores": f"{SPARSE_SINCE_AMPERE}: new with Ampere; Xavier's GPU is Volta",
        "precisions": f"{SUPPORT}, compute capability 7.2",
        "memory_gb": f"{data_sheet}, 'Memory'",
        "bandwidth_gbs": f"{data_sheet}, 'Memory'",
        "power_modes": f"{_POWER}, release 35, Jetson Xavier NX and AGX Xavier series",
        "tensorrt": f"{_JETPACKS}: JetPack 5.1 is the last series for Xavier and has 8.5.2",
    }
    fixed = {
        "sparse_tensor_cores": False,
        "precisions": ("fp32", "fp16", "int8"),
        "tensorrt": ("8.5", "8.5"),
        "prunes": "channels",
        "sources": sources,
    }
    note = f"Volta GPU: no sparse tensor cores, no pattern of zeros is faster, removed channels are; {NEVER_RUN}"
    return gpu(name, device, "7.2", note, **{**fixed, **changes})


_AGX_ORIN = _orin(
    "jetson-agx-orin",
    "NVIDIA Jetson AGX Orin 32/64 GB (Tegra234, Ampere GPU)",
    "NVIDIA Jetson AGX Orin Series Data Sheet",
    memory_gb=(32.0, 64.0),
    bandwidth_gbs=(204.8, 204.8),
    power_modes=("15W", "30W", "40W", "50W", "MAXN"),
    tensorrt=("8.5", "11.4"),
)
_ORIN_NANO = _orin(
    "jetson-orin-nano",
    "NVIDIA Jetson Orin Nano 4/8 GB (Tegra234, Ampere GPU, no DLA)",
    "NVIDIA Jetson Orin Nano Series Data Sheet",
    memory_gb=(4.0, 8.0),
    bandwidth_gbs=(51.0, 102.0),
    power_modes=("7W", "10W", "15W", "25W", "MAXN_SUPER"),
    sources={
        "bandwidth_gbs": "NVIDIA Jetson Orin Nano Series Data Sheet, 'Memory', in the modes that JetPack 6.2 brought "
        "(MAXN_SUPER, 25W); 34 and 68 before"
    },
)
_ORIN_NX = _orin(
    "jetson-orin-nx",
    "NVIDIA Jetson Orin NX 8/16 GB (Tegra234, Ampere GPU)",
    "NVIDIA Jetson Orin NX Series Data Sheet",
    memory_gb=(8.0, 16.0),
    bandwidth_gbs=(102.4, 102.4),
    power_modes=("10W", "15W", "20W", "25W", "40W", "MAXN", "MAXN_SUPER"),
)
_XAVIER_NX = _xavier(
    "jetson-xavier-nx",
    "NVIDIA Jetson Xavier NX 8/16 GB (Tegra194, Volta GPU)",
    "NVIDIA Jetson Xavier NX Series Data Sheet",
    memory_gb=(8.0, 16.0),
    bandwidth_gbs=(59.7, 59.7),
    power_modes=(
        *("MODE_10W_2CORE", "MODE_10W_4CORE", "MODE_10W_DESKTOP", "MODE_15W_2CORE", "MODE_15W_4CORE"),
        *("MODE_15W_6CORE", "MODE_20W_2CORE", "MODE_20W_4CORE", "MODE_20W_6CORE"),
    ),
)
_AGX_XAVIER = _xavier(
    "jetson-agx-xavier",
    "NVIDIA Jetson AGX Xavier 32/64 GB (Tegra194, Volta GPU)",
    "NVIDIA Jetson AGX Xavier Series Data Sheet",
    memory_gb=(32.0, 64.0),
    bandwidth_gbs=(136.5, 136.5),
    power_modes=(
        *("MODE_10W", "MODE_15W", "MODE_15W_DESKTOP", "MODE_30W_2CORE", "MODE_30W_4CORE", "MODE_30W_6CORE"),
        *("MODE_30W_ALL", "MAXN"),
    ),
)
_THOR = gpu(
    "jetson-thor",
    "NVIDIA Jetson T4000 64 GB, T5000 128 GB (Tegra264, Blackwell GPU)",
    "11.0",
    f"Blackwell GPU, specified with 2:4; that TensorRT gains from it there is unproven; {NEVER_RUN}",
    precisions=("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4"),
    memory_gb=(64.0, 128.0),
    bandwidth_gbs=(273.0, 273.0),
    power_modes=("120W", "MAXN"),
    tensorrt=("10.13", "11.4"),
    doubt="On Thor this is unproven: its tensor cores are specified with 2:4, a gain under TensorRT is not.",
    sources={
        "compute_capability": f"{_JETSON_CAPABILITIES}; 10.1 in releases before CUDA 13",
        "sparse_tensor_cores": "NVIDIA Jetson Thor Series Modules Data Sheet, 'AI performance': sparse figures",
        "precisions": f"{SUPPORT}, compute capability 11.0",
        "memory_gb": "NVIDIA Jetson Thor Series Modules Data Sheet, 'Memory'",
        "bandwidth_gbs": "NVIDIA Jetson Thor Series Modules Data Sheet, 'Memory'",
        "power_modes": f"{_POWER}, release 38, Jetson AGX Thor; the list for the T4000 was not found",
        "tensorrt": f"{_JETPACKS}: 10.13 in JetPack 7.0; TensorRT 11.4.1 documentation, Support matrix, Jetson",
        "opset": "a choice: onnx-tensorrt 10.13 reads newer opsets too, nothing that edgeprune writes needs one, and "
        "one file then serves every Jetson",
        "ir_version": "follows from opset 17",
    },
)

JETSONS = (
    replace(_AGX_ORIN, name="jetson-orin", alias_of="jetson-agx-orin"),
    _ORIN_NANO,
    _ORIN_NX,
    _AGX_ORIN,
    _XAVIER_NX,
    _AGX_XAVIER,
    _THOR,
)
