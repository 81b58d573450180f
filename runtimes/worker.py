"""One engine in one process: `python3 -m runtimes.worker`, started by `runtimes.measure` and by nobody else.

It reads one JSON object a line from its standard input and answers with one on what was its standard output. Between
two commands it is blocked in that read, so that it takes nothing from the engine that is being timed.

The first line is the job: {"runtime", "file", "precision", "engines", "build", "images": [...], "preprocess",
"workload"}, with the network's file, or the engine's where another worker has compiled it, and the number of that
build. The others are {"do": "compile" | "load" | "round" | "answer", ...}; each gets {"ok": {...}} or
{"error": [message, hint]}, and before that any number of {"at": done} so that a long command is seen to be alive.
Anything else ends the process, with a traceback on standard error.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from runtimes import RUNTIMES, sampler
from runtimes.errors import UserError
from runtimes.files import read_json, replacing, sha256
from runtimes.inputs import batches, timed_batches
from runtimes.lifetime import end_with_parent
from runtimes.null import Idle
from runtimes.protocol import Compiler, Engine, OnGpu, Prepared, Runtime
from runtimes.records import Workload
from runtimes.tables import pick, resolve
from runtimes.timing import time_calls

_SETTLE = 0.1  # of a round passes before it is timed
_OVERHEAD_SAMPLES = 2000
_ACCURACY_BYTES = 4 << 20  # of a batch's inputs
_MIB = float(1 << 20)


class Session:
    """The commands, one method each, and the engine they share."""

    def __init__(self, job: Mapping[str, Any], say: Callable[[Dict[str, Any]], None]) -> None:
        self._say = say
        self._file = Path(job["file"])
        self._images = [Path(name) for name in job["images"]]
        self._preprocess = job["preprocess"]
        self._workload = Workload.from_json(job["workload"])
        keep_to(self._workload.cpus)  # before the runtime's library is imported: its threads inherit it
        self._runtime: Runtime = resolve(pick(RUNTIMES, job["runtime"], "runtime"))
        self._inputs: List[np.ndarray] = []
        self._engine: Optional[Engine] = None
        self._calls = 0
        self._engines = Path(job["engines"])
        own = {"threads": self._workload.threads, "batch": self._workload.batch, "precision": job["precision"]}
        if hasattr(self._runtime, "compile"):
            own["build"] = job["build"]
        self._options = {**self._workload.options, **{name: str(value) for name, value in own.items()}}
        self._version = _usable(job["runtime"], self._runtime, self._file, self._options)

    def version(self) -> Dict[str, Any]:
        """What the runtime calls itself."""
        return {"runtime_version": self._version}

    def compile(self) -> Dict[str, Any]:
        """Make the engine: its file, and what stands beside it, from what, with what and where it was made.

        A builder leaves memory behind, so this process is not the one in which the engine is measured.
        """
        compiler: Compiler = self._runtime  # type: ignore[assignment]
        self._engines.mkdir(parents=True, exist_ok=True)
        made = compiler.compile(self._file, self._engines, self._options, lambda: self._say({"at": 0}))
        return {"file": str(made), "engine": read_json(made.with_name(made.name + ".json"))}

    def load(self) -> Dict[str, Any]:
        """Load the engine, answer once, warm up, and time an empty engine in the same loop."""
        self._inputs = timed_batches(self._images, self._workload.batch, self._preprocess)
        baseline, available = sampler.own_memory().get("VmRSS"), sampler.memory().get("MemAvailable")
        begin = time.perf_counter_ns()
        self._engine = self._runtime.load(self._file, self._options)
        loaded = time.perf_counter_ns()
        answer = self._engine.run(self._inputs[0])
        answered = time.perf_counter_ns()
        receipt = self._engine.receipt  # its layers are timed now, before the warm-up
        _check_answer(answer, self._inputs[0])
        time_calls(self._engine.run, self._inputs, lambda n, seconds: seconds < self._workload.warmup_s)
        empty = time_calls(Idle().run, self._inputs, lambda n, seconds: n < _OVERHEAD_SAMPLES, settle_s=0.005)
        return {
            "load_ms": (loaded - begin) / 1e6,
            "first_inference_ms": (answered - loaded) / 1e6,
            "harness_overhead_ns": float(np.median(empty)),
            "classes": int(answer.shape[-1]),
            "memory_mb": _memory(self._engine, baseline, available),
            "receipt": receipt,
        }

    def round(self) -> Dict[str, Any]:
        """Time one round: latencies in nanoseconds, how long it was timed, and the processor time that it took.

        Of an engine on a GPU also the GPU's times and the host's for handing over, one for each latency.
        """
        engine, work = self._loaded(), self._workload
        rounds, timed_s = work.passes * work.rounds, 0.0
        share, most = -(-work.min_samples // rounds), max(1, work.max_samples // rounds)
        begin = time.process_time()
        _read_gpu(engine, 0)  # of the warm-up

        def more(n: int, seconds: float) -> bool:
            nonlocal timed_s
            timed_s = seconds
            if n == 0:
                return True
            return n < most and (seconds < work.round_s or (n < share and seconds < work.longest_round_s))

        samples = time_calls(engine.run, self._inputs, more, self._calls, settle_s=_SETTLE * work.round_s)
        self._calls += len(samples)
        return {
            "latency_ns": samples,
            **_read_gpu(engine, len(samples)),
            "timed_s": timed_s,
            "cpu_s": time.process_time() - begin,
            "peak_rss": _peak_rss(),
        }

    def answer(self, path: str, n: int, classes: int) -> Dict[str, Any]:
        """Run all `n` images through the engine and write its logits, float32 (n, classes), to the .npy at `path`."""
        engine, done, odd = self._loaded(), 0, 0
        head = {"descr": "<f4", "fortran_order": False, "shape": (n, classes)}
        with replacing(Path(path)) as temporary, open(str(temporary), "wb") as file:
            np.lib.format.write_array_header_1_0(file, head)
            for batch in batches(self._images, self._accuracy_batch(), self._preprocess):
                logits = engine.run(batch)
                _check_answer(logits, batch, classes)
                odd += int((~np.isfinite(logits)).sum())
                file.write(np.ascontiguousarray(logits, dtype="<f4").tobytes())
                done += len(batch)
                self._say({"at": done})
            if done != n:
                raise UserError(
                    "the bundle holds {} images where its manifest says {}".format(done, n), "copy it again"
                )
        return {"n": n, "classes": classes, "sha256": sha256(Path(path)), "non_finite": odd}

    def _accuracy_batch(self) -> int:
        """Images at once: what a runtime takes for a large batch it may never give back, and a board has little."""
        fitting: int = _ACCURACY_BYTES // self._inputs[0][0].nbytes
        return max(1, min(self._workload.accuracy_batch, fitting))

    def close(self) -> None:
        """Close the engine, if there is one."""
        if self._engine is not None:
            self._engine.close()

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("a command came before `load`")
        return self._engine


def keep_to(cpus: Sequence[int]) -> None:
    """Let every thread of this process run on these processors only; on all it may use where none is named.

    Raises:
        UserError: one of them does not exist, or is not given to this process.
    """
    if not cpus:
        return
    wanted = ",".join(map(str, cpus))
    if not hasattr(os, "sched_setaffinity"):
        raise UserError("this system does not keep a process to the processors {}".format(wanted), "leave out --cpus")
    before = sorted(os.sched_getaffinity(0))
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):  # where none of them is possible; what is read back says so
            os.sched_setaffinity(int(thread), cpus)
    if sorted(os.sched_getaffinity(0)) != sorted(cpus):
        raise UserError(
            "the engines cannot be kept to the processors {}".format(wanted),
            "this process may use {}".format(",".join(map(str, before))),
        )


def _usable(name: str, runtime: Runtime, file: Path, options: Mapping[str, str]) -> str:
    """The version of the runtime's library; one that cannot run here is a `UserError`."""
    if hasattr(runtime, "prepare"):
        prepared: Prepared = runtime  # type: ignore[assignment]
        return prepared.prepare(file, options)
    lacks = runtime.missing()
    if lacks:
        raise UserError("the runtime '{}' cannot run here".format(name), lacks)
    return runtime.version()


