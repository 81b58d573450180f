"""Stand-ins for NVIDIA's objects, with the names that a published release has and no others.

They do what the documents say, with the refusals: an input's shape before its output's, all addresses before a run,
an optimization profile for one context at a time and not before the stream has come to it, and a plain run between a
shape and a capture. What they are asked stands in `Release.asked`.

A "file" is a line of `key=value`: held (fp32, fp16, int8), batch (-1 is free), fail (parse, build). An engine is the
same in JSON. A run answers image i with sum(image i) * (1, 2, 3).
"""

from __future__ import annotations

import ctypes
import enum
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tensorrt_names import FOLDER, known_names

RELEASES = ("8.6.1", "10.3.0", "10.13.3.9", "11.4.0.106")
CLASSES, IMAGE = 3, (1, 2, 2)
SPARSITY = (
    "(Sparsity) Found 2 layer(s) eligible to use sparse tactics",
    "(Sparsity) Chose 1 layer(s) using sparse tactics",
)
LAYERS = {"Layers": [{"Name": "conv1", "LayerType": "CaskConvolution", "TacticName": "sm80_sparse_conv"}]}
ELSEWHERE = b"made elsewhere"
_ENUMS = ("BuilderFlag", "DataType", "LayerInformationFormat", "MemoryPoolType", "NetworkDefinitionCreationFlag",
          "ProfilingVerbosity", "TensorIOMode")  # fmt: skip
_TYPES = {"fp32": ["FLOAT"], "fp16": ["FLOAT", "HALF"], "int8": ["FLOAT", "INT8"]}
_NODE = 'input: "x"\noutput: "y"\nname: "layer3/frob"\nop_type: "Frob"\nattribute {\n  name: "k"\n}\n'


def named(name: str) -> Any:
    """What has a name, as the members of NVIDIA's enumerations."""
    return types.SimpleNamespace(name=name)


class Release:
    """One release: `module` is what is imported; `enqueue` puts work into a stream, False where it is refused.

    `capturing` says whether what is put there is recorded for a graph.
    """

    def __init__(
        self,
        version: str,
        enqueue: Callable[[int, Callable[[], None]], bool] | None = None,
        capturing: Callable[[], bool] = lambda: False,
    ) -> None:
        self.names = known_names(FOLDER / f"{version}.txt")
        self.asked: list[tuple[Any, ...]] = []
        self.enqueue, self.capturing = enqueue, capturing
        self.contexts: list[Any] = []  # ids of those that hold the optimization profile
        self.engines = 0  # that are alive
        self.module: Any = types.ModuleType("tensorrt")
        self.module.__version__ = version
        self.module.init_libnvinfer_plugins = lambda logger, namespace: True
        for name in _ENUMS:
            members = [entry.split(".")[1] for entry in sorted(self.names) if entry.startswith(name + ".")]
            setattr(self.module, name, enum.IntEnum(name, members, start=0))
        for kind in (*_building(self), *_running(self)):
            for member in [entry for entry in vars(kind) if not entry.startswith("_")]:
                if f"{kind.__name__}.{member}" not in self.names:
                    delattr(kind, member)
            setattr(self.module, kind.__name__, kind)

    def said(self, what: str) -> list[Any]:
        """What was asked of one kind, in order."""
        return [call[1] if len(call) == 2 else call[1:] for call in self.asked if call[0] == what]


