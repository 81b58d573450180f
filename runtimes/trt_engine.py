"""An engine at work: buffers, one execution context, one stream, two events. float32 goes in and comes out.

Its logic is tested with stand-ins for NVIDIA's objects; it has never run on a GPU.
"""

import contextlib
import ctypes
import time
import traceback
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from runtimes.cuda import Cuda
from runtimes.errors import UserError
from runtimes.trt_adapter import Journal, Library, one_line
from runtimes.trt_inspector import inspected_layers
from runtimes.trt_logs import sparsity
from runtimes.trt_plan import batch_of, deserialized, port_names
from runtimes.trt_profile import times_ms
from runtimes.trt_receipt import receipt


class Port(NamedTuple):
    """The input or the output of an engine, with a buffer on each side that holds one batch."""

    name: str
    shape: Tuple[int, ...]  # of one image, or of one row of logits
    host: np.ndarray  # float32 (batch, *shape), in page-locked memory
    host_address: int
    device: int  # address


class TrtEngine:
    """A deserialized engine, ready to answer; see `runtimes.protocol.Engine` and `OnGpu`.

    It has one batch. `run` takes any number of images: more are answered in several steps, and zeros stand for those
    that are missing. So the shape of a context never changes, and a CUDA graph is never launched after another shape.
    """

    gpu_ns: Optional[List[int]]
    enqueue_ns: List[int]

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
        self.gpu_ns, self.enqueue_ns = [], []
        self.engine_bytes: Optional[int] = len(plan)
        self._library, self._cuda, self._journal, self._name = library, cuda, journal, name
        self._build_log = build_log
        self._receipt: Optional[Mapping[str, Any]] = None
        self._no_graph: Optional[str] = None if graph else "not asked for"
        self._graph: Optional[int] = None  # of the context below; both go together
        self._engine: Any = None
        self._working: Any = None  # the context that is timed
        self._host_wait = cuda.spin()
        library.logger.journal = journal
        with contextlib.ExitStack() as stack:
            stack.callback(self._drop_engine)
            self._engine = deserialized(library, plan, name, journal)
            self._allocate(stack)
            self._closing = stack.pop_all()

    def _allocate(self, stack: contextlib.ExitStack) -> None:
        cuda = self._cuda
        self._stream = self._held(stack, cuda.stream(), cuda.stream_destroy)
        self._events = [self._held(stack, cuda.event(), cuda.event_destroy) for _ in range(2)]
        source, target = port_names(self._library, self._engine, self._name)
        self._batch = batch_of(self._engine, source)
        self._input = self._port(stack, source, tuple(self._engine.get_tensor_shape(source))[1:])
        stack.callback(self._drop_context)  # where the next line fails
        self._working = self._context()
        self._output = self._port(stack, target, tuple(self._working.get_tensor_shape(target))[1:])
        stack.callback(self._drop_context)  # the context refers to the output: it goes first
        self._set_addresses(self._working)

    @property
    def context_bytes(self) -> Optional[int]:
        """Device memory of the activations; newer releases have another name for it."""
        for name in ("device_memory_size_v2", "device_memory_size"):
            size = getattr(self._engine, name, None)
            if size is not None:
                return int(size)
        return None

    @property
    def launch(self) -> Mapping[str, str]:
        """How it is run: `cuda_graph`, "used" or why not, and `host_wait`, "spin" or why not."""
        graph = "used" if self._graph is not None else self._no_graph or "not captured yet"
        return {"cuda_graph": graph, "host_wait": self._host_wait}

    @property
    def receipt(self) -> Mapping[str, Any]:
        """Which layers run sparse, see `runtimes.trt_receipt`; the layers are timed the first time it is asked for.

        Where there is no memory to time them, they have no times, and `reasons` says so.
        """
        if self._receipt is None:
            told, layers = sparsity("\n".join(self._build_log)), inspected_layers(self.inspected())
            times, reason = self._times_or_reason()
            found = receipt(told, layers, times)
            self._receipt = found if reason is None else {**found, "reasons": {"tactics.ms": reason}}
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
        parts = [batch[start : start + self._batch] for start in range(0, len(batch), self._batch)]
        on_gpu, enqueuing, answers = 0, 0, []
        for part in parts:
            answer, nanoseconds = self._answer(part)
            answers.append(answer)
            on_gpu += self._cuda.elapsed_ns(*self._events)
            enqueuing += nanoseconds
        if self.gpu_ns is not None:
            self.gpu_ns.append(on_gpu)
        self.enqueue_ns.append(enqueuing)
        return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def close(self) -> None:
        """Give back the graph and the context, then the buffers, the events and the stream, then the engine."""
        self._closing.close()

    def layer_times_ms(self) -> Dict[str, float]:
        """Layer -> GPU time of one batch, from runs apart.

        The context that is timed gives way to one for the profiler and is made anew afterwards, whatever happens: older
        releases lend an optimization profile to one context at a time.
        """
        self._drop_context()
        try:
            return self._profiled()
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # they refer to the profiler's context
            raise
        finally:
            self._working = self._context()
            self._set_addresses(self._working)

    def _times_or_reason(self) -> Tuple[Dict[str, float], Optional[str]]:
        try:
            return self.layer_times_ms(), None
        except UserError as error:  # no memory for the profiler
            if self._working is None:  # and none for the engine afterwards
                raise
            return {}, "layers are not timed: {}".format(error.message)

    def _profiled(self) -> Dict[str, float]:
        """The profiler's context is gone when this returns."""
        context, source = self._context(), self._input
        self._set_addresses(context)
        source.host.fill(0.0)
        self._cuda.to_device(source.device, source.host_address, source.host.nbytes, self._stream)
        return times_ms(self._library, context, self._execute)

    def _drop_context(self) -> None:
        graph, self._graph, self._working = self._graph, None, None
        if graph is not None:
            self._cuda.graph_destroy(graph)

    def _drop_engine(self) -> None:
        self._engine = None
        if self._library.logger.journal is self._journal:
            self._library.logger.journal = None

    def _held(self, stack: contextlib.ExitStack, address: int, give_back: Any) -> int:
        stack.callback(give_back, address)
        return address

    def _port(self, stack: contextlib.ExitStack, name: str, shape: Tuple[int, ...]) -> Port:
        size = self._batch * int(np.prod(shape, dtype=np.int64))
        device = self._held(stack, self._cuda.malloc(size * 4), self._cuda.free)
        address = self._held(stack, self._cuda.host_alloc(size * 4), self._cuda.host_free)
        memory: Any = (ctypes.c_float * size).from_address(address)
        host = np.frombuffer(memory, dtype=np.float32).reshape((self._batch, *shape))
        return Port(name, shape, host, address, device)

    def _context(self) -> Any:
        """A new context, set to the one batch."""
        self._journal.next_step()
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
        if not context.set_input_shape(self._input.name, (self._batch, *self._input.shape)):
            said = self._journal.said("no reason given")
            raise RuntimeError("TensorRT refuses {} images: {}".format(self._batch, said))
        return context

    def _set_addresses(self, context: Any) -> None:
        for port in (self._input, self._output):
            if not context.set_tensor_address(port.name, port.device):
                raise RuntimeError("TensorRT refuses the buffer of '{}'".format(port.name))

    def _answer(self, part: np.ndarray) -> Tuple[np.ndarray, int]:
        """The logits of at most one batch, and the nanoseconds that the host took to hand the network over."""
        cuda, stream, source, target = self._cuda, self._stream, self._input, self._output
        np.copyto(source.host[: len(part)], part)
        source.host[len(part) :] = 0.0
        cuda.to_device(source.device, source.host_address, source.host.nbytes, stream)
        graph = self._graph_of_context()
        cuda.record(self._events[0], stream)
        begin = time.perf_counter_ns()
        if graph is None:
            self._enqueue(self._working)
        else:
            cuda.launch(graph, stream)
        enqueuing = time.perf_counter_ns() - begin
        cuda.record(self._events[1], stream)
        cuda.to_host(target.host_address, target.device, target.host.nbytes, stream)
        cuda.synchronize(stream)
        return target.host[: len(part)].copy(), enqueuing

    def _graph_of_context(self) -> Optional[int]:
        """Captured at its first use, after one plain run as TensorRT asks for."""
        if self._graph is None and self._no_graph is None:
            try:
                self._graph = self._captured()
            except (RuntimeError, UserError) as error:
                self._no_graph = "it cannot be captured: {}".format(one_line(str(error)))
                self._journal.next_step()
        return self._graph

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