def _read_gpu(engine: Engine, n: int) -> Dict[str, Any]:
    """The last `n` times of the GPU's clock and of handing over, in nanoseconds; all are forgotten. And how it is run.

    Before them are those of the calls that were not timed.
    """
    if engine.gpu_ns is None:
        return {"gpu_ns": None, "enqueue_ns": None, "launch": None}
    on_gpu = _taken(engine.gpu_ns, n)
    if not hasattr(engine, "launch"):
        return {"gpu_ns": on_gpu, "enqueue_ns": None, "launch": None}
    handed: OnGpu = engine  # type: ignore[assignment]
    return {"gpu_ns": on_gpu, "enqueue_ns": _taken(handed.enqueue_ns, n), "launch": dict(handed.launch)}


def _taken(times: List[int], n: int) -> List[int]:
    last = times[max(0, len(times) - n) :]
    times.clear()
    return last


def _check_answer(answer: np.ndarray, batch: np.ndarray, classes: Optional[int] = None) -> None:
    answers_nothing = classes is None and answer.ndim == 2 and answer.shape[1] == 0
    if answers_nothing or (answer.shape == (len(batch), classes or answer.shape[-1]) and answer.ndim == 2):
        return
    raise UserError(
        "the network answers {} images with an array of shape {}".format(len(batch), answer.shape),
        "a classifier's logits are expected: one row for each image, one column for each class",
    )