def _building(release: Release) -> list[type]:
    asked = release.asked

    class ITensor:
        def __init__(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
            self.name, self.shape, self.dtype = name, shape, named(dtype)

    class ILayer:
        def __init__(self, kind: str, dtype: str) -> None:
            self.type, self.num_outputs, self._dtype = named(kind), 1, dtype

        def get_output(self, index: int) -> ITensor:
            return ITensor("t", (1,), self._dtype)

    class INetworkDefinition:
        def __init__(self) -> None:
            self._file: dict[str, str] = {}
            self.num_inputs = self.num_outputs = self.num_layers = 0

        def get_layer(self, index: int) -> ILayer:
            kind = "QUANTIZE" if self._file["held"] == "int8" else "CONVOLUTION"
            return ILayer(kind, _TYPES[self._file["held"]][index])

        def get_input(self, index: int) -> ITensor:
            return ITensor("input", (int(self._file["batch"]), *IMAGE), "FLOAT")

        def get_output(self, index: int) -> ITensor:
            return ITensor("logits", (int(self._file["batch"]), CLASSES), "FLOAT")

    class ParserError:
        code, desc, node = (
            (lambda self: "ErrorCode.UNSUPPORTED_NODE"),
            (lambda self: "no importer\nfor it"),
            (lambda self: 0),
        )
        node_name, node_operator = (lambda self: "layer3/frob"), (lambda self: "Frob")
        local_function_stack = lambda self: ["block"]  # noqa: E731

    class OnnxParser:
        def __init__(self, network: INetworkDefinition, logger: Any) -> None:
            self._network, self._logger, self.num_errors = network, logger, 0

        def parse_from_file(self, path: str) -> bool:
            found = dict(entry.split("=") for entry in Path(path).read_text().split())
            self._network._file = {"batch": "-1", "held": "fp32", **found}
            if found.get("fail") == "parse":
                self._logger.log(named("ERROR"), 'While parsing node number 0 [Frob -> "y"]:')
                self._logger.log(named("ERROR"), "--- Begin node ---")
                self._logger.log(named("ERROR"), _NODE)
                self.num_errors = 2
                return False
            self._network.num_inputs = self._network.num_outputs = 1
            self._network.num_layers = len(_TYPES[self._network._file["held"]])
            return True

        def get_error(self, index: int) -> ParserError:
            return ParserError()

    class ITimingCache:
        def __init__(self, content: bytes) -> None:
            self._content = content

        def serialize(self) -> bytes:
            return self._content + b"+"

    class IOptimizationProfile:
        def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
            self._batches = [shape[0] for shape in (least, best, most)]

    class IBuilderConfig:
        def __init__(self) -> None:
            self._flags = set()
            self._cache = None

        def set_flag(self, flag: Any) -> None:
            self._flags.add(flag)

        def get_flag(self, flag: Any) -> bool:
            return flag in self._flags

        def set_memory_pool_limit(self, pool: Any, size: int) -> None:
            asked.append(("limit", pool.name, size))

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            self._batches = profile._batches
            return 0

        def create_timing_cache(self, content: bytes) -> ITimingCache:
            return ITimingCache(content)

        def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
            if cache._content == ELSEWHERE and not ignore_mismatch:
                return False
            self._cache = cache
            return True

        def get_timing_cache(self) -> ITimingCache | None:
            return self._cache

    class Builder:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def create_network(self, flags: int) -> INetworkDefinition:
            asked.append(("network", flags))
            return INetworkDefinition()

        create_builder_config = staticmethod(IBuilderConfig)
        create_optimization_profile = staticmethod(IOptimizationProfile)

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
            asked.append(("build", network._file, config.profiling_verbosity.name))
            if network._file.get("fail") == "build":
                self._logger.log(named("WARNING"), "Skipping tactic 0x1 due to insufficient memory")
                self._logger.log(named("ERROR"), "no implementation\nfor layer3/frob")
                return None
            for line in SPARSITY:
                self._logger.log(named("VERBOSE"), line)
            return json.dumps({**network._file, "batches": getattr(config, "_batches", None)}).encode()

    class ILogger:
        def log(self, severity: Any, message: str) -> None:
            raise NotImplementedError

    shown = [ITensor, ILayer, INetworkDefinition, ParserError, OnnxParser, ITimingCache, IOptimizationProfile]
    return [*shown, IBuilderConfig, Builder, ILogger]


def _running(release: Release) -> list[type]:
    asked = release.asked

    class IProfiler:
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            raise NotImplementedError

    class IExecutionContext:
        profiler = None

        def __init__(self, engine: ICudaEngine) -> None:
            self._engine, self._addresses, self._images = engine, {}, 0
            self._chosen = [False]  # the profile, once the stream has come to it
            self._shapes = [0]  # how often the shape was set; a graph is good for the one it was captured in
            self._ran = 0  # the shape in which it was run outside of a capture
            self._profiled = 0
            asked.append(("context", "made"))

        def __del__(self) -> None:
            asked.append(("context", "gone"))
            if id(self) in release.contexts:
                release.contexts.remove(id(self))

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            if release.contexts or index != 0:
                return False
            release.contexts.append(id(self))
            chosen = self._chosen
            return release.enqueue(stream, lambda: chosen.__setitem__(0, True))

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            least, most = self._engine._range()
            if not self._chosen[0] or name != "input" or shape[1:] != IMAGE or not least <= shape[0] <= most:
                return False
            self._shapes[0] += 1
            asked.append(("images", shape[0]))
            self._images = shape[0]
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (self._images or -1, *(IMAGE if name == "input" else (CLASSES,)))

        def set_tensor_address(self, name: str, address: int) -> bool:
            asked.append(("address", name))
            self._addresses[name] = address
            return True

        def execute_async_v3(self, stream: int) -> bool:
            if len(self._addresses) != 2 or not self._images or id(self) not in release.contexts:
                return False
            images, source, target = self._images, self._addresses["input"], self._addresses["logits"]
            shapes, shape = self._shapes, self._shapes[0]
            if self._ran != shape and release.capturing():
                return False  # NVIDIA: one plain run after the shape was set, then the capture
            self._ran = shape
            done = release.enqueue(stream, lambda: _compute(images, source, target, shapes[0] == shape))
            if done and self.profiler is not None:
                self._profiled += 1  # each run is told slower than the one before, in two pieces
                for part in (0.25, 0.75):
                    self.profiler.report_layer_time("conv1", part * self._profiled)
            asked.append(("run", images, self.profiler is not None))
            return done

    class EngineInspector:
        def get_engine_information(self, form: Any) -> str:
            return json.dumps(LAYERS) if form.name == "JSON" else "no"

    class ICudaEngine:
        num_io_tensors = 2
        device_memory_size, device_memory_size_v2 = 1000, 2000

        def __init__(self, plan: bytes) -> None:
            self._plan = json.loads(plan)
            release.engines += 1

        def __del__(self) -> None:
            release.engines -= 1

        def _range(self) -> tuple[int, int]:
            batches = self._plan["batches"] or [int(self._plan["batch"])]
            return batches[0], batches[-1]

        def get_tensor_name(self, index: int) -> str:
            return ("logits", "input")[index]  # no order is promised

        def get_tensor_mode(self, name: str) -> Any:
            return release.module.TensorIOMode.INPUT if name == "input" else -1

        def get_tensor_dtype(self, name: str) -> Any:
            return named("HALF") if self._plan.get("ports") == "half" else release.module.DataType.FLOAT

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return (int(self._plan["batch"]), *(IMAGE if name == "input" else (CLASSES,)))

        def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
            return [(images, *IMAGE) for images in self._plan["batches"]]

        def create_execution_context(self) -> IExecutionContext | None:
            return None if self._plan.get("fail") == "context" else IExecutionContext(self)

        def create_engine_inspector(self) -> EngineInspector:
            return EngineInspector()

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
            if plan == ELSEWHERE:
                self._logger.log(named("ERROR"), "expecting compute 8.7 got compute 7.2, please rebuild")
                return None
            return ICudaEngine(plan)

    return [IProfiler, IExecutionContext, EngineInspector, ICudaEngine, Runtime]


def _compute(images: int, source: int, target: int, of_this_shape: bool) -> None:
    """What a kernel does; one of a graph from before the shape was set again does something else."""
    given = np.ctypeslib.as_array((ctypes.c_float * (images * 4)).from_address(source)).reshape(images, 4)
    logits = np.ctypeslib.as_array((ctypes.c_float * (images * CLASSES)).from_address(target)).reshape(images, CLASSES)
    answer = given.sum(1, keepdims=True) * np.arange(1, CLASSES + 1, dtype=np.float32)
    logits[:] = answer if of_this_shape else np.nan
