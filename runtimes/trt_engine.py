"""An engine at work: buffers, one execution context, one stream, two events. float32 goes in and comes out.

Its logic is tested with stand-ins for NVIDIA's objects; it has never run on a GPU.
"""

import contextlib
import ctypes
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.cuda import Cuda
from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library, one_line
from runtimes.trt_logs import inspected_layers, sparsity
from runtimes.trt_profile import times_ms
from runtimes.trt_receipt import receipt


class Port(NamedTuple):
    """The input or the output of an engine, with a buffer on each side that holds the largest batch."""

    name: str
    shape: Tuple[int, ...]  # of one image, or of one row of logits
    host: np.ndarray  # float32 (largest batch, *shape), in page-locked memory
    host_address: int
    device: int  # address

    def bytes_of(self, images: int) -> int:
        """What so many images take."""
        return images * int(np.prod(self.shape, dtype=np.int64)) * 4


class TrtEngine:
    """A deserialized engine, ready to answer; see `runtimes.protocol.Engine`.

    `run` takes any number of images: more than the engine's largest batch are answered in several steps, and a
    network whose batch is fixed gets zeros for the images that are missing.
    """

    gpu_ns: Optional[List[int]]

    def __init__(
        self,
        library: Library,
        plan: bytes,
        name: str,
        cuda: Cuda,
        journal: Journal,
        graph: bool,
        build_log: Sequence[str] = (),
    ) -> None:
        """Deserialize and allocate everything; after an error nothing is held.

        Args:
            plan: the serialized engine; `name` is what messages call it.
            journal: gets what TensorRT says from now on.
            graph: launch the network as a CUDA graph, where it can be captured.
            build_log: what TensorRT said of sparsity while it built the engine.
        """
        self.gpu_ns = []
        self.graph_reason: Optional[str] = None if graph else "not asked for"  # why there is no graph
        self.engine_bytes: Optional[int] = len(plan)
        self._library, self._cuda, self._journal, self._name = library, cuda, journal, name
        self._build_log = build_log
        self._receipt: Optional[Mapping[str, Any]] = None
        self._graphs: Dict[int, int] = {}
        self._engine: Any = None
        self._working: Any = None  # the context that is timed
        self._images = 0  # that the context is set to
        library.logger.journal = journal
        with contextlib.ExitStack() as stack:
            stack.callback(self._drop_engine)
            self._engine = deserialized(library, plan, name, journal)
            self._stream = self._held(stack, cuda.stream(), cuda.stream_destroy)
            self._events = [self._held(stack, cuda.event(), cuda.event_destroy) for _ in range(2)]
            source, target = _port_names(library, self._engine, name)
            self._batches = _batches(self._engine, source)
            self._input = self._port(stack, source, tuple(self._engine.get_tensor_shape(source))[1:])
            stack.callback(self._drop_context)
            self._working = self._context()
            self._set_images(self._working, self._batches[1])
            self._output = self._port(stack, target, tuple(self._working.get_tensor_shape(target))[1:])
            self._set_addresses(self._working)
            self._closing = stack.pop_all()

    @property
    def context_bytes(self) -> Optional[int]:
        """Device memory of the activations at the largest batch; newer releases have another name for it."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            size = getattr(self._engine, name, None)
            if size is not None:
                return int(size)
        return None

    @property
    def receipt(self) -> Mapping[str, Any]:
        """Which layers run sparse, see `runtimes.trt_receipt`; the layers are timed the first time it is asked for."""
        if self._receipt is None:
            told, layers = sparsity("\n".join(self._build_log)), inspected_layers(self.inspected())
            self._receipt = receipt(told, layers, self.layer_times_ms())
        return self._receipt

    def inspected(self) -> str:
        """What the engine says of its layers, JSON."""
        module = self._library.module
        return str(self._engine.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON))

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The logits, float32 (N, classes), of `batch`, float32 (N, C, H, W)."""
        if batch.shape[1:] != self._input.shape:
            raise UserError(
                "{} takes images of the shape {}, and got {}".format(self._name, self._input.shape, batch.shape[1:]),
                "the images and the network belong to different bundles",
            )
        most = self._batches[1]
        parts = [batch[start : start + most] for start in range(0, len(batch), most)]
        nanoseconds, answers = 0, []
        for part in parts:
            answers.append(self._answer(part))
            nanoseconds += self._cuda.elapsed_ns(*self._events)
        if self.gpu_ns is not None:
            self.gpu_ns.append(nanoseconds)
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def close(self) -> None:
        """Give back the graphs and the context, then the buffers, the events and the stream, then the engine."""
        self._closing.close()

    def layer_times_ms(self) -> Dict[str, float]:
        """Layer -> GPU time at the batch that kernels were chosen for, from runs apart.

        The context that is timed gives way to one for the profiler and is made anew afterwards: older releases lend an
        optimization profile to one context at a time.
        """
        self._drop_context()
        times = self._profiled()
        self._working, self._images = self._context(), 0
        self._set_addresses(self._working)
        return times

    def _profiled(self) -> Dict[str, float]:
        """The profiler's context is gone when this returns."""
        context, source = self._context(), self._input
        self._set_addresses(context)
        self._set_images(context, self._batches[0])
        source.host.fill(0.0)
        self._cuda.to_device(source.device, source.host_address, source.host.nbytes, self._stream)
        return times_ms(self._library, context, lambda: self._execute(context))

    def _drop_context(self) -> None:
        for graph in self._graphs.values():
            self._cuda.graph_destroy(graph)
        self._graphs = {}
        self._working = None

    def _drop_engine(self) -> None:
        self._engine = None
        if self._library.logger.journal is self._journal:
            self._library.logger.journal = None

    def _held(self, stack: contextlib.ExitStack, address: int, give_back: Any) -> int:
        stack.callback(give_back, address)
        return address

    def _port(self, stack: contextlib.ExitStack, name: str, shape: Tuple[int, ...]) -> Port:
        images = self._batches[1]
        size = images * int(np.prod(shape, dtype=np.int64))
        device = self._held(stack, self._cuda.malloc(size * 4), self._cuda.free)
        address = self._held(stack, self._cuda.host_alloc(size * 4), self._cuda.host_free)
        memory: Any = (ctypes.c_float * size).from_address(address)
        host = np.frombuffer(memory, dtype=np.float32).reshape((images, *shape))
        return Port(name, shape, host, address, device)

    def _context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            said = self._journal.said("it gave no context and no reason")
            raise UserError(
                "{} cannot run {}: {}".format(self._library.title, self._name, said),
                "free some memory on the device, or build with a smaller `batch`",
            )
        if not context.set_optimization_profile_async(0, self._stream):
            raise RuntimeError("TensorRT refuses its own optimization profile: {}".format(self._journal.said("")))
        self._cuda.synchronize(self._stream)
        return context

    def _set_addresses(self, context: Any) -> None:
        for port in (self._input, self._output):
            if not context.set_tensor_address(port.name, port.device):
                raise RuntimeError("TensorRT refuses the buffer of '{}'".format(port.name))

    def _set_images(self, context: Any, images: int) -> None:
        if not context.set_input_shape(self._input.name, (images, *self._input.shape)):
            raise RuntimeError("TensorRT refuses {} images: {}".format(images, self._journal.said("no reason given")))

    def _answer(self, part: np.ndarray) -> np.ndarray:
        images = len(part) if self._batches[0] != self._batches[1] else self._batches[1]
        if images != self._images:
            self._set_images(self._working, images)
            self._images = images
        cuda, stream, source, target = self._cuda, self._stream, self._input, self._output
        np.copyto(source.host[: len(part)], part)
        source.host[len(part) : images] = 0.0
        cuda.to_device(source.device, source.host_address, source.bytes_of(images), stream)
        graph = self._graph(images)
        cuda.record(self._events[0], stream)
        if graph is None:
            self._enqueue(self._working)
        else:
            cuda.launch(graph, stream)
        cuda.record(self._events[1], stream)
        cuda.to_host(target.host_address, target.device, target.bytes_of(images), stream)
        cuda.synchronize(stream)
        return target.host[: len(part)].copy()

    def _graph(self, images: int) -> Optional[int]:
        """The graph of this batch; captured at its first use, after one plain run as TensorRT asks for."""
        if self.graph_reason is not None:
            return None
        if images not in self._graphs:
            try:
                self._graphs[images] = self._captured()
            except (RuntimeError, UserError) as error:
                self.graph_reason = "it cannot be captured: {}".format(one_line(str(error)))
                return None
        return self._graphs[images]

    def _captured(self) -> int:
        self._execute(self._working)
        self._cuda.begin_capture(self._stream)
        try:
            self._enqueue(self._working)
        except RuntimeError:
            self._cuda.abandon_capture(self._stream)
            raise
        return self._cuda.end_capture(self._stream)

    def _execute(self, context: Any) -> None:
        self._enqueue(context)
        self._cuda.synchronize(self._stream)

    def _enqueue(self, context: Any) -> None:
        if not context.execute_async_v3(self._stream):
            raise RuntimeError("TensorRT did not run {}: {}".format(self._name, self._journal.said("no reason given")))