def _memory(engine: Engine, baseline: Optional[int], available: Optional[int]) -> Dict[str, Any]:
    """MiB of this process and of its engine once it is warm; what is not known is None with a reason.

    `available_delta` is how much less memory the whole machine had to give than before the load, so it also counts
    what a driver holds for the engine, and what anybody else took or freed in the meantime.
    """
    now = sampler.memory().get("MemAvailable")
    measured: Dict[str, Tuple[Optional[int], str]] = {
        "peak_rss": (_peak_rss(), "neither VmHWM nor ru_maxrss"),
        "resident": (sampler.own_memory().get("VmRSS"), "no VmRSS in /proc/self/status"),
        "baseline": (baseline, "no VmRSS in /proc/self/status"),
        "available_delta": (available - now if available and now else None, "no MemAvailable in /proc/meminfo"),
        "engine": (engine.engine_bytes, "the runtime does not say"),
        "context": (engine.context_bytes, "the runtime does not say"),
    }
    sizes: Dict[str, Any] = {name: None if size is None else size / _MIB for name, (size, _) in measured.items()}
    sizes["reasons"] = {name: reason for name, (size, reason) in measured.items() if size is None}
    return sizes


def _peak_rss() -> Optional[int]:
    """Bytes. VmHWM first: ru_maxrss starts at what the parent held when it forked."""
    peak = sampler.own_memory().get("VmHWM")
    if peak is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _private_channel() -> Tuple[IO[str], IO[str]]:
    """The pipes to the coordinator, moved away from 0 and 1: what a library prints goes to standard error."""
    commands, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    silence = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silence, 0)
    os.close(silence)
    os.dup2(2, 1)
    return commands, answers


def _end_with_the_coordinator() -> None:
    """Where the system does not see to it, the end of its input ends this process, one command later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the coordinator's to handle
    end_with_parent()


def serve(commands: IO[str], answers: IO[str]) -> None:
    """Take the job, then commands until there are no more."""

    def say(content: Dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    session: Optional[Session] = None
    for line in iter(commands.readline, ""):
        request = json.loads(line)
        try:
            if session is None:
                session = Session(request, say)
                say({"ok": session.version()})
            else:
                known: Dict[str, Callable[..., Dict[str, Any]]]
                known = {name: getattr(session, name) for name in ("compile", "load", "round", "answer")}
                say({"ok": known[request.pop("do")](**request)})
        except UserError as error:
            say({"error": [error.message, error.hint]})
    if session is not None:
        session.close()


if __name__ == "__main__":
    _end_with_the_coordinator()
    serve(*_private_channel())
