"""Which TensorRT is here, and what it can do: one code for TensorRT 8.5 to 11 and for TensorRT for RTX.

Everything is decided by asking whether a name exists, never by a version number. `REQUIRED`, `NAMED` and `OPTIONAL` are
all the names that edgeprune uses; a test holds them against the published bindings of four releases. With TensorRT for
RTX parsing and building have been run; no line has run on a Jetson or on a GPU yet.
"""

import contextlib
import importlib
import sys
import time
from typing import IO, Any, Callable, Dict, Iterator, List, Optional

from runtimes.errors import UserError
from runtimes.trt_complaints import codes_of

LIBRARIES = ("tensorrt", "tensorrt_rtx")
TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT for RTX"}

# `Class.member`, in every release.
REQUIRED = (
    "Builder.build_serialized_network",
    "Builder.create_builder_config",
    "Builder.create_network",
    "Builder.create_optimization_profile",
    "BuilderFlag.SPARSE_WEIGHTS",
    "BuilderFlag.TF32",
    "DataType.FLOAT",
    "EngineInspector.get_engine_information",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.get_flag",
    "IBuilderConfig.get_timing_cache",
    "IBuilderConfig.profiling_verbosity",
    "IBuilderConfig.set_flag",
    "IBuilderConfig.set_memory_pool_limit",
    "IBuilderConfig.set_timing_cache",
    "ICudaEngine.create_engine_inspector",
    "ICudaEngine.create_execution_context",
    "ICudaEngine.get_tensor_dtype",
    "ICudaEngine.get_tensor_mode",
    "ICudaEngine.get_tensor_name",
    "ICudaEngine.get_tensor_profile_shape",
    "ICudaEngine.get_tensor_shape",
    "ICudaEngine.num_io_tensors",
    "IExecutionContext.execute_async_v3",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.profiler",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.set_optimization_profile_async",
    "IExecutionContext.set_tensor_address",
    "ILayer.get_output",
    "ILayer.num_outputs",
    "ILayer.type",
    "ILogger.log",
    "INetworkDefinition.get_input",
    "INetworkDefinition.get_layer",
    "INetworkDefinition.get_output",
    "INetworkDefinition.num_inputs",
    "INetworkDefinition.num_layers",
    "INetworkDefinition.num_outputs",
    "IOptimizationProfile.set_shape",
    "IProfiler.report_layer_time",
    "ITensor.dtype",
    "ITensor.name",
    "ITensor.shape",
    "ITimingCache.serialize",
    "LayerInformationFormat.JSON",
    "MemoryPoolType.WORKSPACE",
    "OnnxParser.get_error",
    "OnnxParser.num_errors",
    "OnnxParser.parse_from_file",
    "ParserError.code",
    "ParserError.desc",
    "ParserError.node",
    "ProfilingVerbosity.DETAILED",
    "Runtime.deserialize_cuda_engine",
    "TensorIOMode.INPUT",
    "init_libnvinfer_plugins",
)
# Members of enumerations that are known by their text, `value.name`: in every release too, under that very name.
NAMED = (
    "DataType.HALF",
    "DataType.INT8",
    "ILogger.ERROR",
    "ILogger.INFO",
    "ILogger.INTERNAL_ERROR",
    "ILogger.VERBOSE",
    "ILogger.WARNING",
    "LayerType.DEQUANTIZE",
    "LayerType.QUANTIZE",
)
# In some releases; each is asked for before it is used.
OPTIONAL = (
    "BuilderFlag.FP16",  # until 10: later precisions are in the file
    "BuilderFlag.INT8",
    "ComputeCapability.SM86",  # TensorRT for RTX builds without a GPU
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ICudaEngine.device_memory_size",  # until 10
    "ICudaEngine.device_memory_size_v2",  # since 10
    "IRuntimeCache",  # TensorRT for RTX, in place of the timing cache
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",  # until 10: later there is no other
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED",  # since 10
    "ParserError.local_function_stack",  # since 10, as the two below
    "ParserError.node_name",
    "ParserError.node_operator",
)

_MARKS = {"INTERNAL_ERROR": "E", "ERROR": "E", "WARNING": "W", "INFO": "I", "VERBOSE": "V"}
_SPARSITY = "(Sparsity)"
# Lines of each kind; of sparsity, which comes last, all. The rest is in the file.
_MOST_KEPT = {"E": 60, "W": 60, "low-memory": 40, "tactic-failed": 20}
_loggers: Dict[str, Any] = {}


