"""The part of the CUDA runtime that an engine needs, through ctypes on libcudart. No other package is imported.

The calls and their order have run against a stand-in library only; nothing here has run on a GPU yet.

Attribute numbers and signatures are those of CUDA's driver_types.h and cuda_runtime_api.h, and hold from 11.4 to 13.
"""

import ctypes
import os
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from runtimes.cuda_places import libraries
from runtimes.errors import UserError

_MAJOR, _MINOR, _PROCESSORS = 75, 76, 16  # cudaDevAttrComputeCapabilityMajor, ...Minor, cudaDevAttrMultiProcessorCount
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind
_THREAD_LOCAL = 1  # cudaStreamCaptureModeThreadLocal
_NAME_BYTES, _PROPERTIES_BYTES = 256, 1 << 15  # the struct grows with each release; the name stays at its beginning

_OUT_OF_MEMORY = 2
# Initialisation failed, stub library, old driver, device busy, no device, not ready, driver mismatch, unknown.
_NO_DEVICE = frozenset((3, 34, 35, 36, 46, 100, 802, 803, 804, 999))
# The answers of a GPU that is there and not for this user or this container: the operating system's refusal, not
# permitted, not supported; and a device that is none. Only of the first call: a capture is "not supported" otherwise.
_FIRST = "cudaGetDeviceCount"
_NOT_YOURS = frozenset((304, 800, 801))
_NO_DEVICE_AT_FIRST = frozenset((101, *_NOT_YOURS))
_SPIN = 1  # cudaDeviceScheduleSpin

_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_OUT, _OUT_INT = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)

# Every function that is called, with its parameters; all give a cudaError_t but the two of `_TEXTS`.
FUNCTIONS: Dict[str, Tuple[Any, ...]] = {
    "cudaGetDeviceCount": (_OUT_INT,),
    "cudaDeviceGetAttribute": (_OUT_INT, _INT, _INT),
    "cudaDriverGetVersion": (_OUT_INT,),
    "cudaRuntimeGetVersion": (_OUT_INT,),
    "cudaGetLastError": (),
    "cudaSetDeviceFlags": (ctypes.c_uint,),
    "cudaMalloc": (_OUT, _SIZE),
    "cudaFree": (_POINTER,),
    "cudaHostAlloc": (_OUT, _SIZE, ctypes.c_uint),
    "cudaFreeHost": (_POINTER,),
    "cudaMemcpyAsync": (_POINTER, _POINTER, _SIZE, _INT, _POINTER),
    "cudaStreamCreate": (_OUT,),
    "cudaStreamDestroy": (_POINTER,),
    "cudaStreamSynchronize": (_POINTER,),
    "cudaEventCreate": (_OUT,),
    "cudaEventDestroy": (_POINTER,),
    "cudaEventRecord": (_POINTER, _POINTER),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _POINTER, _POINTER),
    "cudaStreamBeginCapture": (_POINTER, _INT),
    "cudaStreamEndCapture": (_POINTER, _OUT),
    "cudaGraphInstantiateWithFlags": (_OUT, _POINTER, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_POINTER, _POINTER),
    "cudaGraphExecDestroy": (_POINTER,),
    "cudaGraphDestroy": (_POINTER,),
}
_TEXTS = ("cudaGetErrorName", "cudaGetErrorString")
PROPERTIES = ("cudaGetDeviceProperties_v2", "cudaGetDeviceProperties")  # CUDA 12 has both, the others the second


class Gpu(NamedTuple):
    """Device 0, as CUDA sees it; CUDA_VISIBLE_DEVICES chooses which one that is."""

    name: str  # "Orin" for every Orin module: the multiprocessors tell some of them apart
    compute_capability: str  # "8.7"
    multiprocessors: int
    driver: str  # newest CUDA the driver can serve, "12.6"
    runtime: str  # CUDA of the libcudart in use