def deserialized(library: Library, plan: bytes, name: str, journal: Journal) -> Any:
    """The engine in `plan`; a `UserError` with TensorRT's words where it does not take it."""
    with library.telling(journal) as logger:
        library.module.init_libnvinfer_plugins(logger, "")
        try:
            engine = library.module.Runtime(logger).deserialize_cuda_engine(plan)
        except Exception as error:  # pybind11 hands on what C++ throws
            raise _not_loaded(library, name, journal.said(one_line(str(error)))) from error
    if engine is None:
        raise _not_loaded(library, name, journal.said("no reason given"))
    return engine


def _not_loaded(library: Library, name: str, said: str) -> UserError:
    return UserError(
        "{} cannot load {}: {}".format(library.title, name, said), "delete it: it is built again from the ONNX file"
    )


def _port_names(library: Library, engine: Any, name: str) -> Tuple[str, str]:
    """The one input and the one output, both float32."""
    module = library.module
    found: Dict[bool, List[str]] = {True: [], False: []}
    for index in range(engine.num_io_tensors):
        tensor = engine.get_tensor_name(index)
        found[engine.get_tensor_mode(tensor) == module.TensorIOMode.INPUT].append(tensor)
        if engine.get_tensor_dtype(tensor) != module.DataType.FLOAT:
            raise UserError(
                "'{}' of {} is {}, not float32".format(tensor, name, engine.get_tensor_dtype(tensor)),
                "export it with float32 inputs and outputs, as `edgeprune export` does",
            )
    if [len(names) for names in found.values()] != [1, 1]:
        raise UserError(
            "{} has the inputs {} and the outputs {}".format(name, found[True], found[False]),
            "a classifier with one image input and one output of logits is expected",
        )
    return found[True][0], found[False][0]


def _batches(engine: Any, source: str) -> Tuple[int, int]:
    """The batch that kernels were chosen for, and the largest; equal where the batch is fixed."""
    first = int(next(iter(engine.get_tensor_shape(source))))
    if first > 0:
        return first, first
    _, best, most = [tuple(shape) for shape in engine.get_tensor_profile_shape(source, 0)]
    return best[0], most[0]