class Journal:
    """What TensorRT says during one piece of work: all of it to `file`, what matters later in `kept`.

    TensorRT calls it from C++, where an exception would end the process: that of a beat waits in `failure`. A file that
    cannot be written any more, on a full disk, is no reason to give up an engine: `log_failure` says why it ends early.
    """

    def __init__(self, file: Optional[IO[str]] = None, beat: Optional[Callable[[], None]] = None) -> None:
        self.kept: List[str] = []  # errors, warnings, and lines about sparsity and memory
        self.errors: List[str] = []  # messages of the step at hand
        self.failure: Optional[BaseException] = None
        self.log_failure: Optional[str] = None
        self._room = dict(_MOST_KEPT)
        self._file, self._beat, self._last = file, beat, 0.0

    def next_step(self) -> None:
        """What was said before is not the cause of what fails from here on."""
        self.errors = []

    def take(self, severity: str, message: str) -> None:
        """One message."""
        mark = _MARKS.get(severity, "V")
        line = "[{}] [TRT] {}".format(mark, message)
        if mark == "E":
            self.errors.append(message)
        if _SPARSITY in message or self._has_room(mark, line):
            self.kept.append(line)
        try:
            self._write(line + "\n")
            if self._beat is not None and time.monotonic() - self._last >= 1.0:
                self._last = time.monotonic()
                self._beat()
        except BaseException as error:  # Ctrl-C too: it is raised when TensorRT is done
            self.failure = self.failure or error

    def said(self, otherwise: str) -> str:
        """The first error of this step, on one line; it tends to be the cause of the others."""
        return one_line(self.errors[0]) if self.errors else otherwise

    def end_log(self) -> None:
        """Close the file; nothing is written to it any more."""
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            self._log_failed(error)

    def _has_room(self, mark: str, line: str) -> bool:
        """Whether one more line of its kind is kept: many of one kind do not push out another."""
        kind = "E" if mark == "E" else next((code for code in codes_of(line) if code in _MOST_KEPT), mark)
        self._room[kind] = self._room.get(kind, 0) - 1
        return self._room[kind] >= 0

    def _write(self, text: str) -> None:
        try:
            if self._file is not None:
                self._file.write(text)
        except OSError as error:
            self._log_failed(error)
            file, self._file = self._file, None
            with contextlib.suppress(OSError):  # it writes what it still holds, and fails again
                if file is not None:
                    file.close()

    def _log_failed(self, error: OSError) -> None:
        self.log_failure = self.log_failure or "the log ends early: {}".format(one_line(str(error)))


class Library:
    """A TensorRT that is installed: its module, its name and version, and what it has."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.name = str(module.__name__)
        self.version = str(module.__version__)
        self.title = "{} {}".format(TITLES.get(self.name, self.name), self.version)

    def has(self, name: str) -> bool:
        """Whether `name`, such as "BuilderFlag.FP16", exists."""
        return self._find(name) is not None

    def get(self, name: str) -> Any:
        """What `name` is; None where it does not exist."""
        return self._find(name)

    @property
    def absent(self) -> List[str]:
        """The optional names that this release does not have."""
        return [name for name in OPTIONAL if not self.has(name)]

    @property
    def logger(self) -> Any:
        """The one logger of this process: TensorRT keeps the first that it is given, and ignores all others."""
        if self.name not in _loggers:
            _loggers[self.name] = _new_logger(self.module)
        return _loggers[self.name]

    @contextlib.contextmanager
    def telling(self, journal: Journal) -> Iterator[Any]:
        """What TensorRT says goes to `journal`; yields the logger. A failure of the journal is raised at the end."""
        logger = self.logger
        before, logger.journal = logger.journal, journal
        try:
            yield logger
        finally:
            logger.journal = before
        if journal.failure is not None:
            raise journal.failure

    def _find(self, name: str) -> Any:
        found = self.module
        for part in name.split("."):
            found = getattr(found, part, None)
        return found


def find_library(*names: str) -> Library:
    """The first of `names` (of `LIBRARIES`, where none is given) that can be imported.

    Raises:
        UserError: none is installed, or it cannot be loaded.
    """
    reasons = []
    for name in names or LIBRARIES:
        try:
            return Library(importlib.import_module(name))
        except Exception as error:  # its package raises whatever its libraries' loading raises
            reasons.append("{}: {}".format(name, one_line(str(error) or type(error).__name__)))
    raise UserError(
        "TensorRT is not installed ({})".format("; ".join(reasons)),
        "on a Jetson: `sudo apt install python3-libnvinfer`, and a venv needs --system-site-packages; to build without "
        "a GPU: `uv sync --group builder` or `{} -m pip install tensorrt-rtx-cu13`".format(sys.executable),
    )


def one_line(text: str) -> str:
    """`text` with all white space as single blanks."""
    return " ".join(text.split())


def _new_logger(module: Any) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]
        """Hands on to the journal of whoever is at work; without one, nothing is kept."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.journal: Optional[Journal] = None

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            if self.journal is not None:
                self.journal.take(str(severity.name), message)

    return Logger()