class Cuda:
    """One libcudart. What it gives out (buffers, streams, events, graphs) are addresses, to be given back by the user.

    Every method raises `UserError` where there is no usable GPU or its memory is full, and `RuntimeError` for any other
    error, with CUDA's name for it.
    """

    def __init__(self, path: str) -> None:
        """Load the library at `path`; an `OSError` or `AttributeError` says that it is none."""
        self._path = path
        self._library = ctypes.CDLL(path)
        texts = dict.fromkeys(_TEXTS, (_INT,))
        for name, parameters in {**FUNCTIONS, **texts}.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = list(parameters), ctypes.c_char_p if name in texts else _INT

    def gpu(self) -> Gpu:
        """Device 0; a `UserError` where there is none."""
        if self._number(_FIRST) < 1:
            raise _no_gpu(self._path, "it counts 0 devices")
        major, minor = self._attribute(_MAJOR), self._attribute(_MINOR)
        versions = [self._number(name) for name in ("cudaDriverGetVersion", "cudaRuntimeGetVersion")]
        driver, runtime = ["{}.{}".format(value // 1000, value % 1000 // 10) for value in versions]
        return Gpu(self._name(), "{}.{}".format(major, minor), self._attribute(_PROCESSORS), driver, runtime)

    def spin(self) -> str:
        """Have the host spin while it waits for the GPU, as `trtexec --useSpinWait`; to be called before a stream is.

        On a Jetson CUDA may otherwise put the thread to sleep, and its waking up is then part of every latency.

        Returns:
            "spin", or what CUDA said against it.
        """
        try:
            self._call("cudaSetDeviceFlags", _SPIN)
        except RuntimeError as error:
            return "CUDA's default: {}".format(error)
        return "spin"

    def malloc(self, size: int) -> int:
        """`size` bytes on the device."""
        return self._made("cudaMalloc", size)

    def free(self, pointer: int) -> None:
        """Give back what `malloc` gave."""
        self._call("cudaFree", pointer)

    def host_alloc(self, size: int) -> int:
        """`size` bytes of page-locked host memory: copies from there are asynchronous."""
        return self._made("cudaHostAlloc", size, 0)

    def host_free(self, pointer: int) -> None:
        """Give back what `host_alloc` gave."""
        self._call("cudaFreeHost", pointer)

    def to_device(self, device: int, host: int, size: int, stream: int) -> None:
        """Copy `size` bytes, in the order of `stream`."""
        self._call("cudaMemcpyAsync", device, host, size, _TO_DEVICE, stream)

    def to_host(self, host: int, device: int, size: int, stream: int) -> None:
        """Copy `size` bytes back, in the order of `stream`."""
        self._call("cudaMemcpyAsync", host, device, size, _TO_HOST, stream)

    def stream(self) -> int:
        """A new stream."""
        return self._made("cudaStreamCreate")

    def stream_destroy(self, stream: int) -> None:
        """Give back a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until all that was put into `stream` is done."""
        self._call("cudaStreamSynchronize", stream)

    def event(self) -> int:
        """A new event, with timing."""
        return self._made("cudaEventCreate")

    def event_destroy(self, event: int) -> None:
        """Give back an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Note the GPU's time when `stream` comes to this point."""
        self._call("cudaEventRecord", event, stream)

    def elapsed_ns(self, begin: int, end: int) -> int:
        """GPU time between two recorded events that have passed, in ns; CUDA resolves about 500 ns."""
        milliseconds = ctypes.c_float()
        self._call("cudaEventElapsedTime", ctypes.byref(milliseconds), begin, end)
        return round(milliseconds.value * 1e6)

    def begin_capture(self, stream: int) -> None:
        """Record what is put into `stream` from now on, by this thread, instead of running it."""
        self._call("cudaStreamBeginCapture", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """The graph of what was recorded, ready to launch."""
        graph = self._made("cudaStreamEndCapture", stream, out_last=True)
        try:
            return self._made("cudaGraphInstantiateWithFlags", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        """Leave the recording after something in it failed; the error that CUDA remembers of it is forgotten."""
        graph = ctypes.c_void_p()
        self._library.cudaStreamEndCapture(stream, ctypes.byref(graph))  # says again what has failed
        if graph.value:
            self._call("cudaGraphDestroy", graph.value)
        self._library.cudaGetLastError()

    def launch(self, graph: int, stream: int) -> None:
        """Run a graph."""
        self._call("cudaGraphLaunch", graph, stream)

    def graph_destroy(self, graph: int) -> None:
        """Give back what `end_capture` gave."""
        self._call("cudaGraphExecDestroy", graph)

    def _name(self) -> str:
        """The struct of the properties differs between releases, so only its first field is read."""
        function = next((found for name in PROPERTIES for found in [getattr(self._library, name, None)] if found), None)
        if function is None:
            return "unknown"
        function.argtypes, function.restype = [ctypes.c_char_p, _INT], _INT
        buffer = ctypes.create_string_buffer(_PROPERTIES_BYTES)
        self._check(str(function.__name__), function(buffer, 0))
        return buffer.raw[:_NAME_BYTES].split(b"\0")[0].decode("utf-8", "replace")

    def _attribute(self, attribute: int) -> int:
        value = ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(value), attribute, 0)
        return value.value

    def _number(self, name: str) -> int:
        value = ctypes.c_int()
        self._call(name, ctypes.byref(value))
        return value.value

    def _made(self, name: str, *arguments: int, out_last: bool = False) -> int:
        """What a function writes to its first (or last) parameter: a new address."""
        made = ctypes.c_void_p()
        out = ctypes.byref(made)
        self._call(name, *((*arguments, out) if out_last else (out, *arguments)))
        if not made.value:
            raise RuntimeError("{} said that all is well and gave nothing".format(name))
        return made.value

    def _call(self, name: str, *arguments: Any) -> None:
        self._check(name, getattr(self._library, name)(*arguments))

    def _check(self, name: str, code: int) -> None:
        if code == 0:
            return
        self._library.cudaGetLastError()  # it is told here, and not again by the next call
        name_of, text = [getattr(self._library, get)(code).decode("utf-8", "replace") for get in _TEXTS]
        said = "{}: {} ({} {})".format(name, text, name_of, code)
        if code in _NO_DEVICE or (name == _FIRST and code in _NO_DEVICE_AT_FIRST):
            raise _no_gpu(self._path, said, not_yours=code in _NOT_YOURS)
        if code == _OUT_OF_MEMORY:
            raise UserError("the GPU has no memory left: {}".format(said), "end what else uses it, or lower `batch`")
        raise RuntimeError(said)


def open_cuda() -> Cuda:
    """The first libcudart on this machine that sees a GPU.

    A runtime that is newer than the driver sees none, so each place is tried: JetPack's and the desktop's, what the
    loader knows, and Python's packages.

    Raises:
        UserError: no libcudart, or none that sees a GPU; it says what the first one said.
    """
    failures: List[UserError] = []
    for path in libraries():
        try:
            cuda = Cuda(path)
            cuda.gpu()
        except UserError as error:
            failures.append(error)
        except (OSError, AttributeError, RuntimeError) as error:  # not for this machine, no libcudart, or an odd one
            failures.append(_no_gpu(path, str(error)))
        else:
            return cuda
    if failures:
        raise failures[0]
    raise UserError(
        "the CUDA runtime (libcudart) is not on this machine",
        "on a Jetson: `sudo apt install nvidia-jetpack`; elsewhere install NVIDIA's driver and CUDA's runtime",
    )


def find_gpu() -> Optional[Gpu]:
    """The GPU of this machine, None where CUDA sees none."""
    try:
        return open_cuda().gpu()
    except UserError:
        return None


def _no_gpu(path: str, said: str, not_yours: bool = False) -> UserError:
    look = "look at `nvidia-smi` (on a Jetson: `tegrastats`), and at the driver's version"
    if not_yours:
        look = "the GPU may not be open to this user or container; on a Jetson: `sudo usermod -aG video,render $USER`, "
        look += "then log in again"
    return UserError(
        "no GPU that CUDA can use: {}".format(said), "{} was asked; {}".format(os.path.basename(path), look)
    )
